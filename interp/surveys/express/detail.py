"""What stands beside the five scores: coverage, dimensions, sentiment, similarity, context, masks, labels."""

import numpy as np
import pandas as pd
import scipy.sparse as sp

from interp.statistics import Bootstrap
from interp.surveys.express.answers import AnswerSheet
from interp.surveys.express.lexicon import UNKNOWN, bits
from interp.surveys.express.pairs import Pairs, ScoreColumn, headline, likeness, under
from interp.surveys.express.plutchik import BASIC, DIMENSIONS, wheel_distance

Array = np.ndarray
CONTEXT_EDGES = (0, 100, 200, 300, 400)
"""Context lengths in words at which a new class begins."""
MOST_MASKS = 5


def detail(pairs: Pairs, answers: AnswerSheet) -> list[ScoreColumn]:
    """All further scores, each under its section."""
    return [
        *coverage(pairs),
        *dimensions(pairs),
        *under("sentiment", sentiment(pairs)),
        *under("similarity", similarity(pairs)),
        *by_context(pairs, answers.context),
        *by_masks(pairs),
    ]


def coverage(pairs: Pairs) -> list[ScoreColumn]:
    """Share of words in the lexicon, and of those in it but without any dimension, for gold words and answers."""
    known = (pairs.lookup.found != UNKNOWN).astype(float)
    told = bits(pairs.lookup.vectors).any(1).astype(float)
    columns: list[ScoreColumn] = []
    for name, codes in (("gold", pairs.gold), ("predicted", pairs.predicted)):
        columns += under(
            f"coverage/{name}",
            [
                _over(pairs, "in_lexicon", known[codes]),
                _over(pairs, "all_zero_in_lexicon", (known * (1 - told))[codes]),
                _over(pairs, "with_a_dimension", told[codes]),
            ],
        )
    return columns


def dimensions(pairs: Pairs) -> list[ScoreColumn]:
    """Precision, recall and F1 of every dimension over the labels of valid rows; n counts gold words that have it."""
    gold, predicted = bits(pairs.gold_vectors), bits(pairs.predicted_vectors)
    columns: list[ScoreColumn] = []
    for k, name in enumerate(DIMENSIONS):
        hit, has, says = (
            pairs.per_row(x.astype(float)) for x in (gold[:, k] & predicted[:, k], gold[:, k], predicted[:, k])
        )
        n = int(has.sum())
        columns += under(
            f"dimensions/{name}",
            [
                ScoreColumn("precision", hit, says, int(says.sum())),
                ScoreColumn("recall", hit, has, n),
                ScoreColumn("f1", 2 * hit, has + says, n),
            ],
        )
    return columns


def sentiment(pairs: Pairs) -> list[ScoreColumn]:
    """How often answer and gold word lean the same way, where both lean; and how often both do."""
    first = len(BASIC)
    lean = [np.sign(v[:, first] - v[:, first + 1]) for v in (pairs.gold_vectors, pairs.predicted_vectors)]
    both = ((lean[0] != 0) & (lean[1] != 0)).astype(float)
    return [
        _over(pairs, "agreement", both * (lean[0] == lean[1]), both),
        _over(pairs, "both_lean", both),
    ]


def similarity(pairs: Pairs) -> list[ScoreColumn]:
    """Graded likeness where gold word or answer has a dimension: cosine, weighted Jaccard, steps on Plutchik's wheel.

    The wheel distance (0 the same, 4 opposites) is between strongest basic emotions, where both have a single one.
    """
    gold, predicted = pairs.gold_vectors, pairs.predicted_vectors
    told = (~pairs.empty).astype(float)
    norm = np.linalg.norm(gold, axis=1) * np.linalg.norm(predicted, axis=1)
    cosine = np.divide((gold * predicted).sum(1), norm, out=np.zeros(len(norm)), where=norm > 0)
    union = np.maximum(gold, predicted).sum(1)
    jaccard = np.divide(np.minimum(gold, predicted).sum(1), union, out=np.zeros(len(union)), where=union > 0)
    tops = [_strongest(v[:, : len(BASIC)]) for v in (gold, predicted)]
    single = ((tops[0] >= 0) & (tops[1] >= 0)).astype(float)
    steps = wheel_distance(*tops) * single
    return [
        _over(pairs, "cosine", cosine * told, told),
        _over(pairs, "jaccard", jaccard * told, told),
        _over(pairs, "same_strongest_emotion", (tops[0] == tops[1]) * single, single),
        _over(pairs, "wheel_distance", steps, single),
    ]


