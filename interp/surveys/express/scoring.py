"""Scores of predicted emotion words: the five of the paper, and beside them what these hide."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from interp.defaults import RESAMPLES
from interp.files.jsonable import jsonable
from interp.statistics import Bootstrap, numbered
from interp.surveys.express.answers import AnswerSheet
from interp.surveys.express.detail import confusion, detail, label_table
from interp.surveys.express.lexicon import UNKNOWN, Lexicon, Neighbours, bits
from interp.surveys.express.pairs import Pairs, headline, pair_up, under, without_empty
from interp.surveys.express.plutchik import BASIC, DIMENSIONS

Array = np.ndarray
HEADLINE = ("VRate", "AccL", "AccV", "F1V", "AccV-2")


@dataclass(frozen=True)
class Scores:
    """All scores of one set of answers.

    Attributes:
        table: section, name, value, ci_low, ci_high, n (number of labels or rows behind it).
        labels: per gold word: n, share named, share of equal vectors, F1V, each with interval, most frequent answer.
        confusion: of valid labels, how often gold dimension (row) meets predicted dimension (column); last: none.
        facts: rows read, invalid answers by reason, words unknown to the lexicon, settings.
    """

    table: pd.DataFrame
    labels: pd.DataFrame
    confusion: pd.DataFrame
    facts: Mapping[str, Any]

    def __getitem__(self, name: str) -> float:
        """A headline score."""
        found = self.table[(self.table["section"] == "scores") & (self.table["name"] == name)]
        return float(found["value"].iloc[0])

    def section(self, name: str) -> pd.DataFrame:
        return self.table[self.table["section"] == name].drop(columns="section").set_index("name")

    def as_dict(self) -> dict[str, Any]:
        """The five scores at the top level, everything else further down; numbers that do not exist are None."""
        out: dict[str, Any] = {name: self[name] for name in HEADLINE}
        for section, table in self.table.groupby("section", sort=False):
            place = out
            for part in str(section).split("/"):
                place = place.setdefault(part, {})
            for name, *numbers, n in table.drop(columns="section").itertuples(index=False):
                place[name] = dict(zip(("value", "ci_low", "ci_high"), numbers, strict=True)) | {"n": int(n)}
        confusion = {row: counts.to_dict() for row, counts in self.confusion.iterrows()}
        found: dict[str, Any] = jsonable(out | {"labels": self.labels, "confusion": confusion} | dict(self.facts))
        return found


def score(
    answers: AnswerSheet,
    lexicon: Lexicon,
    *,
    neighbours: Neighbours | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scores:
    """Every score of `answers`.

    The five of the paper (section `scores`): VRate, valid rows / rows; AccL, words named exactly / labels of all rows;
    AccV, labels whose word and answer have equal vectors / labels of all rows; F1V and AccV-2, binary F1 (0 where both
    vectors are zero) and share of equal dimensions, means over the labels of valid rows. A word that the lexicon lacks
    is the zero vector. A dimension counts as present if its value is above 0.

    Args:
        neighbours: stands in for words that even the fall-backs do not find, in section `with_fallbacks` alone.
        resamples: bootstrap resamples over posts; 0 gives no intervals.
    """
    exact = pair_up(answers, lexicon)
    wide = exact.with_lookup(lexicon.lookup(exact.words, fallbacks=True, neighbours=neighbours))
    lenient = pair_up(answers, lexicon, strict=False)
    bootstrap = Bootstrap(numbered(answers.posts), resamples, seed)
    columns = [
        *under("scores", headline(exact)),
        *under("without_all_zero_pairs", without_empty(exact)),
        *under("with_fallbacks", headline(wide)),
        *under("with_fallbacks/without_all_zero_pairs", without_empty(wide)),
        *under("lenient_parsing", headline(lenient)),
        *detail(exact, answers),
    ]
    estimates = bootstrap.ratios(
        np.stack([c.numerator for c in columns], 1), np.stack([c.denominator for c in columns], 1)
    )
    names = pd.DataFrame({"section": [c.section for c in columns], "name": [c.name for c in columns]})
    table = pd.concat([names, pd.DataFrame(estimates._asdict())], axis=1).assign(n=[c.n for c in columns])
    return Scores(
        table=table,
        labels=label_table(exact, answers, bootstrap),
        confusion=confusion(exact),
        facts=_facts(answers, exact, wide, lexicon, resamples, seed),
    )


def _facts(
    answers: AnswerSheet, exact: Pairs, wide: Pairs, lexicon: Lexicon, resamples: int, seed: int
) -> dict[str, Any]:
    reasons: dict[str, list[int]] = {}
    for row, reason in zip(answers.rows, exact.reasons, strict=True):
        if reason:
            reasons.setdefault(reason, []).append(row)
    return {
        "rows": {
            "read": answers.n_read,
            "scored": len(answers.rows),
            "posts": len(set(answers.posts)),
            "skipped": answers.problems.as_dict(),
            "invalid_answers": {reason: {"n": len(rows), "rows": rows[:1000]} for reason, rows in reasons.items()},
        },
        "unknown_words": {
            "gold": _unknown(exact, exact.gold),
            "predicted": _unknown(exact, exact.predicted),
            "predicted_after_fallbacks": _unknown(wide, wide.predicted),
        },
        "settings": {
            "lexicon": lexicon.name,
            "lexicon_words": len(lexicon.words),
            "lexicon_words_all_zero": int((~bits(lexicon.vectors).any(1)).sum()),
            "lexicon_identity": lexicon.identity,
            "dimensions": list(DIMENSIONS),
            "basic_emotions": list(BASIC),
            "resamples": resamples,
            "clustered_by": "post",
            "seed": seed,
        },
    }


def _unknown(pairs: Pairs, codes: Sequence[int] | Array) -> dict[str, int]:
    """Words without an entry, most frequent first."""
    count = np.bincount(codes, minlength=len(pairs.words))
    unknown = np.flatnonzero((pairs.lookup.found == UNKNOWN) & (count > 0))
    ranked = sorted(unknown, key=lambda code: (-count[code], pairs.words[code]))
    return {pairs.words[code]: int(count[code]) for code in ranked}
