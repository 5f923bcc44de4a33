"""The field's ablations: planted directions are found, and each ablation is what it says, beside the engine's own."""

import numpy as np
import pytest
import torch
from tiny_models import SENTENCES

from interp import capture
from interp.analysis.baselines import (
    Ablation,
    ablation_effects,
    baseline_effects,
    emotion_directions,
    mean_differences,
    module_means,
    probe_weights,
)
from interp.analysis.labelled import LabelledExamples
from interp.engine.modules import ablate_module, module_outputs
from interp.engine.variants import answers_given

LABELS = ("anger", "fear", "joy")
EACH = 20
EXAMPLES = LabelledExamples(LABELS, np.repeat([0, 1, 2], EACH), np.arange(3 * EACH), resamples=200)
GOLD = torch.tensor([0, 1, 1, 2, 0])


def test_directions_point_to_the_emotion_that_was_planted():
    rng = np.random.default_rng(0)
    axes = np.eye(8)[:3]
    residuals = rng.normal(size=(60, 8)) + 6 * axes[EXAMPLES.gold]
    found = emotion_directions(residuals, EXAMPLES.gold, 4, seed=0)  # the fourth emotion has no examples
    for name in ("mean difference direction", "probe direction"):
        units, centre = found[name]
        assert (units[:3] @ axes.T).argmax(1).tolist() == [0, 1, 2] and not units[3].any()
        np.testing.assert_allclose(np.linalg.norm(units[:3], axis=1), 1)
        np.testing.assert_allclose(centre, residuals.mean(0))
    assert not np.allclose(found["random direction"].units, found["probe direction"].units)


def test_directions_of_a_single_emotion_are_none():
    one = np.zeros(5, int)
    assert not mean_differences(np.ones((5, 2)), one, 2).any() and not probe_weights(np.ones((5, 2)), one, 2).any()


def test_baselines_are_means_by_emotion_in_order_of_layers():
    falls = {Ablation(10, "mlp, zero"): 1.0 * EXAMPLES.gold, Ablation(2, "mlp, zero"): np.zeros(3 * EACH)}
    table = baseline_effects(falls, EXAMPLES)
    assert table["layer"].tolist() == [2, 10] * 3 and table["emotion"].tolist() == np.repeat(LABELS, 2).tolist()
    assert table.loc[table["layer"] == 10, "effect"].tolist() == [0, 1, 2] and set(table["n"]) == {EACH}


@pytest.fixture
def captured(llama):
    return capture(llama, [f"Text: {s}\nEmotion:" for s in SENTENCES], answers=LABELS, keep_cache=True)


def test_module_means_are_those_of_all_examples(llama, captured):
    means = module_means(llama, [captured, captured])
    expected = module_outputs(llama, captured, layer=2, part="mlp").mean(0)
    torch.testing.assert_close(means[2, "mlp"], expected, atol=1e-5, rtol=0)


def test_every_ablation_is_what_it_says(llama, captured):
    residuals = captured.residuals[1].numpy()
    directions = {Ablation(1, name): d for name, d in emotion_directions(residuals, GOLD.numpy(), 3, seed=0).items()}
    means = module_means(llama, [captured])
    found = ablation_effects(llama, captured, GOLD, directions, means)
    assert len(found) == 3 + 4 * llama.n_layers

    def fall(logits):
        log_probs = [x.log_softmax(-1).gather(1, GOLD[:, None])[:, 0] for x in (captured.answer_logits, logits)]
        return log_probs[0] - log_probs[1]

    for how, value in (("zero", None), ("mean", means[3, "attention"])):
        alone = ablate_module(llama, captured, layer=3, part="attention", value=value)
        torch.testing.assert_close(found[Ablation(3, f"attention, {how}")], fall(alone), atol=1e-4, rtol=0)
    units, centre = (torch.from_numpy(x).float() for x in directions[Ablation(1, "random direction")])
    unit, x = units[GOLD], captured.residuals[1]
    without = x - ((x - centre) * unit).sum(1, keepdim=True) * unit
    alone = answers_given(llama, captured, 1, without[:, None])[:, 0]
    torch.testing.assert_close(found[Ablation(1, "random direction")], fall(alone), atol=1e-4, rtol=0)
