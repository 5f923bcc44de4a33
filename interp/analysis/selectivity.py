"""Which features prefer which emotion."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.special import gammaln, ndtr
from scipy.stats import false_discovery_control, rankdata

from interp.analysis.rules import Q_LEVEL

Array = np.ndarray
MIN_ACTIVE = 5
"""A feature active in fewer examples is not tested: no rank test could call it selective."""


def selectivity(acts: csr_array, gold: Int[Array, " example"], labels: Sequence[str]) -> pd.DataFrame:
    """One-vs-rest rank statistics of every tested feature of a layer for every emotion.

    AUROC of the activation for `gold == emotion`, one-sided Mann-Whitney p (see `rank_test`), and Benjamini-Hochberg q
    over all tests of the layer. `specific` features
    have q < 0.05 for one emotion, `shared` ones for two or more.

    Returns:
        Columns feature, emotion, auroc, mean_difference, p, q, n, kind; one row per tested feature and emotion.
    """
    tested = np.flatnonzero(np.diff(acts.tocsc().indptr) >= MIN_ACTIVE)
    dense = acts[:, tested].toarray()
    present = np.bincount(gold, minlength=len(labels)) > 0
    auroc, p = rank_test(dense, gold, len(labels))
    difference = np.stack([_mean_difference(dense, gold == e) for e in range(len(labels))], 1)
    p[:, ~present] = 1.0
    auroc[:, ~present], difference[:, ~present] = 0.5, 0.0
    q = false_discovery_control(p.ravel()).reshape(p.shape) if p.size else p
    preferred = (q < Q_LEVEL).sum(1)
    kind = np.where(preferred == 0, "none", np.where(preferred == 1, "specific", "shared"))
    kinds = np.where(q < Q_LEVEL, kind[:, None], "none")
    n_labels = len(labels)
    return pd.DataFrame(
        {
            "feature": np.repeat(tested, n_labels),
            "emotion": np.tile(np.asarray(labels, dtype=object), len(tested)),
            "auroc": auroc.ravel(),
            "mean_difference": difference.ravel(),
            "p": p.ravel(),
            "q": q.ravel(),
            "n": len(gold),
            "kind": kinds.ravel(),
        }
    )


def rank_test(
    values: Float[Array, "example feature"], gold: Int[Array, " example"], n_labels: int
) -> tuple[Float[Array, "feature emotion"], Float[Array, "feature emotion"]]:
    """AUROC and one-sided Mann-Whitney p of every column for every emotion, from one ranking of each column.

    Most activations are 0 and tie. How many of the active examples fall to an emotion is then hypergeometric and far
    from normal (with 5 active examples of 300, all of one emotion in six, the normal approximation of the rank sum says
    p = 2e-7 where chance says 1e-4). So p is the exact sum over that number, with the usual normal approximation for
    the order among the active examples alone.
    """
    n = len(gold)
    ranks = rankdata(values, axis=0)
    member = np.eye(n_labels)[gold]
    n_in = member.sum(0)
    n_out = n - n_in
    rank_sum = ranks.T @ member  # [feature, emotion]
    with np.errstate(divide="ignore", invalid="ignore"):
        auroc = np.where(n_in * n_out > 0, (rank_sum - n_in * (n_in + 1) / 2) / (n_in * n_out), 0.5)
    floor = values.min(0)
    n_active = (values > floor).sum(0)
    ties = _tie_term(np.sort(ranks, axis=0)) - ((n - n_active) ** 3.0 - (n - n_active))
    return auroc, _rank_sum_p(rank_sum, n_active, ties, n_in, n)


def _rank_sum_p(
    rank_sum: Float[Array, "feature emotion"],
    n_active: Int[Array, " feature"],
    ties: Float[Array, " feature"],
    n_in: Float[Array, " emotion"],
    n: int,
) -> Float[Array, "feature emotion"]:
    """P(rank sum at least as large) under random labels, summed over the number of active examples inside.

    Args:
        ties: sum of t^3 - t over groups of equal ranks among the active examples.
    """
    active, zeros = n_active[:, None].astype(float), n - n_active[:, None].astype(float)
    inside = n_in[None]
    p = np.zeros(rank_sum.shape)
    pairs = np.maximum(active * (active - 1), 1)
    spread = (active + 1 - ties[:, None] / pairs) / 12  # variance of the rank sum of k: k (active - k) x this
    log_total = _log_choose(float(n), inside)
    for k in range(int(min(active.max(initial=0), inside.max())) + 1):
        possible = (k <= active) & (k <= inside) & (inside - k <= zeros)
        log_share = _log_choose(active, k) + _log_choose(zeros, inside - k) - log_total
        share = np.exp(np.where(possible, log_share, -np.inf))
        mean = (inside - k) * (zeros + 1) / 2 + k * (zeros + (active + 1) / 2)
        deviation = np.sqrt(np.maximum(k * (active - k) * spread, 0))
        above = rank_sum - mean - np.where(deviation > 0, 0.5, 0.25)
        p += share * ndtr(-above / np.maximum(deviation, 1e-9))
    return np.where((n_active[:, None] > 0) & (inside > 0) & (inside < n), np.minimum(p, 1.0), 1.0)


def _log_choose(n: Array | float, k: Array | float) -> Array:
    rest = np.maximum(np.subtract(n, k), 0)
    return np.asarray(gammaln(np.add(n, 1)) - gammaln(np.add(k, 1)) - gammaln(rest + 1))


def count_selective(values: Float[Array, "example feature"], gold: Int[Array, " example"], n_labels: int) -> int:
    """How many columns are selective for at least one emotion."""
    _, p = rank_test(values, gold, n_labels)
    return int((false_discovery_control(p.ravel()).reshape(p.shape) < Q_LEVEL).any(1).sum()) if p.size else 0


def _mean_difference(values: Float[Array, "example feature"], inside: Array) -> Float[Array, " feature"]:
    if inside.all() or not inside.any():
        return np.zeros(values.shape[1])
    return np.asarray(values[inside].mean(0) - values[~inside].mean(0))


def _tie_term(ordered: Float[Array, "example feature"]) -> Float[Array, " feature"]:
    """Sum over groups of equal ranks of t^3 - t."""
    n, n_features = ordered.shape
    new = np.vstack([np.ones((1, n_features), bool), ordered[1:] != ordered[:-1]])
    total = np.zeros(n_features)
    for feature in range(n_features):
        starts = np.flatnonzero(new[:, feature])
        size = np.diff(np.append(starts, n)).astype(float)
        total[feature] = (size**3 - size).sum()
    return total
