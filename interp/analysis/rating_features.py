"""Which features go with which rating: rank correlations, their false discovery rate, what shuffled ratings give."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control, rankdata, t

from interp.analysis.candidates import matched
from interp.analysis.labelled import seed_for
from interp.analysis.ratings import RatedExamples
from interp.analysis.rules import Q_LEVEL

Array = np.ndarray
LEAST_ACTIVE = 10
"""Texts on which a feature must be active: below that, the normal theory of rank correlations does not hold."""
STRONGEST = 12
"""Features of a rating that are removed and put in, at most."""


class FeatureTests(NamedTuple):
    """Features of a layer with ratings.

    Attributes:
        rows: columns feature, rating, rho, rho_within, p, q, n, n_active, strength; one per tested feature and rating.
        chance: per rating, how many have q < 0.05 when the ratings are shuffled.
    """

    rows: pd.DataFrame
    chance: dict[str, int]


def feature_tests(acts: csr_array, norms: Float[Array, " d_sae"], rated: RatedExamples) -> FeatureTests:
    """Spearman's correlation of each feature's activation with each rating (Spearman 1904).

    q (Benjamini-Hochberg) is over all tests of the layer. `rho_within` is the correlation of what is left of both ranks
    when each emotion's mean is taken off; missing where the texts have no emotions.

    Args:
        acts: [text, d_sae], activations in residual units.
        norms: of the features' directions.
    """
    by_column = acts.tocsc()
    n_active = np.diff(by_column.indptr)
    tested = np.flatnonzero((n_active >= LEAST_ACTIVE) & (n_active <= len(rated)))
    dense = by_column[:, tested].toarray()
    varied = dense.std(0) > 0
    tested, dense = tested[varied], dense[:, varied]
    ranks, ratings = rankdata(dense, axis=0), rankdata(rated.values, axis=0)
    rho = _correlations(ranks, ratings)
    p, q = _significance(rho, len(rated))
    within = np.full(rho.shape, np.nan)
    if rated.has_kinds:
        within = _correlations(_within(ranks, rated.kinds), _within(ratings, rated.kinds))
    order = np.random.default_rng(seed_for(rated.seed, "shuffled features")).permutation(len(rated))
    _, q_chance = _significance(_correlations(ranks, ratings[order]), len(rated))
    strength = dense.sum(0) / np.maximum(n_active[tested], 1) * norms[tested]
    n_scales = len(rated.scales)
    rows = pd.DataFrame(
        {
            "feature": np.repeat(tested, n_scales),
            "rating": np.tile(np.asarray(rated.scales, dtype=object), len(tested)),
            "rho": rho.ravel(),
            "rho_within": within.ravel(),
            "p": p.ravel(),
            "q": q.ravel(),
            "n": len(rated),
            "n_active": np.repeat(n_active[tested], n_scales),
            "strength": np.repeat(strength, n_scales),
        }
    )
    found = (q_chance < Q_LEVEL).sum(0) if len(tested) else np.zeros(n_scales)
    return FeatureTests(rows, dict(zip(rated.scales, map(int, found), strict=True)))


def _correlations(x: Float[Array, "text feature"], y: Float[Array, "text scale"]) -> Float[Array, "feature scale"]:
    x, y = (z - z.mean(0) for z in (x, y))
    size = np.linalg.norm(x, axis=0)[:, None] * np.linalg.norm(y, axis=0)
    return np.asarray(np.divide(x.T @ y, size, out=np.zeros(size.shape), where=size > 0))


def _within(x: Float[Array, "text column"], kinds: Array) -> Float[Array, "text column"]:
    out = x.copy()
    for kind in np.unique(kinds):
        out[kinds == kind] -= x[kinds == kind].mean(0)
    return out


def _significance(rho: Float[Array, "feature scale"], n: int) -> tuple[Array, Array]:
    """Two-sided p by the t distribution, and q over all of them."""
    score = rho * np.sqrt((n - 2) / np.maximum(1 - rho**2, 1e-12))
    p = np.asarray(2 * t.sf(np.abs(score), n - 2))
    return p, false_discovery_control(p.ravel()).reshape(p.shape) if p.size else p


class RatingFeatures(NamedTuple):
    """The features that go most with a rating, over all layers, and controls.

    Attributes:
        table: columns layer, feature, sign (1: active where the rating is high), control.
    """

    rating: str
    table: pd.DataFrame

    def __len__(self) -> int:
        return int((~self.table["control"]).sum())


def strongest_features(tests: pd.DataFrame, scales: Sequence[str], seed: int) -> list[RatingFeatures]:
    """Per rating, at most `STRONGEST` features with q < 0.05, those of largest correlation, and as many controls.

    A control is a feature of the same layer that goes with no rating, matched to one of these in strength and in how
    many texts it is active on; it bears the other's sign.

    Args:
        tests: columns layer, feature, rating, rho, q, n_active, strength, of all tests of all layers.
    """
    rng = np.random.default_rng(seed)
    keys = ["layer", "feature"]
    free = tests.groupby(keys, as_index=False)[["q", "n_active", "strength"]].agg(
        {"q": "min", "n_active": "first", "strength": "first"}
    )
    free = free[free["q"] >= Q_LEVEL]
    sets = []
    for scale in scales:
        own = tests[(tests["rating"] == scale) & (tests["q"] < Q_LEVEL)]
        own = own.loc[own["rho"].abs().sort_values(ascending=False, kind="stable").index].head(STRONGEST)
        chosen = own[keys].assign(sign=np.sign(own["rho"]).astype(int), control=False)
        parts = [chosen]
        for layer, of_layer in own.groupby("layer", sort=True):
            of_layer = of_layer.sort_values("strength", ascending=False, kind="stable")  # the order of `matched`
            pool = pd.concat([of_layer, free[free["layer"] == layer]], ignore_index=True)
            traits = np.stack([np.log(np.maximum(pool["strength"], 1e-12)), pool["n_active"]], 1)
            places = matched(traits, np.arange(len(pool)), np.arange(len(of_layer)), rng)
            signs = chosen.loc[of_layer.index, "sign"].to_numpy()[: len(places)]
            parts.append(pool.loc[places, keys].assign(sign=signs, control=True))
        table = pd.concat(parts, ignore_index=True).astype({"layer": int, "feature": int})
        sets.append(RatingFeatures(scale, table))
    return sets
