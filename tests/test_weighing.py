"""How much readings of an emotion are believed, on readings that are made."""

import numpy as np
import pytest

from interp.steering.evidence import Evidence, standardised
from interp.steering.weighing import BEFORE, LOUDEST, UNSEEN, weigh, weighed

N_LABELS, N_TEXTS = 4, 200
GOLD = np.arange(N_TEXTS) % N_LABELS


def reading(strength: float, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(N_TEXTS, N_LABELS))
    return standardised(noise + strength * np.eye(N_LABELS)[GOLD])


def made(own: float = 0.0, words: float = 0.0, kin: float = 0.0) -> Evidence:
    return Evidence(reading(own, 1), reading(words, 2), reading(kin, 3))


def right(scores: np.ndarray) -> float:
    return float((scores.argmax(1) == GOLD).mean())


def rows(each: int) -> np.ndarray:
    return np.arange(each * N_LABELS)


def test_without_a_label_every_reading_counts_as_before():
    nothing = np.zeros(0, int)
    found = weigh(np.stack(made())[:, nothing], nothing, BEFORE)
    np.testing.assert_allclose(found.weights, BEFORE)
    np.testing.assert_allclose(found.bias, 0)


def test_a_reading_that_is_right_is_believed_more_and_one_that_is_not_less():
    labelled = rows(10)
    found = weigh(np.stack(made(words=3.0))[:, labelled], GOLD[labelled], BEFORE)
    own, words, kin = found.weights / BEFORE
    assert words > 1.5
    assert own < 0.5
    assert kin < 0.5
    assert (found.weights > 0).all()


def test_the_gradient_is_that_of_the_loss():
    """The minimum is one: no small step in any weight or bias lowers the negative log posterior."""
    labelled = rows(5)
    readings = np.stack(made(words=1.0, kin=1.0))[:, labelled]
    found = weigh(readings, GOLD[labelled], BEFORE)

    def loss(weights, bias):
        scores = np.tensordot(weights, readings, 1) + bias
        log_p = scores - np.log(np.exp(scores).sum(1, keepdims=True))
        held = 0.1 * (np.log(weights / BEFORE) ** 2).sum() + (bias**2).sum()
        return held - log_p[np.arange(len(labelled)), GOLD[labelled]].sum()

    best = loss(found.weights, found.bias)
    for i in range(3):
        for factor in (0.97, 1.03):
            weights = found.weights.copy()
            weights[i] *= factor
            assert loss(weights, found.bias) >= best - 1e-6
    for i in range(N_LABELS):
        for step in (-0.03, 0.03):
            bias = found.bias.copy()
            bias[i] += step
            assert loss(found.weights, bias) >= best - 1e-6


def test_a_label_without_examples_is_held_back_where_others_have_some():
    labelled = np.flatnonzero(GOLD[:40] != 3)
    with_gap = weigh(np.stack(made(words=1.0))[:, labelled], GOLD[labelled], BEFORE)
    assert with_gap.bias[3] < UNSEEN
    assert (with_gap.bias[:3] > UNSEEN / 2).all()


def test_the_probe_joins_where_every_emotion_has_two_examples_and_knows_what_words_do_not():
    states = standardised(np.random.default_rng(9).normal(size=(N_TEXTS, 30)) + 2 * np.eye(30)[GOLD])
    alone = weighed(made(), states, rows(1), GOLD[rows(1)])
    assert len(alone.weighing.weights) == 3
    joined = weighed(made(), states, rows(10), GOLD[rows(10)])
    assert len(joined.weighing.weights) == 4
    assert right(joined.scores) > right(alone.scores) + 0.2
    assert joined.weighing.weights[3] == joined.weighing.weights.max()


def test_labels_that_are_all_told_apart_do_not_make_scores_ever_louder():
    """The order of the scores is kept; their size is that of a model that is not sure."""
    states = standardised(np.random.default_rng(9).normal(size=(N_TEXTS, 30)) + 9 * np.eye(30)[GOLD])
    found = weighed(made(words=9.0), states, rows(20), GOLD[rows(20)])
    assert found.scores.std(1).mean() <= LOUDEST + 1e-9
    assert right(found.scores) == 1.0


@pytest.mark.parametrize("each", [2, 5, 20])
def test_shuffled_labels_make_nothing_up(each):
    states = np.random.default_rng(9).normal(size=(N_TEXTS, 30))
    shuffled = np.random.default_rng(each).permutation(GOLD)
    assert right(weighed(made(), states, rows(each), shuffled[rows(each)]).scores) < 0.25 + 0.12
