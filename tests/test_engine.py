"""Exactness: every shortcut of the engine against the whole model, run one prompt and one edit at a time."""

import numpy as np
import pytest
import torch
from conftest import SENTENCES, build_sae
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from interp import capture
from interp.errors import UserError
from interp.model import LanguageModel
from interp.saes import SaeStack
from interp.tracing import (
    EditRows,
    EngineError,
    ablate,
    ablate_jointly,
    answer_gradients,
    attribute,
    edited_logits,
)

LABELS = ["anger", "disgust", "fear", "joy", "sadness", "surprise"]
PROMPTS = [f"Text: {s}\nEmotion:" for s in SENTENCES]


@torch.no_grad()
def brute_force(model: LanguageModel, prompt: str, layer: int, edit) -> torch.Tensor:
    """Answer logits of the whole, unpadded model with the last position's residual after `layer` edited."""

    def at_last(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, -1] = edit(x[:, -1])
        return x

    ids = torch.tensor([model.encode([prompt])[0].ids])
    with model.edited({layer: at_last}):
        logits = model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
    return logits[model.answer_tokens([f" {x}" for x in LABELS])]


def test_capture_equals_the_model(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS)
    for i, prompt in enumerate(PROMPTS):
        expected = brute_force(any_model, prompt, 0, lambda x: x)
        torch.testing.assert_close(captured.answer_logits[i], expected, atol=1e-4, rtol=0)


def test_batched_equals_single(any_model):
    together = capture(any_model, PROMPTS, answers=LABELS)
    for i, prompt in enumerate(PROMPTS):
        alone = capture(any_model, [prompt], answers=LABELS)
        torch.testing.assert_close(together.residuals[:, i], alone.residuals[:, 0], atol=1e-4, rtol=0)


def test_residuals_are_those_of_a_transformer_bridge(models_by_family):
    model = models_by_family["llama"]
    captured = capture(model, PROMPTS[:1], answers=LABELS)
    ids = torch.tensor([model.encode(PROMPTS[:1])[0].ids])
    seen = {}
    hooks = [
        (f"blocks.{k}.hook_out", lambda t, hook, k=k: seen.__setitem__(k, t[0, -1])) for k in range(model.n_layers)
    ]
    model.bridge.run_with_hooks(ids, attention_mask=torch.ones_like(ids), fwd_hooks=hooks)
    for layer in range(model.n_layers):
        torch.testing.assert_close(captured.residuals[layer, 0], seen[layer], atol=1e-4, rtol=0)


@pytest.mark.parametrize("layer", [0, 2, 3])
def test_edits_equal_brute_force(any_model, layer):
    """Different numbers of edits per prompt, in an order of their own, windows shorter than the prompts."""
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    example = torch.tensor([3, 0, 2, 2, 4, 2, 0, 1, 2])
    delta = torch.randn(len(example), any_model.d_model, generator=torch.Generator().manual_seed(layer))
    found = edited_logits(any_model, captured, EditRows(layer, example, delta), rows_in_flight=7)
    for row, (e, d) in enumerate(zip(example.tolist(), delta, strict=True)):
        expected = brute_force(any_model, PROMPTS[e], layer, lambda x, d=d: x + d)
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0)


def test_ablation_removes_activation_times_direction(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    acts = stack.encode(1, captured.residuals[1])
    features = acts.sum(0).topk(5).indices.tolist()
    found = ablate(any_model, stack, captured, layer=1, features=features)
    for i, prompt in enumerate(PROMPTS):
        for j, feature in enumerate(features):
            change = acts[i, feature] * stack.directions(1)[feature]
            expected = brute_force(any_model, prompt, 1, lambda x, change=change: x - change)
            torch.testing.assert_close(found[i, j], expected, atol=1e-4, rtol=0)


def test_inactive_features_change_nothing(llama, stack):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    acts = stack.encode(2, captured.residuals[2])
    silent = (acts.sum(0) == 0).nonzero()[:3, 0].tolist()
    assert silent
    found = ablate(llama, stack, captured, layer=2, features=silent)
    assert torch.equal(found, captured.answer_logits[:, None].expand_as(found))


def test_joint_ablation_over_layers_equals_brute_force(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    sets = {k: stack.encode(k, captured.residuals[k]).sum(0).topk(4).indices.tolist() for k in (0, 2)}
    found = ablate_jointly(any_model, stack, captured, sets)

    def without(layer):
        def edit(x):
            x = x.clone()
            last = x[:, -1]
            x[:, -1] = last - stack.encode(layer, last)[:, sets[layer]] @ stack.directions(layer)[sets[layer]]
            return x

        return edit

    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([any_model.encode([prompt])[0].ids])
        with torch.no_grad(), any_model.edited({k: without(k) for k in sets}):
            logits = any_model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        torch.testing.assert_close(found[i], logits[captured.answer_tokens], atol=1e-4, rtol=0)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)), layer=st.integers(0, 3))
