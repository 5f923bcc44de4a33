"""Examples as the analyses see them: whose text each one is, what is resampled together, and how often."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.defaults import RESAMPLES
from interp.statistics import Bootstrap

Array = np.ndarray


def seed_for(seed: int, purpose: str) -> int:
    """A seed of its own for each purpose, from one."""
    return (seed * 1_000_003 + zlib.crc32(purpose.encode())) % 2**32


@dataclass(frozen=True)
class LabelledExamples:
    """Some examples with their emotions, and how means over them are resampled.

    Attributes:
        labels: the label set.
        gold: [example], index of each one's emotion in `labels`.
        groups: [example], what is resampled together: texts of one source.
        rows: [example], the numbers by which measurements name the examples; their places if left out.
        resamples: bootstrap resamples behind every interval.
        seed: from which every resampling has its own (`seed_for`).
    """

    labels: Sequence[str]
    gold: Int[Array, " example"]
    groups: Array
    rows: Int[Array, " example"] = field(default_factory=lambda: np.zeros(0, int))
    resamples: int = RESAMPLES
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.rows) != len(self.gold):
            object.__setattr__(self, "rows", np.arange(len(self.gold)))

    def __len__(self) -> int:
        return len(self.gold)

    @property
    def emotions(self) -> Array:
        """[example], labels."""
        return np.asarray(self.labels, dtype=object).take(self.gold)

    def members(self, emotion: int) -> Int[Array, " member"]:
        """Places of an emotion's examples."""
        return np.flatnonzero(self.gold == emotion)

    def only(self, places: Int[Array, " chosen"]) -> "LabelledExamples":
        """Some of them, with the numbers that they have here."""
        return replace(self, gold=self.gold[places], groups=self.groups[places], rows=self.rows[places])

    def places(self, rows: Sequence[int] | Array | pd.Series) -> Int[Array, " row"]:
        """Places of the examples that measurements name by these numbers; -1 where it is none of these."""
        return np.asarray(pd.Index(self.rows).get_indexer(pd.Index(rows)))

    def bootstrap(self, members: Int[Array, " member"], purpose: str) -> Bootstrap:
        """Resamples of some examples, drawn by their groups."""
        return Bootstrap(self.groups[members].tolist(), self.resamples, seed_for(self.seed, purpose))

    def mean(self, values: Float[Array, " member"], members: Int[Array, " member"], purpose: str) -> dict[str, float]:
        """Columns n, effect, ci_low and ci_high: a mean over some examples with its 95 % bootstrap interval."""
        (mean,), (low,), (high,) = self.bootstrap(members, purpose).means(values[:, None])
        return {"n": len(members), "effect": float(mean), "ci_low": float(low), "ci_high": float(high)}
