"""Candidates for tracing: the strongest by attribution, and controls that are as strong and as frequent."""

import numpy as np
import pytest
from scipy.sparse import csr_array

from interp.analysis.candidates import activity, choose_candidates, strongest


def test_controls_are_matched_in_strength_and_disjoint_from_candidates():
    rng = np.random.default_rng(0)
    strength = {0: rng.random((300, 2)), 1: rng.random((300, 2))}
    firing = {k: rng.random((300, 2)) for k in strength}
    attribution = {k: rng.normal(size=(300, 2)) for k in strength}
    chosen = choose_candidates(attribution, strength, firing, {0: 1, 1: 1}, 20, seed=0)
    for emotion in (0, 1):
        own = [c for c in chosen if c.emotion == emotion]
        proposed = {(c.layer, c.feature) for c in own if not c.control}
        controls = {(c.layer, c.feature) for c in own if c.control}
        assert len(proposed) == len(controls) == 20 and not proposed & controls
        for trait, tolerance in ((strength, 0.06), (firing, 0.06)):
            mean = [np.mean([trait[k][f, emotion] for k, f in sorted(group)]) for group in (proposed, controls)]
            assert mean[0] == pytest.approx(mean[1], abs=tolerance)
        best = np.sort(np.concatenate([a[:, emotion] for a in attribution.values()]))[-20:]
        assert sorted(c.attribution for c in own if not c.control) == pytest.approx(best.tolist())


def test_activity_by_emotion():
    acts = csr_array(np.array([[2.0, 0.0], [0.0, 0.0], [4.0, 1.0]]))
    found = activity(acts, np.array([1.0, 3.0]), np.array([0, 0, 1]), 3)
    np.testing.assert_array_equal(found.strength, [[1, 4, 0], [0, 3, 0]])
    np.testing.assert_array_equal(found.firing, [[0.5, 1, 0], [0, 1, 0]])


def test_the_strongest_by_attribution():
    attribution = np.array([[0.0, 0.1], [3.0, -1.0], [-5.0, 9.0], [0.0, 0.0]])
    assert strongest(attribution, 2) == [2, 1] and len(strongest(attribution)) == 4
