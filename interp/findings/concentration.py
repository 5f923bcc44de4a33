"""How an emotion's effect is spread over its causal features."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from interp.statistics import Estimate, from_draws

Array = np.ndarray
TOP = (1, 5, 10)
STRONGEST = 5
NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True)
class Concentration:
    """How an emotion's summed effect is spread over its causal features, with all examples and in resamples.

    Attributes:
        draws: by name, resamples of `effective`, `strongest` and `summed`, shifted to have the value as their mean: a
            resample's own noise makes any spread look more concentrated.
    """

    effective: Estimate
    strongest: Estimate
    summed: Estimate
    top: dict[int, Estimate]
    draws: dict[str, Float[Array, " resample"]]


def concentrated(
    effects: Float[Array, "example feature"], weights: Float[Array, "resample example"] | None
) -> Concentration:
    """Effective number (sum of effects squared over sum of their squares), top shares, strength and sum.

    Effects below zero, which a causal feature may have in a resample, count 0. Intervals are conditional on which
    features were found causal.

    Args:
        weights: bootstrap weights; None: no intervals.
    """
    n, n_features = effects.shape
    if not n or not n_features:
        zero = Estimate(0.0, 0.0, 0.0, n) if n else NOTHING
        length = 1 if weights is None else len(weights)
        flat = np.zeros(length) if n and weights is not None else np.full(length, np.nan)
        draws = {"effective": np.full(length, np.nan), "strongest": flat, "summed": flat}
        return Concentration(NOTHING._replace(n=n), zero, zero, dict.fromkeys(TOP, NOTHING._replace(n=n)), draws)
    means = effects.mean(0, keepdims=True)
    if weights is not None:
        means = np.vstack([means, weights @ effects / np.maximum(weights.sum(1, keepdims=True), 1e-12)])
    ordered = -np.sort(-np.maximum(means, 0.0), axis=1)
    total = np.maximum(ordered.sum(1), 1e-12)
    stats = {
        "effective": total**2 / np.maximum(np.square(ordered).sum(1), 1e-24),
        "strongest": ordered[:, :STRONGEST].sum(1) / STRONGEST,
        "summed": total,
        **{f"top {k}": ordered[:, :k].sum(1) / total for k in TOP},
    }
    shifted = {name: (s[1:] - s[1:].mean() + s[0] if weights is not None else s[1:]) for name, s in stats.items()}
    found = {name: estimate(float(stats[name][0]), draws, n) for name, draws in shifted.items()}
    top = {k: _at_most_one(found[f"top {k}"]) for k in TOP}
    kept = {name: shifted[name] if len(shifted[name]) else np.full(1, np.nan) for name in shifted}
    return Concentration(found["effective"], found["strongest"], found["summed"], top, kept)


def estimate(value: float, draws: Float[Array, " resample"], n: int) -> Estimate:
    return from_draws(value, draws, n) if len(draws) else Estimate(value, np.nan, np.nan, n)


def _at_most_one(e: Estimate) -> Estimate:
    return Estimate(e.value, float(np.clip(e.low, 0, 1)), float(np.clip(e.high, 0, 1)), e.n)
