"""Gated steering: the gate finds the kind of text, opens for few others, and what is fitted behind it leaves them."""

from unittest.mock import Mock

import numpy as np
import torch
from tiny_models import LABELS, PROMPTS

from interp import Captured, LanguageModel, capture
from interp.engine import answers_under
from interp.saes.stack import SaeStack
from interp.statistics import Bootstrap
from interp.steering import Gains, Gate, Steering
from interp.steering.choosing import nested
from interp.steering.fit import FitData, Plan, answers, fit
from interp.steering.gates import OPEN_ELSEWHERE, fit_gate
from interp.steering.trials import Trial, cross_validated, folds, gated_plans, score, tried


def two_kinds(n: int = 200, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Random sparse activations; features 3 and 7 tell the kinds apart, the others are alike."""
    generator = torch.Generator().manual_seed(seed)
    acts = torch.rand(2 * n, 40, generator=generator) * (torch.rand(2 * n, 40, generator=generator) < 0.3)
    acts[:n, 3] = 1 + torch.rand(n, generator=generator)
    acts[n:, 7] = 1 + torch.rand(n, generator=generator)
    return acts[:n], acts[n:]


def opening(gate: Gate, acts: torch.Tensor) -> torch.Tensor:
    return torch.sigmoid(acts[:, gate.features] @ gate.weights + gate.bias)


def test_a_gate_opens_for_its_kind_of_text_and_for_hardly_any_other():
    gate = fit_gate(*two_kinds())
    assert {3, 7} <= set(gate.features.tolist())
    new, others = two_kinds(seed=1)
    assert (opening(gate, new) > 0.5).float().mean() > 0.95
    assert (opening(gate, others) > 0.5).float().mean() < 0.05


def test_a_gate_on_features_that_tell_nothing_stays_shut_elsewhere():
    wanted, anchors = two_kinds()
    gate = fit_gate(wanted, anchors, allowed=np.arange(10, 40))
    assert min(gate.features.tolist()) >= 10
    share = (opening(gate, anchors) > 0.5).float().mean()
    assert share <= OPEN_ELSEWHERE + 1 / len(anchors)


def test_the_gate_multiplies_gains_and_vector(llama, stack):
    """By hand: x + sigmoid(a w + b) ((g - 1) a d + v)."""
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1))
    gains = Gains(torch.tensor([3, 8]), torch.tensor([2.0, 0.0]))
    gate = Gate(torch.tensor([8, 21]), torch.tensor([1.5, -0.5]), -0.3)
    x = torch.randn(5, 32, generator=torch.Generator().manual_seed(2)) * 3
    acts = stack.encode(1, x)
    added = acts[:, [3]] * stack.directions(1, [3]) - acts[:, [8]] * stack.directions(1, [8]) + vector
    open_by = torch.sigmoid(1.5 * acts[:, 8] - 0.5 * acts[:, 21] - 0.3)
    steered = Steering("test", {1: gains}, {1: vector}, {1: gate}).edits(stack)[1](x)
    torch.testing.assert_close(steered, x + open_by[:, None] * added)


def fit_data(llama, stack, anchors: bool = True) -> FitData:
    wanted = capture(llama, PROMPTS * 6, answers=LABELS, keep_cache=True)
    others = capture(llama, [p.replace("Text", "Note") for p in PROMPTS * 4], answers=LABELS, keep_cache=True)
    gold = torch.arange(30) % 5
    return FitData(llama, stack, LABELS, [(wanted, gold)], list(range(30)), {"others": [others]} if anchors else {})


def test_a_strength_of_zero_is_the_identity_and_one_is_the_steering(llama, stack):
    data = fit_data(llama, stack)
    plan = Plan("gated", "test", vectors=[1, 2], gated=True, pull=0.0)
    steering = fit(data, plan, steps=15)
    captured = data.wanted[0]
    nothing = answers_under(llama, captured, steering.scaled(0).edits(stack))
    torch.testing.assert_close(nothing, captured.answer_logits, atol=1e-4, rtol=0)
    whole = answers_under(llama, captured, steering.edits(stack))
    torch.testing.assert_close(answers_under(llama, captured, steering.scaled(1).edits(stack)), whole)
    assert (whole - captured.answer_logits).abs().max() > 0.05


def test_anchors_hold_a_vector_back(llama, stack):
    """The same fit changes the anchors' answer distribution less when it is told to leave them."""
    plan = Plan("vector", "test", vectors=[2], pull=0.0)
    moved = {}
    for anchored in (True, False):
        data = fit_data(llama, stack, anchored)
        steering = fit(data, plan, steps=25)
        others = fit_data(llama, stack).anchors["others"]
        before = others[0].answer_logits.log_softmax(-1)
        after = answers(llama, others, steering.edits(stack)).log_softmax(-1)
        moved[anchored] = (before.exp() * (before - after)).sum(-1).mean().item()
    assert moved[True] < 0.7 * moved[False]


def test_what_is_compared_was_fitted_on_other_examples(llama, stack):
    """Each example's answer is that of a fit on the other folds, gates and anchors included."""
    data = fit_data(llama, stack)
    plan = Plan("gated", "test", vectors=[1, 2], gated=True, pull=0.0)
    trial = next(iter(cross_validated(data, [plan], seed=0)))
    seen = []
    for train, test in folds(data, seed=0):
        assert not set(train.examples.tolist()) & set(test.examples.tolist())
        assert not set(train.anchors.tolist()) & set(test.anchors.tolist())
        wrong = data.gold.clone()
        wrong[test.examples] = (wrong[test.examples] + 1) % 5  # what is held out must not matter
        blind = FitData(llama, stack, LABELS, [(data.wanted[0], wrong)], anchors=data.anchors)
        steering = fit(blind, plan, train, trial.steps)
        guesses = answers(llama, data.wanted, steering.edits(stack)).argmax(-1).numpy()
        assert (guesses[test.examples] == trial.answers[test.examples]).all()
        seen += test.examples.tolist()
    assert sorted(seen) == list(range(30))


def test_choosing_among_noise_brings_nothing(llama):
    """Of 40 trials with random answers one always looks better; the nested estimate does not fall for it."""
    rng = np.random.default_rng(0)
    gold = np.arange(120) % 6
    # only gold and groups count
    data = FitData(
        Mock(LanguageModel), Mock(SaeStack), LABELS, [(Mock(Captured), torch.from_numpy(gold))], list(range(120))
    )
    bootstrap = Bootstrap(data.groups, 300, 0)
    nested_gains, best_gains = [], []
    for _ in range(12):
        drawn = [rng.integers(0, 6, 120) for _ in range(41)]
        trials = [Trial("random", "x", guess, score(data, guess)) for guess in drawn]
        nested_gains.append(nested(data, trials, bootstrap, 0).value)
        best_gains.append(max(t.macro_f1 for t in trials[1:]) - trials[0].macro_f1)
    assert np.mean(best_gains) > 0.05
    assert abs(np.mean(nested_gains)) < 0.03


def test_harm_is_the_share_of_changed_anchor_answers(llama, stack):
    data = fit_data(llama, stack)
    assert tried(data, Steering("none"), "unsteered").changed == 0
    push = Steering("push", vectors={3: 50 * torch.randn(32, generator=torch.Generator().manual_seed(0))})
    others = data.anchors["others"]
    before = others[0].answer_logits.argmax(-1)
    after = answers(llama, others, push.edits(stack)).argmax(-1)
    assert tried(data, push, "x").changed == (before != after).float().mean().item() > 0


def test_gated_layers_are_those_that_have_an_sae(stack):
    few = SaeStack({k: stack[k] for k in (0, 3)}, "test", "test:saes")
    assert {layer for plan in gated_plans(few, 4) for layer in plan.layers} <= {0, 3}