def by_context(pairs: Pairs, context: Array) -> list[ScoreColumn]:
    """The five scores by words of context."""
    columns: list[ScoreColumn] = []
    for low, high in zip(CONTEXT_EDGES, (*CONTEXT_EDGES[1:], None), strict=True):
        keep = (context >= low) & (context < (high or np.inf))
        name = f"{low}-{high - 1}" if high else f"{low}+"
        columns += under(f"by_context_words/{name}", headline(pairs, keep)) if keep.any() else []
    return columns


def by_masks(pairs: Pairs) -> list[ScoreColumn]:
    """The five scores by number of masks."""
    columns: list[ScoreColumn] = []
    for n in range(1, MOST_MASKS + 1):
        keep = pairs.n_labels >= n if n == MOST_MASKS else pairs.n_labels == n
        name = f"{n}+" if n == MOST_MASKS else str(n)
        columns += under(f"by_masks/{name}", headline(pairs, keep)) if keep.any() else []
    return columns


def label_table(pairs: Pairs, answers: AnswerSheet, bootstrap: Bootstrap) -> pd.DataFrame:
    """One line per gold word, most frequent first; n counts its labels in all rows, valid or not."""
    row = np.repeat(np.arange(len(answers.labels)), pairs.n_labels)
    codes, words = pd.factorize(np.array([word for labels in answers.labels for word in labels], dtype=object))
    in_valid = pairs.valid[row]
    n = np.bincount(codes, minlength=len(words))
    named, equal, f1, _ = likeness(pairs)
    shape = (len(pairs.n_labels), len(words))

    def spread(values: Array, at: Array) -> sp.csr_array:
        return sp.csr_array((values.astype(float), (row[at], codes[at])), shape=shape)

    all_labels = spread(np.ones(len(row)), np.ones(len(row), bool))
    valid_labels = spread(np.ones(int(in_valid.sum())), in_valid)
    table = pd.DataFrame({"label": words, "n": n})
    for name, values, denominator in (
        ("AccL", named, all_labels),
        ("AccV", equal, all_labels),
        ("F1V", f1, valid_labels),
    ):
        estimates = bootstrap.ratios(spread(values, in_valid), denominator)
        table[[name, f"{name}_low", f"{name}_high"]] = np.column_stack(estimates)
    table["most_frequent_answer"] = _most_frequent(pairs, codes[in_valid], list(words))
    return table.sort_values(["n", "label"], ascending=[False, True], ignore_index=True)


def confusion(pairs: Pairs) -> pd.DataFrame:
    """How many labels of valid rows have the gold emotion (row) and the answered one (column); `none`: no emotion.

    A word can have several emotions, so rows do not add up to the number of gold words; `attrs["gold"]` holds that.
    """
    columns = [*BASIC, "none"]
    gold, predicted = (_with_none(vectors) for vectors in (pairs.gold_vectors, pairs.predicted_vectors))
    table = pd.DataFrame((gold.T @ predicted).astype(int), index=columns, columns=columns)
    table.attrs["gold"] = pd.Series(gold.sum(0).astype(int), index=columns)
    return table


def _with_none(vectors: Array) -> Array:
    basic = bits(vectors[:, : len(BASIC)])
    return np.column_stack([basic, ~basic.any(1)]).astype(float)


def _most_frequent(pairs: Pairs, gold: Array, labels: list[str]) -> list[str]:
    """The answer given most often for each gold word; ties by alphabet; empty where no answer was valid."""
    table = pd.DataFrame({"gold": gold, "answer": np.array(pairs.words, dtype=object)[pairs.predicted]})
    count = table.value_counts().rename("n").reset_index().sort_values(["n", "answer"], ascending=[False, True])
    top = count.drop_duplicates("gold").set_index("gold")["answer"]
    return [top.get(code, "") for code in range(len(labels))]


def _strongest(basic: Array) -> Array:
    """Index of the single strongest basic emotion; -1 where there is none or a tie."""
    top = basic == basic.max(1, keepdims=True)
    return np.where((top.sum(1) == 1) & (basic.max(1) > 0), basic.argmax(1), -1)


def _over(pairs: Pairs, name: str, values: Array, among: Array | None = None) -> ScoreColumn:
    """Mean of `values` over the labels of valid rows, or `among` some of them."""
    among = np.ones(len(pairs.row)) if among is None else among
    return ScoreColumn(name, pairs.per_row(values.astype(float)), pairs.per_row(among), int(among.sum()))
