"""From which layer on the residual stream holds the emotion: a probe half of the way from chance to its best."""

import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp.run.reading import RunFiles

Array = np.ndarray
DRAWS = "signals_draws.npz"


class Onset(NamedTuple):
    """A layer and its 95 % bootstrap interval, among the layers measured; None where the run has no draws."""

    layer: int
    low: int | None
    high: int | None


def onset(run: RunFiles) -> Onset | None:
    """The first measured layer from which a probe stays at least half-way up.

    Chance is what the same probe reads from shuffled labels, on average over layers. None where a run has no such
    signals, or where no layer is above chance.
    """
    signals = run.table("signals")
    if signals is None:
        return None
    own = signals[signals["signal"] == "probe_residuals"].sort_values("layer")
    shuffled = signals[signals["signal"] == "probe_shuffled"]["value"]
    if not len(own) or not len(shuffled) or own["value"].max() <= shuffled.mean():
        return None
    layers, chance = [int(k) for k in own["layer"]], float(shuffled.mean())
    first = layers[half_way(own["value"].to_numpy(dtype=float), chance)]
    draws = _draws(run, layers)
    if draws is None:
        return Onset(first, None, None)
    places = [layers[half_way(d, chance)] for d in draws if np.isfinite(d).all() and d.max() > chance]
    if not places:
        return Onset(first, None, None)
    low, high = np.quantile(places, (0.025, 0.975), method="nearest")
    return Onset(first, int(low), int(high))


def half_way(values: Float[Array, " layer"], chance: float) -> int:
    """Place of the first layer from which all values up to the highest are at least half-way from chance to it."""
    best = int(np.argmax(values))
    below = np.flatnonzero(values[: best + 1] < (chance + values[best]) / 2)
    return int(below[-1]) + 1 if len(below) else 0


def _draws(run: RunFiles, layers: Sequence[int]) -> Float[Array, "resample layer"] | None:
    path = run.folder / DRAWS
    if not path.is_file():
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            names = [f"probe_residuals/{k}" for k in layers]
            return np.stack([stored[name] for name in names], 1) if set(names) <= set(stored.files) else None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
