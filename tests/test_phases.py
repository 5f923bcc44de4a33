"""Phases: found where they were put, and one only where signals are flat."""

import numpy as np
import pytest

from interp.analysis.phases import find_phases


def test_phases_are_found_where_they_were_put():
    rng = np.random.default_rng(0)
    level = np.repeat([[0, 0, 3.0], [4, 0, 0], [4, 5, 1]], [3, 4, 5], axis=0)
    draws = level + 0.2 * rng.normal(size=(100, 12, 3))
    phases = find_phases(level + 0.1 * rng.normal(size=(12, 3)), draws, range(12))
    assert phases.boundaries == [3, 7] and phases.intervals == [(3, 3), (7, 7)]
    assert [phases.phase_of(k) for k in (0, 2, 3, 6, 7, 11)] == [1, 1, 2, 2, 3, 3]
    assert phases.support > 0.9


@pytest.mark.parametrize("n_layers", [1, 2, 12])
def test_flat_signals_make_one_phase(n_layers):
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(n_layers, 4))
    assert find_phases(noise * 0 + 1, noise[None] * 0 + 1, range(n_layers)).n_phases == 1
    assert find_phases(noise, noise + rng.normal(size=(20, n_layers, 4)), range(n_layers)).n_phases <= 2
