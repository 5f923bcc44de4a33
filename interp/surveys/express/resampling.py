"""Ratios of sums with bootstrap intervals clustered by post: every EXPRESS score is one."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.sparse as sp
from jaxtyping import Float

from interp.statistics import LEVEL, resample_weights

Array = np.ndarray


class Resampler:
    """Bootstrap resamples of whole posts, drawn once and shared by all scores, so that differences are paired.

    Args:
        clusters: the post of every row.
        resamples: how many; 0 gives no intervals.
    """

    def __init__(self, clusters: Sequence[str], resamples: int, seed: int) -> None:
        unique, self.member = np.unique(np.asarray(clusters, dtype=str), return_inverse=True)
        self.n_rows, self.n_clusters = len(self.member), len(unique)
        self.weights = resample_weights(range(self.n_clusters), resamples, seed) if resamples else None
        self._sum = sp.csr_array(
            (np.ones(self.n_rows), (self.member, np.arange(self.n_rows))), shape=(self.n_clusters, self.n_rows)
        )

    def draws(self, numerator: Array | sp.csr_array, denominator: Array | sp.csr_array) -> Float[Array, "resample k"]:
        """sum(numerator) / sum(denominator) of every column in every resample; NaN where the denominator is zero."""
        assert self.weights is not None
        top, bottom = (self.weights @ (self._sum @ part) for part in (numerator, denominator))
        return np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)

    def estimates(self, numerator: Array | sp.csr_array, denominator: Array | sp.csr_array) -> pd.DataFrame:
        """value, ci_low, ci_high of every column; NaN where there is nothing to divide by.

        Args:
            numerator, denominator: [row, k], dense or sparse.
        """
        top, bottom = (np.asarray(part.sum(0), dtype=float) for part in (numerator, denominator))
        value = np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0)
        low = high = np.full(value.shape, np.nan)
        known = np.isfinite(value)
        if self.weights is not None and known.any():
            low, high = low.copy(), high.copy()
            draws = self.draws(numerator, denominator)[:, known]
            low[known], high[known] = np.nanquantile(draws, ((1 - LEVEL) / 2, (1 + LEVEL) / 2), axis=0)
        return pd.DataFrame({"value": value, "ci_low": low, "ci_high": high})
