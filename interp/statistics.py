"""Intervals and tests. Every number the tool reports gets its interval here.

Bootstrap percentile intervals (Efron & Tibshirani 1993) over examples, or over groups of examples where several share
a source: a resample is a vector of whole-number weights, so that any weighted statistic can be resampled in one
matrix product.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.defaults import RESAMPLES

Array = np.ndarray
if TYPE_CHECKING:
    from scipy.sparse import csr_array

    Matrix: TypeAlias = np.ndarray | csr_array
LEVEL = 0.95


class Estimate(NamedTuple):
    """A number with its 95 % interval (NaN: not known) and the number of examples behind it."""

    value: float
    ci_low: float
    ci_high: float
    n: int

    @property
    def low(self) -> float:
        return self.ci_low

    @property
    def high(self) -> float:
        return self.ci_high

    @classmethod
    def of(cls, row: pd.Series, value: str = "value", n: str = "n") -> "Estimate":
        """What a row of a table holds.

        Args:
            value, n: what the number and the count are called there.
        """
        return cls(float(row[value]), float(row["ci_low"]), float(row["ci_high"]), int(row[n]))

    def row(self, value: str = "value") -> dict[str, Any]:
        """The columns that stand for it in a table.

        Args:
            value: what the number itself is called there.
        """
        return {value: self.value, "ci_low": self.ci_low, "ci_high": self.ci_high, "n": self.n}


class Estimates(NamedTuple):
    """The same of several columns at once."""

    value: Float[Array, " column"]
    ci_low: Float[Array, " column"]
    ci_high: Float[Array, " column"]


Measure = Callable[[Float[Array, "resample example"]], Float[Array, " resample"]]
"""A statistic of examples that count as often as their weights say, for several sets of weights at once."""


class Bootstrap:
    """Resamples of some examples, drawn once and shared by all their statistics, so that differences are paired.

    Whole groups are drawn. A resample is smaller than the sample by as much as makes the percentile interval of a
    normal mean as wide as Student's: full-size resamples of few groups give intervals that are too narrow
    (Hesterberg 2015, section 5.3). Resamples in which a statistic is not defined are left out of its interval.

    Attributes:
        member: [example], the group of each.
        group_weights: [resample, group], how often each group occurs in each resample.
    """

    def __init__(self, groups: Sequence[object] | Array, resamples: int = RESAMPLES, seed: int = 0) -> None:
        """
        Args:
            groups: the source of each example.
            resamples: how many; 0 gives no intervals.
        """
        unique, self.member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
        self.n, n_groups = len(self.member), len(unique)
        self.group_weights = np.zeros((0, 0), np.float32)
        if n_groups:
            rng, share = np.random.default_rng(seed), np.full(n_groups, 1 / n_groups)
            self.group_weights = rng.multinomial(_resample_size(n_groups), share, resamples).astype(np.float32)

    @cached_property
    def weights(self) -> Float[Array, "resample example"]:
        """How often each example occurs in each resample."""
        return self.group_weights[:, self.member]

    def estimate(self, value: float | np.floating, draws: Float[Array, " resample"], n: int | None = None) -> Estimate:
        """A statistic with the interval of its resampled values.

        Args:
            n: the examples behind it, where they are not all.
        """
        return from_draws(value, draws, self.n if n is None else n)

    def statistic(self, measure: Measure, n: int | None = None) -> Estimate:
        """Any weighted statistic of the examples."""
        return self.estimate(measure(np.ones((1, self.n), np.float32))[0], measure(self.weights), n)

    def change(self, measure: Callable[[Any, Array], Array], before: Any, after: Any) -> Estimate:
        """What a statistic is of one thing less what it is of another, on the same resamples.

        Args:
            measure: (what is measured, weights) -> its values, as in `statistic`.
        """
        return self.statistic(lambda weights: measure(after, weights) - measure(before, weights))

    def mean(self, values: Float[Array, " example"]) -> Estimate:
        """The mean over examples."""
        draws = self.weights @ values.astype(np.float32) / self.weights.sum(1)
        return self.estimate(float(np.mean(values)), draws)

    def means(self, values: Float[Array, "example column"]) -> Estimates:
        """The mean of every column."""
        draws = self.weights @ values.astype(np.float32) / self.weights.sum(1, keepdims=True)
        return Estimates(values.mean(0), *_bounds(draws))

    def ratio(self, numerator: Float[Array, " example"], denominator: Float[Array, " example"]) -> Estimate:
        """sum(numerator) / sum(denominator), both resampled together."""
        value = _divided(numerator.sum(keepdims=True), denominator.sum(keepdims=True))[0]
        return self.estimate(value, _divided(self.weights @ numerator, self.weights @ denominator))

    def ratios(self, numerator: "Matrix", denominator: "Matrix") -> Estimates:
        """The same of every column of matrices [example, column], dense or sparse; NaN where nothing divides.

        Examples are summed by group first, so that a large corpus needs no matrix of resamples by examples.
        """
        value = self._ratio_of_sums(numerator, denominator)
        return Estimates(value, *_bounds(self.ratio_draws(numerator, denominator)))

    def ratio_changes(self, before: Sequence["Matrix"], after: Sequence["Matrix"]) -> Estimates:
        """What `ratios` are of one (numerator, denominator) less what they are of another, on the same resamples."""
        value = self._ratio_of_sums(*after) - self._ratio_of_sums(*before)
        return Estimates(value, *_bounds(self.ratio_draws(*after) - self.ratio_draws(*before)))

    def ratio_draws(self, numerator: "Matrix", denominator: "Matrix") -> Float[Array, "resample column"]:
        """`ratios` in every resample."""
        top, bottom = (self.group_weights @ (self._by_group @ part) for part in (numerator, denominator))
        return _divided(top, bottom)

    @staticmethod
    def _ratio_of_sums(numerator: "Matrix", denominator: "Matrix") -> Float[Array, " column"]:
        return _divided(*(np.asarray(part.sum(0), dtype=float) for part in (numerator, denominator)))

    @cached_property
    def _by_group(self) -> "csr_array":
        """[group, example], which sums the examples of each group."""
        from scipy.sparse import csr_array

        places = (self.member, np.arange(self.n))
        return csr_array((np.ones(self.n), places), shape=(self.group_weights.shape[1], self.n))


def numbered(groups: Sequence[object]) -> list[int]:
    """Each example's group as a number, in the order of the groups' names: the names themselves play no part then."""
    return [int(group) for group in np.unique(np.asarray(groups, dtype=str), return_inverse=True)[1]]


def _resample_size(n_groups: int) -> int:
    """(n - 1) (z / t)^2, at least 1: the variance of a resampled mean is then (t / z)^2 times s^2 / n."""
    from scipy.stats import norm
    from scipy.stats import t as student

    if n_groups < 2:
        return 1
    _, upper = _tails()
    return max(1, round((n_groups - 1) * float(norm.ppf(upper) / student.ppf(upper, n_groups - 1)) ** 2))


def from_draws(value: float | np.floating, draws: Float[Array, " resample"], n: int) -> Estimate:
    """A statistic with the percentile interval of its resampled values; those that are not defined are left out."""
    low, high = _bounds(draws[~np.isnan(draws)])
    return Estimate(float(value), float(low), float(high), n)


def _bounds(draws: Float[Array, "resample ..."]) -> tuple[Array, Array]:
    """Percentiles over resamples, of those that are defined; NaN where none is."""
    low, high = np.full((2, *draws.shape[1:]), np.nan)
    if len(draws) and not np.isnan(draws).any():
        low, high = np.quantile(draws, _tails(), axis=0)
    elif (known := ~np.isnan(draws).all(0)).any():
        low[known], high[known] = np.nanquantile(draws[:, known], _tails(), axis=0)
    return np.asarray(low), np.asarray(high)


def _divided(numerator: Array, denominator: Array) -> Array:
    """NaN where the denominator is zero."""
    nothing = np.full(numerator.shape, np.nan, np.result_type(numerator, denominator, np.float32))
    return np.asarray(np.divide(numerator, denominator, out=nothing, where=denominator != 0))


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
    return np.asarray(np.trace(confusion, axis1=-2, axis2=-1) / confusion.sum((-1, -2)))


def recalls(confusion: Float[Array, "*draw gold predicted"]) -> Float[Array, "*draw gold"]:
    """Share of each emotion's examples answered rightly; NaN where a draw has none of them."""
    total = confusion.sum(-1)
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    return np.asarray(np.divide(right, total, out=np.full(total.shape, np.nan), where=total > 0))


def macro_f1(confusion: Float[Array, "*draw gold predicted"]) -> Float[Array, "*draw"]:
    """Mean F1 over the emotions that occur as gold (an emotion a corpus lacks cannot be recognised in it)."""
    right = np.diagonal(confusion, axis1=-2, axis2=-1)
    gold, predicted = confusion.sum(-1), confusion.sum(-2)
    f1 = np.divide(2 * right, gold + predicted, out=np.zeros(right.shape), where=gold + predicted > 0)
    present = gold > 0
    return np.asarray((f1 * present).sum(-1) / present.sum(-1))


def mcnemar(right_a: Array, right_b: Array) -> float:
    """Exact p of the hypothesis that two methods err equally often on the same examples (McNemar 1947)."""
    from statsmodels.stats.contingency_tables import mcnemar as exact_mcnemar

    table = [[int((x & y).sum()) for y in (right_b, ~right_b)] for x in (right_a, ~right_a)]
    return float(exact_mcnemar(table, exact=True).pvalue)


def _tails() -> tuple[float, float]:
    return (1 - LEVEL) / 2, (1 + LEVEL) / 2
