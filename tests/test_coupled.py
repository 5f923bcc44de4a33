"""Couplings on planted worlds: what is known is made to be said, what leans is set right, and nothing is made up."""

import numpy as np
import pytest
import torch
from knowing import LABELS, LAYER, build_world, chosen

from interp.engine.capture import capture
from interp.engine.variants import answers_under
from interp.evaluation.recognition import macro_f1_of
from interp.steering import Steering
from interp.steering.coupled import Few, couple, couple_prior, couple_whole

FIVE = 5


@pytest.fixture(scope="module")
def knows():
    return build_world(known=3.0)


@pytest.fixture(scope="module")
def leans():
    return build_world(said=3.0, leaning=6.0)


@pytest.fixture(scope="module")
def ignorant():
    return build_world()


def scored(world, steering: Steering | None) -> float:
    """Macro-F1 on texts that nothing was learnt from."""
    captured = capture(world.model, [world.texts[i] for i in world.asked], answers=LABELS, keep_cache=True)
    edits = {} if steering is None else steering.edits(world.saes)
    answers = answers_under(world.model, captured, edits).argmax(1).numpy()
    return macro_f1_of(world.gold[world.asked], answers, len(LABELS))


def test_a_model_that_knows_and_does_not_say_is_made_to_say(knows):
    ground = knows.ground(FIVE, seed=1)
    choice = chosen(ground)
    assert choice.chosen.method == "coupled"
    assert choice.of_choosing.ci_low > 0
    assert scored(knows, None) < 0.35
    assert scored(knows, choice.chosen.steering) > 0.9
    assert scored(knows, couple_prior(ground.few, ground.rows, ground.data.gold.numpy())) < 0.4
    (coupling,) = choice.chosen.steering.couplings.values()
    assert {0, 1, 2, 3} <= set(coupling.readers.tolist())  # latents of what is known
    assert {4, 5, 6, 7} <= set(coupling.writers.tolist())  # latents of what is said


def test_a_model_that_leans_is_set_right_by_a_constant(leans):
    ground = leans.ground(FIVE, seed=1)
    choice = chosen(ground)
    assert choice.chosen.method in ("prior", "coupled")
    assert scored(leans, None) < 0.4
    prior = couple_prior(ground.few, ground.rows, ground.data.gold.numpy())
    assert scored(leans, prior) > 0.9
    assert scored(leans, choice.chosen.steering) > 0.9
    assert list(prior.vectors) == [LAYER]
    assert not prior.couplings


def test_where_nothing_is_known_nothing_is_chosen(ignorant):
    choice = chosen(ignorant.ground(FIVE, seed=1))
    assert choice.chosen.method == "none"
    assert "Nothing beat the unsteered model" in choice.reason(any_causal=False)


def test_shuffled_labels_choose_nothing_at_the_nominal_rate_and_gain_nothing(knows):
    """Of a model that knows, with labels that have nothing to do with the texts."""
    picked = 0
    gold = knows.gold[knows.learnt]
    for seed in range(100):
        shuffled = np.random.default_rng(seed).permutation(gold)
        ground = knows.ground(FIVE, seed, shuffled)
        choice = chosen(ground, seed)
        if choice.chosen.method != "none":
            picked += 1
    assert picked <= 5
    gained = scored(knows, couple(ground.few, ground.rows, ground.data.gold.numpy()).steering)
    assert gained - scored(knows, None) < 0.2


def test_random_features_by_the_same_procedure_get_less_than_half(knows):
    ground = knows.ground(FIVE, seed=1)
    gold, before = ground.data.gold.numpy(), scored(knows, None)
    gain = scored(knows, couple(ground.few, ground.rows, gold).steering) - before
    controls = [scored(knows, couple(ground.few, ground.rows, gold, control=k).steering) for k in range(3)]
    assert gain > 0.5
    assert max(controls) - before < gain / 2


def test_the_whole_residual_is_an_upper_bound_of_what_features_read(knows):
    ground = knows.ground(FIVE, seed=1)
    gold = ground.data.gold.numpy()
    whole = couple_whole(ground.few, ground.rows, gold)
    assert whole.method == "whole_residual"
    assert scored(knows, whole) >= scored(knows, couple(ground.few, ground.rows, gold).steering) - 0.1


def test_labels_are_at_least_as_probable_as_before(knows):
    ground = knows.ground(FIVE, seed=1)
    steering = couple(ground.few, ground.rows, ground.data.gold.numpy()).steering
    assert ground.few.answered(steering) >= ground.few.answered_before


def test_running_text_is_left_alone(knows):
    """The gate opens where prompts end and is shut elsewhere."""
    ground = knows.ground(FIVE, seed=1)
    edit = couple(ground.few, ground.rows, ground.data.gold.numpy()).steering.edits(knows.saes)[LAYER]
    moved = [(edit(x) - x).norm(dim=-1).mean().item() for x in (knows.running, ground.few.residuals(LAYER))]
    assert moved[0] < 0.05 * moved[1]


def test_the_same_labels_give_the_same_steering(knows):
    first, second = (
        couple(g.few, g.rows, g.data.gold.numpy()).steering for g in (knows.ground(FIVE, 1), knows.ground(FIVE, 1))
    )
    for name, tensor in first.couplings[LAYER].tensors().items():
        assert torch.equal(tensor, second.couplings[LAYER].tensors()[name])


def test_prompts_are_all_it_takes(knows):
    """Captured here, without any run; the model is asked as anybody would ask it."""
    texts = [knows.texts[i] for i in knows.learnt]
    few = Few.of(knows.model, knows.saes, texts, LABELS)
    gold = knows.gold[knows.learnt]
    rows = np.arange(FIVE * len(LABELS))
    steering = couple(few, rows, gold[rows]).steering
    asked = [knows.texts[i] for i in knows.asked]
    with steering.applied(knows.model, knows.saes, positions="answer"):
        answers = capture(knows.model, asked, answers=LABELS).answer_logits.argmax(1).numpy()
    assert macro_f1_of(knows.gold[knows.asked], answers, len(LABELS)) > 0.8
