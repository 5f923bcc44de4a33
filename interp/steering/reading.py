"""The few features of a layer that read what was weighed: sparse regression of scores on activations."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from interp.steering.evidence import standardised

RIDGE = 0.1
"""Of the regression, in units of the standardised activations' variance."""
STEP = 4
"""Features taken together in one step of the pursuit."""
FIRES = 0.02
"""Share of the texts in which a feature must fire to be a reader."""
OUTLIER = 4.0
"""Standard deviations at which an activation is cut while weights are fitted, so that no single text decides."""
Array = np.ndarray


class SparseReading(NamedTuple):
    """`activations[features] @ weights + bias`: amounts of each label, in nats."""

    features: Int[Array, " reader"]
    weights: Float[Array, "reader label"]
    bias: Float[Array, " label"]

    def amounts(self, acts: Float[Array, "text d_sae"]) -> Float[Array, "text label"]:
        return np.asarray(acts[:, self.features] @ self.weights + self.bias)


def readable(acts: Float[Array, "text d_sae"]) -> Int[Array, " feature"]:
    """Features that fire often enough to read anything, and not always the same."""
    return np.flatnonzero(((acts > 0).mean(0) >= FIRES) & (acts.std(0) > 0))


def read_by(
    acts: Float[Array, "text d_sae"], targets: Float[Array, "text label"], features: Int[Array, " reader"]
) -> SparseReading:
    """Ridge regression of the targets on some features."""
    x, mean, spread = _standard(acts, features)
    weights = _ridge(x, targets - targets.mean(0)) / spread[:, None]
    return SparseReading(features, weights, targets.mean(0) - mean @ weights)


def pursued(
    acts: Float[Array, "text d_sae"], targets: Float[Array, "text label"], n: int, among: Int[Array, " feature"]
) -> Int[Array, " reader"]:
    """Up to n features that together explain the targets best, found one after another.

    Simultaneous orthogonal matching pursuit (Tropp, Gilbert & Strauss 2006): all labels share their readers.
    """
    x, _, _ = _standard(acts, among)
    left = targets - targets.mean(0)
    taken: list[int] = []
    while len(taken) < min(n, len(among)):
        fit = ((x.T @ left) ** 2).sum(1)
        fit[taken] = -1
        taken += np.argsort(-fit, kind="stable")[: min(STEP, min(n, len(among)) - len(taken))].tolist()
        own = x[:, taken]
        left = targets - targets.mean(0) - own @ _ridge(own, targets - targets.mean(0))
    return np.sort(among[taken])


def _standard(acts: Array, features: Array) -> tuple[Array, Array, Array]:
    own = acts[:, features].astype(float)
    mean, spread = own.mean(0), own.std(0)
    spread = np.where(spread > 0, spread, 1)
    return np.clip(standardised(own), -OUTLIER, OUTLIER), mean, spread


def _ridge(x: Float[Array, "text column"], targets: Float[Array, "text label"]) -> Float[Array, "column label"]:
    return np.asarray(np.linalg.solve(x.T @ x + RIDGE * len(x) * np.eye(x.shape[1]), x.T @ targets))
