"""Which directions say a label: measured against whole passes of the model, and combined so that one label is said."""

import numpy as np
import pytest
import torch

from interp import capture
from interp.engine.variants import answers_under
from interp.steering.saying import STEP, Responses, responses, spoken

LABELS = ["joy", "fear", "anger"]
PROMPTS = [f"Text: {word} ran home.\nEmotion:" for word in ("Ann", "Ben", "the dog", "nobody")]


@pytest.fixture
def captured(llama):
    return capture(llama, PROMPTS, answers=LABELS, keep_cache=True)


def test_responses_are_the_changes_of_steered_passes(llama, captured):
    layer, directions = 2, torch.randn(3, llama.d_model, generator=torch.Generator().manual_seed(0))
    found = responses(llama, [captured], layer, directions)
    length = STEP * captured.residuals[layer].norm(dim=-1).mean()
    for i, direction in enumerate(directions):
        added = length * direction / direction.norm()
        after = answers_under(llama, captured, {layer: lambda x, added=added: x + added})
        change = ((after - captured.answer_logits) / length).double().numpy()
        np.testing.assert_allclose(found.mean[i], change.mean(0), atol=1e-5)
        np.testing.assert_allclose(found.doubt[i], change.std(0) / 2, atol=1e-5)


def planted(n: int = 9, doubt: float = 0.0) -> tuple[np.ndarray, Responses, np.ndarray]:
    """Orthogonal directions, of which the first three say a label each and the others nothing."""
    directions = 2 * np.eye(n, 20)
    mean = np.zeros((n, 3))
    mean[:3] = np.eye(3)
    return np.arange(n) + 100, Responses(mean, np.full((n, 3), doubt)), directions


def test_each_label_is_said_and_no_other():
    candidates, measured, directions = planted()
    amounts = np.random.default_rng(0).normal(size=(50, 3))
    found = spoken(candidates, measured, directions, amounts, residual_norm=100.0, keep=1)
    assert found.writers.tolist() == [100, 101, 102]
    np.testing.assert_allclose(found.shares @ found.effects, np.eye(3), atol=1e-3)
    assert found.length == pytest.approx(np.linalg.norm(amounts @ found.shares @ directions[:3], axis=1).mean())


def test_what_is_added_is_never_longer_than_allowed():
    candidates, measured, directions = planted()
    amounts = 50 * np.random.default_rng(0).normal(size=(50, 3))
    free = spoken(candidates, measured, directions, amounts, residual_norm=1e4)
    short = spoken(candidates, measured, directions, amounts, residual_norm=10.0)
    told = spoken(candidates, measured, directions, amounts, residual_norm=1e4, longest=3.0)
    assert free.length > 40
    assert short.length <= 5.0
    assert told.length <= 3.0
    assert (np.diag(short.shares @ short.effects) > 0).all()  # shorter, and still what is meant


def test_a_direction_whose_effect_is_in_doubt_is_left_out():
    candidates, measured, directions = planted()
    mean, doubt = measured.mean.copy(), measured.doubt.copy()
    mean[8, 0], doubt[8, 0] = 1.5, 1.0
    found = spoken(candidates, Responses(mean, doubt), directions, np.ones((5, 3)), 100.0, keep=1)
    assert 108 not in found.writers.tolist()


def test_opposite_directions_do_not_blow_up():
    candidates, _, directions = planted(6)
    directions[3:6] = -directions[:3]
    mean = np.concatenate([np.eye(3), -np.eye(3)])
    found = spoken(candidates, Responses(mean, 0 * mean), directions, np.ones((5, 3)), 100.0, keep=None)
    assert np.abs(found.shares).max() < 1.0
    np.testing.assert_allclose(found.shares @ found.effects, np.eye(3), atol=1e-3)
