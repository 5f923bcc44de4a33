"""What a selective feature is selective for: against the nearest emotion, in both halves, without the emotion word."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_array
from scipy.stats import norm

from interp.analysis.rules import Q_LEVEL
from interp.analysis.selectivity import rank_test

Array = np.ndarray
COLUMNS = (
    "nearest",
    "auroc_nearest",
    "p_nearest",
    "auroc_half_1",
    "auroc_half_2",
    "stable",
    "auroc_with_word",
    "auroc_without_word",
    "lexical",
)


def with_profiles(
    table: pd.DataFrame,
    acts: csr_array,
    gold: Int[Array, " example"],
    labels: Sequence[str],
    keyword_free: Bool[Array, " example"] | None,
    seed: int,
) -> pd.DataFrame:
    """The selectivity table of a layer with `COLUMNS`, filled in where q < 0.05.

    - *nearest*: the other emotion from which the feature tells its own worst; `auroc_nearest` below 0.5 says that the
      feature belongs rather to that one; `p_nearest` is one-sided Mann-Whitney of the two emotions' examples alone;
    - *stable*: p < 0.05 in both of two random halves of the examples, which are stratified by emotion;
    - *lexical*: selective on texts with an emotion word (p < 0.05), not on those without (p >= 0.05), and the two
      AUROCs differ (one-sided z < 0.05, standard errors after Hanley & McNeil 1982). Missing without `keyword_free`.
    """
    out = table.assign(**dict.fromkeys(COLUMNS))
    chosen = out.index[(table["q"] < Q_LEVEL).to_numpy()]
    if not len(chosen):
        return out
    number = {label: i for i, label in enumerate(labels)}
    features = np.unique(table.loc[chosen, "feature"])
    dense = acts[:, features].toarray()
    column = np.searchsorted(features, table.loc[chosen, "feature"])
    emotion = table.loc[chosen, "emotion"].map(number).to_numpy()
    found = _nearest(dense, gold, labels, column, emotion)
    found |= _halves(dense, gold, len(labels), column, emotion, seed)
    if keyword_free is not None and keyword_free.any() and not keyword_free.all():
        found |= _with_and_without_word(dense, gold, len(labels), keyword_free, column, emotion)
    for name, values in found.items():
        out.loc[chosen, name] = values
    return out


def _nearest(
    dense: Float[Array, "example feature"],
    gold: Int[Array, " example"],
    labels: Sequence[str],
    column: Array,
    emotion: Array,
) -> dict[str, Array]:
    n_labels = len(labels)
    auroc = np.full((n_labels, n_labels, dense.shape[1]), np.inf)
    p = np.ones_like(auroc)
    for a in np.unique(emotion):
        for b in np.unique(gold):
            if a != b:
                both = (gold == a) | (gold == b)
                values, tail = rank_test(dense[both], (gold[both] == a).astype(int), 2)
                auroc[a, b], p[a, b] = values[:, 1], tail[:, 1]
    own, own_p = auroc[emotion, :, column], p[emotion, :, column]  # [row, other emotion]
    at = own.argmin(1)
    rows = np.arange(len(at))
    return {
        "nearest": np.asarray(labels, dtype=object)[at],
        "auroc_nearest": own[rows, at],
        "p_nearest": own_p[rows, at],
    }


def _halves(
    dense: Float[Array, "example feature"],
    gold: Int[Array, " example"],
    n_labels: int,
    column: Array,
    emotion: Array,
    seed: int,
) -> dict[str, Array]:
    order = np.random.default_rng(seed).permutation(len(gold))
    first = np.zeros(len(gold), dtype=bool)
    for label in np.unique(gold):
        first[order[gold[order] == label][::2]] = True
    results = [rank_test(dense[half], gold[half], n_labels) for half in (first, ~first)]
    (a1, p1), (a2, p2) = [(auroc[column, emotion], p[column, emotion]) for auroc, p in results]
    return {"auroc_half_1": a1, "auroc_half_2": a2, "stable": (p1 < Q_LEVEL) & (p2 < Q_LEVEL)}


def _with_and_without_word(
    dense: Float[Array, "example feature"],
    gold: Int[Array, " example"],
    n_labels: int,
    keyword_free: Bool[Array, " example"],
    column: Array,
    emotion: Array,
) -> dict[str, Array]:
    parts = []
    for rows in (~keyword_free, keyword_free):
        auroc, p = rank_test(dense[rows], gold[rows], n_labels)
        inside = np.bincount(gold[rows], minlength=n_labels)[emotion]
        a = auroc[column, emotion]
        parts.append((a, p[column, emotion], _auroc_variance(a, inside, rows.sum() - inside)))
    (with_word, p_with, v_with), (without, p_without, v_without) = parts
    z = (with_word - without) / np.sqrt(np.maximum(v_with + v_without, 1e-12))
    lexical = (p_with < Q_LEVEL) & (p_without >= Q_LEVEL) & (norm.sf(z) < Q_LEVEL)
    return {"auroc_with_word": with_word, "auroc_without_word": without, "lexical": lexical}


def _auroc_variance(auroc: Array, n_in: Array, n_out: Array) -> Array:
    """Hanley & McNeil (1982), equation 1."""
    n_in, n_out = np.maximum(n_in, 1), np.maximum(n_out, 1)
    both_in, both_out = auroc / (2 - auroc), 2 * auroc**2 / (1 + auroc)
    square = auroc**2
    spread = auroc * (1 - auroc) + (n_in - 1) * (both_in - square) + (n_out - 1) * (both_out - square)
    return np.asarray(spread / (n_in * n_out))
