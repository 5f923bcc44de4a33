"""Which features prefer which emotion."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, norm, rankdata

Array = np.ndarray
Q_LEVEL = 0.05
MIN_ACTIVE = 5
"""A feature active in fewer examples is not tested: no rank test could call it selective."""


def selectivity(acts: csr_array, gold: Int[Array, " example"], labels: Sequence[str]) -> pd.DataFrame:
    """One-vs-rest rank statistics of every tested feature of a layer for every emotion.

    AUROC of the activation for `gold == emotion`, one-sided Mann-Whitney p (normal approximation with tie
    correction: most activations are 0), and Benjamini-Hochberg q over all tests of the layer. `specific` features
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
    """AUROC and one-sided Mann-Whitney p of every column for every emotion, from one ranking of each column."""
    n = len(gold)
    ranks = rankdata(values, axis=0)
    member = np.eye(n_labels)[gold]
    n_in = member.sum(0)
    n_out = n - n_in
    u = ranks.T @ member - n_in * (n_in + 1) / 2  # [feature, emotion]
    ordered = np.sort(ranks, axis=0)
    ties = _tie_term(ordered)  # [feature]
    variance = n_in * n_out / 12 * ((n + 1) - ties / (n * (n - 1)))[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (u - n_in * n_out / 2 - 0.5) / np.sqrt(variance)
        auroc = np.where(n_in * n_out > 0, u / (n_in * n_out), 0.5)
    return auroc, np.where(variance > 0, norm.sf(z), 1.0)


def count_selective(values: Float[Array, "example feature"], gold: Int[Array, " example"], n_labels: int) -> int:
    """How many columns are selective for at least one emotion."""
    _, p = rank_test(values, gold, n_labels)
    return int((false_discovery_control(p.ravel()).reshape(p.shape) < Q_LEVEL).any(1).sum()) if p.size else 0


def _mean_difference(values: Float[Array, "example feature"], inside: Array) -> Float[Array, " feature"]:
    if inside.all() or not inside.any():
        return np.zeros(values.shape[1])
    return values[inside].mean(0) - values[~inside].mean(0)


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
