"""Shares of consistent answers with their interval, Cohen's kappa, and what a constant answerer would get.

A model that gives the same answer to everything looks stable whatever one changes about the question. So each share
stands beside the rate of such a model and beside a figure that corrects for it.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from statsmodels.stats.inter_rater import aggregate_raters, cohens_kappa, fleiss_kappa

from interp.defaults import RESAMPLES
from interp.statistics import Bootstrap

Array = np.ndarray
UNDEFINED = float("nan")


@lru_cache(maxsize=4)
def _bootstrap(clusters: tuple[object, ...], resamples: int, seed: int) -> Bootstrap:
    """The resamples of the same questions are drawn once for all their measures."""
    return Bootstrap(clusters, resamples, seed)


@dataclass(frozen=True)
class Share:
    """A share or mean with its 95 % bootstrap interval.

    Attributes:
        n: comparisons (or answers) behind it.
        clusters: questions (or texts) behind it, which the bootstrap resamples.
        kappa: Cohen's kappa (1960), the agreement beyond what the two sides' answer rates give by chance; NaN where
            both sides are constant and the same, or where nothing is compared.
        constant: what a model gets that always gives one answer.
        chance: what two independent answerers with these answer rates get.
    """

    value: float
    low: float
    high: float
    n: int
    clusters: int
    kappa: float = UNDEFINED
    kappa_low: float = UNDEFINED
    kappa_high: float = UNDEFINED
    constant: float = UNDEFINED
    chance: float = UNDEFINED

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def mean_share(
    values: Float[Array, " answer"],
    clusters: Sequence[object],
    *,
    constant: float = UNDEFINED,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Share:
    """The mean of `values`, resampled by cluster. There is nothing to compare, hence no kappa."""
    estimate = _bootstrap(tuple(clusters), resamples, seed).mean(values.astype(float))
    return Share(*estimate, clusters=len(set(clusters)), constant=constant)


def agreement(
    before: Int[Array, " pair"],
    after: Int[Array, " pair"],
    clusters: Sequence[object],
    *,
    constant: float = 1.0,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Share:
    """Share of pairs with the same answer. For a negation, pass the answer that would be consistent as `after`."""
    bootstrap = _bootstrap(tuple(clusters), resamples, seed)
    estimate = bootstrap.mean((before == after).astype(float))
    labels, coded = np.unique(np.concatenate([before, after]), return_inverse=True)
    left, right = np.split(coded, 2)
    draws = _kappa_draws(left, right, len(labels), bootstrap.weights)
    kappa = bootstrap.estimate(_kappa(left, right, len(labels)), draws)
    rates = [np.bincount(side, minlength=len(labels)) / len(before) for side in (left, right)]
    return Share(
        *estimate,
        clusters=len(set(clusters)),
        kappa=kappa.value,
        kappa_low=kappa.ci_low,
        kappa_high=kappa.ci_high,
        constant=constant,
        chance=float(rates[0] @ rates[1]),
    )


def _kappa(before: Int[Array, " pair"], after: Int[Array, " pair"], n_labels: int) -> float:
    """NaN where both sides give one and the same answer throughout: 0 / 0."""
    if n_labels < 2:
        return UNDEFINED
    table = np.zeros((n_labels, n_labels))
    np.add.at(table, (before, after), 1)
    return float(cohens_kappa(table, return_results=False))


def _kappa_draws(
    before: Int[Array, " pair"], after: Int[Array, " pair"], n_labels: int, weights: Float[Array, "resample pair"]
) -> Float[Array, " resample"]:
    """Cohen's kappa of every resample."""
    total = weights.sum(1).astype(float)
    observed = (weights @ (before == after).astype(np.float32)) / total
    rates = [
        (weights @ np.eye(n_labels, dtype=np.float32)[side]) / total[:, None] for side in (before, after)
    ]  # [resample, label]
    return _beyond_chance(observed, (rates[0] * rates[1]).sum(1))


def _beyond_chance(observed: Float[Array, " resample"], chance: Float[Array, " resample"]) -> Float[Array, " resample"]:
    """(observed - chance) / (1 - chance); NaN where chance alone agrees always."""
    room = 1 - chance
    return np.asarray(np.divide(observed - chance, room, out=np.full(len(room), UNDEFINED), where=room > 1e-9))


# ------------------------------------------------------------------------------------ many administrations


def cronbachs_alpha(scores: Float[Array, "administration item"]) -> float:
    """k / (k - 1) * (1 - sum of item variances / variance of the sum) (Cronbach 1951).

    NaN with fewer than two items or administrations, or where the sum never varies.
    """
    administrations, items = scores.shape
    total = scores.sum(1).var(ddof=1) if administrations > 1 else 0.0
    if items < 2 or total < 1e-12:
        return UNDEFINED
    return float(items / (items - 1) * (1 - scores.var(axis=0, ddof=1).sum() / total))


def split_half(scores: Float[Array, "administration item"]) -> float:
    """Correlation of the sums over odd and over even items, stepped up to full length (Spearman 1910, Brown 1910).

    NaN with fewer than two items or three administrations (two always correlate perfectly), or where a half's sum never
    varies.
    """
    administrations, items = scores.shape
    if items < 2 or administrations < 3:
        return UNDEFINED
    halves = scores[:, ::2].sum(1), scores[:, 1::2].sum(1)
    if min(half.std() for half in halves) < 1e-9:
        return UNDEFINED
    r = float(np.corrcoef(*halves)[0, 1])
    return 2 * r / (1 + r) if r > -1 + 1e-9 else UNDEFINED


def fleiss(
    answers: Int[Array, "text order"], clusters: Sequence[object], *, resamples: int = RESAMPLES, seed: int = 0
) -> Share:
    """Fleiss' kappa (1971) with label orders as raters; NaN where every answer is the same."""
    labels, coded = np.unique(answers, return_inverse=True)
    n_texts, n_orders = answers.shape
    if len(labels) < 2:
        return Share(UNDEFINED, UNDEFINED, UNDEFINED, n_texts, len(set(clusters)))
    counts = aggregate_raters(coded.reshape(answers.shape), len(labels))[0]  # [text, label]
    agree = (counts * (counts - 1)).sum(1) / (n_orders * (n_orders - 1))
    bootstrap = _bootstrap(tuple(clusters), resamples, seed)
    total = bootstrap.weights.sum(1, keepdims=True)
    chance = (((bootstrap.weights @ counts) / (total * n_orders)) ** 2).sum(1)
    draws = _beyond_chance((bootstrap.weights @ agree) / total[:, 0], chance)
    return Share(*bootstrap.estimate(float(fleiss_kappa(counts)), draws), clusters=len(set(clusters)))


def place_bias(place: Int[Array, " answer"], n_options: int) -> Float[Array, " answer"]:
    """+1 for the option listed first, -1 for the one listed last, evenly in between.

    Averaged over an order and its reverse (or all rotations) a model that does not look at places gets 0.
    """
    return 1 - 2 * place / (n_options - 1)
