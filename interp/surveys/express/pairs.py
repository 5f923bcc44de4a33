"""Gold and predicted words side by side, and the scores of the paper as ratios of sums over rows."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from interp.surveys.express.answers import AnswerSheet
from interp.surveys.express.lexicon import Lexicon, Lookup, Neighbours, bits
from interp.surveys.express.parsing import parse_answer

Array = np.ndarray


@dataclass(frozen=True)
class Pairs:
    """Gold and predicted words of the valid rows, mask by mask.

    Attributes:
        n_labels: masks of every row, valid or not.
        valid: rows whose answer has as many words as masks.
        reasons: why a row is not valid; empty for valid rows.
        row: of each pair, its row.
        gold, predicted: of each pair, index into `words`.
        lookup: what the lexicon knows of `words`.
    """

    n_labels: Int[Array, " row"]
    valid: Bool[Array, " row"]
    reasons: list[str]
    row: Int[Array, " pair"]
    gold: Int[Array, " pair"]
    predicted: Int[Array, " pair"]
    words: list[str]
    lookup: Lookup

    @cached_property
    def gold_vectors(self) -> Float[Array, "pair dimension"]:
        return np.take(self.lookup.vectors, self.gold, axis=0)

    @cached_property
    def predicted_vectors(self) -> Float[Array, "pair dimension"]:
        return np.take(self.lookup.vectors, self.predicted, axis=0)

    @cached_property
    def empty(self) -> Bool[Array, " pair"]:
        """Both words without any dimension: a perfect match of vectors that says nothing."""
        return np.asarray(~(bits(self.gold_vectors) | bits(self.predicted_vectors)).any(1))

    def with_lookup(self, lookup: Lookup) -> "Pairs":
        return replace(self, lookup=lookup)

    def per_row(self, values: Float[Array, " pair"]) -> Float[Array, " row"]:
        """Sums over the pairs of each row."""
        return np.bincount(self.row, weights=values, minlength=len(self.n_labels))


def pair_up(
    answers: AnswerSheet,
    lexicon: Lexicon,
    *,
    strict: bool = True,
    fallbacks: bool = False,
    neighbours: Neighbours | None = None,
) -> Pairs:
    """Answers parsed, and their words looked up; every distinct answer and word once."""
    n_labels = np.array([len(labels) for labels in answers.labels])
    codes, distinct = pd.factorize(pd.MultiIndex.from_arrays([answers.outputs, n_labels]))
    parsed_once = [parse_answer(output, int(n), strict=strict) for output, n in distinct]
    parsed = [parsed_once[code] for code in codes]
    valid = np.array([p.reason is None for p in parsed])
    rows = np.flatnonzero(valid)
    gold = [word for r in rows for word in answers.labels[r]]
    predicted = [word for r in rows for word in parsed[r].words]
    word_codes, words = pd.factorize(np.array([*gold, *predicted], dtype=object))
    return Pairs(
        n_labels=n_labels,
        valid=valid,
        reasons=[p.reason or "" for p in parsed],
        row=np.repeat(rows, n_labels[rows]),
        gold=word_codes[: len(gold)],
        predicted=word_codes[len(gold) :],
        words=list(words),
        lookup=lexicon.lookup(list(words), fallbacks=fallbacks, neighbours=neighbours),
    )


@dataclass(frozen=True)
class ScoreColumn:
    """One ratio of sums over rows."""

    name: str
    numerator: Float[Array, " row"]
    denominator: Float[Array, " row"]
    n: int
    section: str = ""


def under(section: str, columns: Iterable[ScoreColumn]) -> list[ScoreColumn]:
    """The columns as those of a section."""
    return [replace(column, section=section) for column in columns]


def headline(pairs: Pairs, keep: Bool[Array, " row"] | None = None) -> list[ScoreColumn]:
    """The five scores, over all rows or those to `keep`."""
    keep = np.ones(len(pairs.valid), bool) if keep is None else keep
    labels = np.where(keep, pairs.n_labels, 0).astype(float)
    valid_labels = np.where(pairs.valid, labels, 0.0)
    rows = keep.astype(float)
    count = [int(total.sum()) for total in (rows, labels, valid_labels)]
    per_row = [np.where(keep, pairs.per_row(value), 0.0) for value in likeness(pairs)]
    return [
        ScoreColumn("VRate", rows * pairs.valid, rows, count[0]),
        ScoreColumn("AccL", per_row[0], labels, count[1]),
        ScoreColumn("AccV", per_row[1], labels, count[1]),
        ScoreColumn("F1V", per_row[2], valid_labels, count[2]),
        ScoreColumn("AccV-2", per_row[3], valid_labels, count[2]),
    ]


def without_empty(pairs: Pairs) -> list[ScoreColumn]:
    """AccV, F1V and AccV-2 over labels where gold word or answer has a dimension, and the share of the others."""
    _, equal, f1, same = likeness(pairs)
    told = (~pairs.empty).astype(float)
    valid_labels = pairs.per_row(np.ones(len(pairs.row)))
    told_rows = pairs.per_row(told)
    all_labels = pairs.n_labels - (valid_labels - told_rows)
    equal_rows = pairs.per_row(equal.astype(float))
    return [
        ScoreColumn("AccV", pairs.per_row(equal * told), all_labels, int(all_labels.sum())),
        ScoreColumn("F1V", pairs.per_row(f1 * told), told_rows, int(told_rows.sum())),
        ScoreColumn("AccV-2", pairs.per_row(same * told), told_rows, int(told_rows.sum())),
        ScoreColumn("share_all_zero", valid_labels - told_rows, valid_labels, int(valid_labels.sum())),
        ScoreColumn("share_of_AccV_all_zero", pairs.per_row(equal * pairs.empty), equal_rows, int(equal_rows.sum())),
    ]


class Likeness(NamedTuple):
    """How alike gold word and answer of every pair are.

    Attributes:
        same_word, equal: the same word; vectors that are equal (1 or 0).
        f1: of the dimensions that the two have; 0 where neither has any.
        same_bits: share of the dimensions that both have or both lack.
    """

    same_word: Float[Array, " pair"]
    equal: Float[Array, " pair"]
    f1: Float[Array, " pair"]
    same_bits: Float[Array, " pair"]


def likeness(pairs: Pairs) -> Likeness:
    same_word = (pairs.gold == pairs.predicted).astype(float)
    equal = (pairs.gold_vectors == pairs.predicted_vectors).all(1).astype(float)
    gold, predicted = bits(pairs.gold_vectors), bits(pairs.predicted_vectors)
    total = gold.sum(1) + predicted.sum(1)
    f1 = np.divide(2.0 * (gold & predicted).sum(1), total, out=np.zeros(len(total)), where=total > 0)
    return Likeness(same_word, equal, f1, (gold == predicted).mean(1))
