"""Few features that read what was weighed: on activations in which the readers are known."""

import numpy as np
import pytest

from interp.steering.reading import FIRES, pursued, read_by, readable

N, D_SAE = 300, 60
RNG = np.random.default_rng(0)
ACTS = np.where(RNG.random((N, D_SAE)) < 0.4, RNG.gamma(2.0, 1.0, (N, D_SAE)), 0.0) * RNG.uniform(0.5, 20, D_SAE)
READERS = np.array([3, 11, 24, 40])
WEIGHTS = np.array([[1.0, 0, -1], [0, 2, -2], [1, 1, -2], [-1, 0.5, 0.5]]) / ACTS.std(0)[READERS, None]
TARGETS = ACTS[:, READERS] @ WEIGHTS + [0.5, -1.0, 0.5]
ALL = np.arange(D_SAE)


def test_the_readers_are_found_all_and_alone():
    assert pursued(ACTS, TARGETS, 4, ALL).tolist() == READERS.tolist()


def test_more_readers_are_taken_than_are_needed_and_hold_the_true_ones():
    assert set(READERS) <= set(pursued(ACTS, TARGETS, 12, ALL).tolist())
    assert len(pursued(ACTS, TARGETS, 12, ALL)) == 12
    assert len(pursued(ACTS, TARGETS, 99, READERS)) == len(READERS)


def test_amounts_come_near_the_targets_in_the_activations_own_units():
    found = read_by(ACTS, TARGETS, READERS)
    left = TARGETS - found.amounts(ACTS)
    assert (left**2).sum() < 0.05 * ((TARGETS - TARGETS.mean(0)) ** 2).sum()
    np.testing.assert_allclose(found.amounts(ACTS).mean(0), TARGETS.mean(0), atol=1e-8)


def test_a_single_outlier_decides_nothing():
    acts = ACTS.copy()
    acts[7, 3] = 1e6
    found = read_by(acts, TARGETS, READERS)
    rest = np.arange(N) != 7
    assert ((TARGETS - found.amounts(acts))[rest] ** 2).mean() < (TARGETS[rest] - TARGETS.mean(0)).var()


@pytest.mark.parametrize(("share", "kept"), [(0.0, False), (FIRES / 2, False), (0.1, True), (1.0, False)])
def test_features_that_never_change_or_hardly_fire_read_nothing(share, kept):
    """The last fires in every text alike."""
    acts = np.zeros((200, 1))
    acts[: int(share * 200), 0] = 1.0
    assert bool(len(readable(acts))) is kept
