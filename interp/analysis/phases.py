"""Layer signals to phases: contiguous ranges of layers that behave alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import ruptures
from jaxtyping import Float

Array = np.ndarray
MOST_PHASES = 5


@dataclass(frozen=True)
class Phases:
    """A segmentation of the layers and how certain it is.

    Attributes:
        layers: the layers that have signals, in order.
        boundaries: first layer of every phase after the first.
        intervals: 95 % bootstrap interval of each boundary, in layers.
        criterion: per number of phases, residual sum of squares and penalised criterion.
        support: share of bootstrap resamples in which this number of phases wins.
    """

    layers: list[int]
    boundaries: list[int]
    intervals: list[tuple[int, int]]
    criterion: list[dict[str, float]]
    support: float

    @property
    def n_phases(self) -> int:
        return len(self.boundaries) + 1

    def phase_of(self, layer: int) -> int:
        """1-based phase of a layer."""
        return 1 + sum(layer >= b for b in self.boundaries)

    def spans(self) -> list[dict[str, int]]:
        edges = [self.layers[0], *self.boundaries]
        ends = [*(b - 1 for b in self.boundaries), self.layers[-1]]
        return [
            {"phase": i + 1, "first": first, "last": last}
            for i, (first, last) in enumerate(zip(edges, ends, strict=True))
        ]

    def as_dict(self) -> dict[str, Any]:
        return {"n_phases": self.n_phases, "phases": self.spans(), **asdict(self)}


def find_phases(
    values: Float[Array, "layer signal"], draws: Float[Array, "resample layer signal"], layers: Sequence[int]
) -> Phases:
    """Change points of the standardised signals by exact dynamic programming (`ruptures`).

    The number of phases, 1 to 5, is the one with the least modified Bayesian information criterion (Zhang & Siegmund
    2007: a change point costs its means and twice its place), with the residual sum of squares never taken to be less
    than what sampling error alone leaves: layers that differ by chance are one phase. Boundaries get intervals from
    the signals' bootstrap draws with that number held fixed.
    """
    varying = values.std(0) > 1e-9  # a constant signal says nothing about phases
    if not varying.any():
        return Phases(list(layers), [], [], [{"n_phases": 1, "cost": 0.0, "penalised": 0.0}], 1.0)
    values, draws = values[:, varying], draws[:, :, varying]
    standard, scale = _standardise(values)
    noise = float((draws / scale).var(0).sum())
    counts = range(1, min(MOST_PHASES, len(layers)) + 1)
    costs = [_cost(standard, k) for k in counts]
    scores = [_bic(cost, standard.shape, k, noise) for cost, k in zip(costs, counts, strict=True)]
    best = counts[int(np.argmin(scores))]
    boundaries = _cut(standard, best)
    found, won = [], 0
    for draw in draws:
        again = (draw - draw.mean(0)) / scale
        found.append(_cut(again, best))
        won += counts[int(np.argmin([_bic(_cost(again, k), again.shape, k, noise) for k in counts]))] == best
    intervals = []
    for i in range(best - 1):
        low, high = np.quantile([f[i] for f in found], (0.025, 0.975), method="nearest")
        intervals.append((int(layers[int(low)]), int(layers[int(high)])))
    return Phases(
        layers=list(layers),
        boundaries=[int(layers[b]) for b in boundaries],
        intervals=intervals,
        criterion=[
            {"n_phases": k, "cost": round(float(c), 6), "penalised": round(float(s), 6)}
            for k, c, s in zip(counts, costs, scores, strict=True)
        ],
        support=won / max(len(draws), 1),
    )


def verdict(phases: Phases, signals: Mapping[str, Float[Array, " layer"]]) -> str:
    """How many phases there are, where they change, and where emotion shows, in words and numbers."""
    spans = phases.spans()
    many = "1 phase fits" if len(spans) == 1 else f"{len(spans)} phases fit"
    changes = "; ".join(
        f"change at layer {layer}, 95 % interval {low} to {high}"
        for layer, (low, high) in zip(phases.boundaries, phases.intervals, strict=True)
    )
    sentence = f"{many} best ({phases.support:.0%} of resamples agree){f': {changes}' if changes else ''}."
    peaks = {
        name: phases.layers[int(np.argmax(signals[name]))]
        for name in ("probe_residuals", "direct_evidence", "joint_ablation")
        if name in signals
    }
    if peaks:
        where = ", ".join(
            f"{name.replace('_', ' ')} at layer {layer} (phase {phases.phase_of(layer)} of {len(spans)})"
            for name, layer in peaks.items()
        )
        sentence += f" Highest values: {where}."
    return sentence


def _standardise(values: Float[Array, "layer signal"]) -> tuple[Float[Array, "layer signal"], Float[Array, " signal"]]:
    scale = values.std(0)
    return (values - values.mean(0)) / scale, scale


def _cut(standard: Float[Array, "layer signal"], n_phases: int) -> list[int]:
    """Row at which each later phase begins."""
    if n_phases == 1:
        return []
    return list(ruptures.Dynp(model="l2", min_size=1, jump=1).fit(standard).predict(n_bkps=n_phases - 1)[:-1])


def _cost(standard: Float[Array, "layer signal"], n_phases: int) -> float:
    """Residual sum of squares of the best segmentation."""
    parts = np.split(standard, _cut(standard, n_phases))
    return float(sum(np.square(p - p.mean(0)).sum() for p in parts))


def _bic(cost: float, shape: tuple[int, ...], n_phases: int, noise: float) -> float:
    n_layers, n_signals = shape
    size = n_layers * n_signals
    floor = max(noise, 1e-3 * size)
    parameters = n_phases * n_signals + 2 * (n_phases - 1)
    return float(size * np.log(max(cost, floor) / size) + parameters * np.log(size))