def test_batch_composition_does_not_matter(llama, order, layer):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    shuffled = capture(llama, [PROMPTS[i] for i in order], answers=LABELS, keep_cache=True, tokens_per_batch=60)
    delta = torch.randn(5, llama.d_model, generator=torch.Generator().manual_seed(1))
    one = edited_logits(llama, captured, EditRows(layer, torch.arange(5), delta))
    other = edited_logits(llama, shuffled, EditRows(layer, torch.arange(5), delta[list(order)]))
    torch.testing.assert_close(one[list(order)], other, atol=1e-4, rtol=0)


def test_the_order_of_joint_ablation_does_not_matter(llama, stack):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    top = stack.encode(1, captured.residuals[1]).sum(0).topk(4).indices.tolist()
    one = ablate_jointly(llama, stack, captured, {1: top})
    torch.testing.assert_close(one, ablate_jointly(llama, stack, captured, {1: top[::-1]}), atol=1e-5, rtol=0)


def test_attribution_is_the_gradient(any_model, stack):
    """The first-order effect equals the exact effect of an edit small enough."""
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    targets = torch.tensor([0, 1, 2, 3, 4])
    found = attribute(any_model, stack, captured, layer=1, targets=targets)
    gradients = answer_gradients(any_model, captured, targets)
    step = 0.02
    direction = torch.nn.functional.normalize(
        torch.randn(5, any_model.d_model, generator=torch.Generator().manual_seed(2)), dim=-1
    )
    up, down = (
        edited_logits(any_model, captured, EditRows(1, torch.arange(5), s * step * direction)).log_softmax(-1)
        for s in (1, -1)
    )
    slope = (up - down).gather(1, targets[:, None])[:, 0] / (2 * step)
    torch.testing.assert_close((gradients[1] * direction).sum(-1), slope, atol=2e-2, rtol=2e-2)
    acts = stack.encode(1, captured.residuals[1])
    torch.testing.assert_close(found, acts * (gradients[1] @ stack.directions(1).T), atol=1e-6, rtol=1e-4)


def test_a_disturbed_engine_aborts(llama):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    captured.caches[0].values[3].mul_(1.5)
    with pytest.raises(EngineError, match="without an edit"):
        edited_logits(llama, captured, EditRows(1, torch.arange(5), torch.zeros(5, llama.d_model)))


def test_hooks_vanish_after_an_exception(llama):
    before = capture(llama, PROMPTS, answers=LABELS).answer_logits
    with pytest.raises(RuntimeError, match="stop"), llama.edited({1: lambda x: x + 1}):
        raise RuntimeError("stop")
    assert torch.equal(before, capture(llama, PROMPTS, answers=LABELS).answer_logits)


def test_a_layer_the_model_lacks_is_refused(llama):
    with pytest.raises(UserError, match="layers 0 to 3; got layer 9"), llama.edited({9: lambda x: x}):
        pass


def test_answers_that_begin_alike_are_refused(llama):
    with pytest.raises(UserError, match="same token"):
        llama.answer_tokens([" joy", " joyful"])


def test_a_long_text_is_cut_from_its_left_and_the_question_stays(llama):
    from interp.prompts import build_prompts

    prompt = build_prompts(["The rain. " * 200 + "It stopped."], LABELS)[0]
    encoded = llama.encode([prompt])[0]
    text = llama.tokenizer.decode(encoded.ids)
    assert len(encoded.ids) <= llama.context and encoded.cut > 0
    assert text.startswith("<|endoftext|>Text:") and text.endswith("It stopped.\nEmotion:")


@pytest.mark.parametrize(
    "sae",
    [
        build_sae("standard"),
        build_sae("gated"),
        build_sae("jumprelu"),
        build_sae("topk"),
        build_sae("topk", rescale_acts_by_decoder_norm=True),
        build_sae("standard", normalize_activations="layer_norm"),
        build_sae("topk", normalize_activations="constant_norm_rescale"),
    ],
    ids=["standard", "gated", "jumprelu", "topk", "topk_rescaled", "layer_norm", "constant_norm"],
)
def test_contribution_is_a_difference_of_two_decodes(sae):
    stack = SaeStack({0: sae}, "test", "test")
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(3)) * 3
    acts = stack.encode(0, x)
    assert (acts >= 0).all() and (acts > 0).any()
    own = sae.encode(x)
    whole = sae.decode(own)
    feature = int(acts.sum(0).argmax())
    own = sae.encode(x)
    own[:, feature] = 0
    without = sae.decode(own)
    expected = acts[:, feature, None] * stack.directions(0)[feature]
    torch.testing.assert_close(whole - without, expected, atol=1e-4, rtol=1e-4)
    assert np.isfinite(expected.numpy()).all()
