"""Intervals and tests. Every number the tool reports gets its interval here.

Bootstrap percentile intervals (Efron & Tibshirani 1993) over examples, or over groups of examples where several share
a source: a resample is a vector of whole-number weights, so that any weighted statistic can be resampled in one
matrix product.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm
from scipy.stats import t as student
from statsmodels.stats.contingency_tables import mcnemar as _mcnemar

Array = np.ndarray
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number with its 95 % interval and the number of examples behind it."""

    value: float
    low: float
    high: float
    n: int


def resample_weights(groups: Sequence[object], resamples: int, seed: int) -> Float[Array, "resample example"]:
    """How often each example occurs in each bootstrap resample of its groups.

    A resample is smaller than the sample by as much as makes the percentile interval of a normal mean as wide as
    Student's: full-size resamples of few groups give intervals that are too narrow (Hesterberg 2015, section 5.3).
    """
    _, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    n_groups = int(member.max()) + 1
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(_resample_size(n_groups), np.full(n_groups, 1 / n_groups), size=resamples)
    return drawn.astype(np.float32)[:, member]


def _resample_size(n_groups: int) -> int:
    """(n - 1) (z / t)^2, at least 1: the variance of a resampled mean is then (t / z)^2 times s^2 / n."""
    if n_groups < 2:
        return 1
    _, upper = _tails()
    return max(1, round((n_groups - 1) * float(norm.ppf(upper) / student.ppf(upper, n_groups - 1)) ** 2))


def mean_estimate(values: Float[Array, " example"], weights: Float[Array, "resample example"]) -> Estimate:
    """The mean over examples with its bootstrap interval."""
    draws = weights @ values.astype(np.float32) / weights.sum(1)
    return from_draws(float(np.mean(values)), draws, len(values))


def mean_estimates(
    values: Float[Array, "example column"], weights: Float[Array, "resample example"]
) -> tuple[Float[Array, " column"], Float[Array, " column"], Float[Array, " column"]]:
    """(mean, low, high) of every column."""
    draws = weights @ values.astype(np.float32) / weights.sum(1, keepdims=True)
    low, high = np.quantile(draws, _tails(), axis=0)
    return values.mean(0), low, high


def ratio_estimate(
    numerator: Float[Array, " example"],
    denominator: Float[Array, " example"],
    weights: Float[Array, "resample example"],
) -> Estimate:
    """sum(numerator) / sum(denominator), both resampled together."""
    draws = (weights @ numerator) / (weights @ denominator)
    return from_draws(float(numerator.sum() / denominator.sum()), draws, len(numerator))


def from_draws(value: float, draws: Float[Array, " resample"], n: int) -> Estimate:
    low, high = np.quantile(draws, _tails())
    return Estimate(float(value), float(low), float(high), n)


def confusion_draws(
    gold: Int[Array, " example"],
    predicted: Int[Array, " example"],
    n_labels: int,
    weights: Float[Array, "resample example"],
) -> Float[Array, "resample gold predicted"]:
    """Confusion matrix of every resample."""
    one_hot = np.zeros((len(gold), n_labels * n_labels), np.float32)
    one_hot[np.arange(len(gold)), gold * n_labels + predicted] = 1
    return (weights @ one_hot).reshape(-1, n_labels, n_labels)


def accuracy(confusion: Float[Array, "*draw gold predicted"]) -> Float[Array, "*draw"]:
    return np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-1, -2))


def recalls(confusion: Float[Array, "*draw gold predicted"]) -> Float[Array, "*draw gold"]:
    """Share of each emotion's examples answered rightly; NaN where a draw has none of them."""
    total = confusion.sum(-1)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0)


def macro_f1(confusion: Float[Array, "*draw gold predicted"]) -> Float[Array, "*draw"]:
    """Mean F1 over the emotions that occur as gold (an emotion a corpus lacks cannot be recognised in it)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    gold, predicted = confusion.sum(-1), confusion.sum(-2)
    f1 = np.divide(2 * right, gold + predicted, out=np.zeros(right.shape), where=gold + predicted > 0)
    present = gold > 0
    return (f1 * present).sum(-1) / present.sum(-1)


def mcnemar(right_a: Array, right_b: Array) -> float:
    """Exact p of the hypothesis that two methods err equally often on the same examples (McNemar 1947)."""
    table = [[int((x & y).sum()) for y in (right_b, ~right_b)] for x in (right_a, ~right_a)]
    return float(_mcnemar(table, exact=True).pvalue)


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2
