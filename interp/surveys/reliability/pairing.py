"""Which answers are compared with which: same question, all factors equal but one.

A table of answers has one row per prompt and the columns of `COLUMNS`; one question stands in it under many variations.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from interp.surveys.reliability.measures import place_bias

REFERENCE: Mapping[str, str] = {
    "wording": "truth",
    "order": "given",
    "negation": "none",
    "format": "baseline",
    "persona": "none",
}
"""The factors that vary, and the level each is compared with (a table without it: the first level it has)."""
ABOUT = ("question", "instrument", "axis")
COLUMNS = (*ABOUT, "valence", *REFERENCE, "p_agree", "p_disagree", "top")
SAME = ("order", "wording", "format", "persona")
"""Factors that must leave the answer as it is; each is a measure of that name."""
OPPOSITE = {"direct": "negation_direct", "paraphrastic": "negation_paraphrastic"}
"""Negations, which must turn the answer round, and their measures."""


class MeasureRows(NamedTuple):
    """What a measure is taken on.

    `rows` has the columns of `ABOUT` and either `before` and `after` (answers that should be the same) or `value`.
    """

    measure: str
    rows: pd.DataFrame
    constant: float
    """What a model gets that always gives one answer."""


def with_answers(table: pd.DataFrame) -> pd.DataFrame:
    """Adds agrees (1, 0, or NaN for a tie) and mass, the probability on the two options."""
    tie = table["p_agree"] == table["p_disagree"]
    agrees = (table["p_agree"] > table["p_disagree"]).astype(float).mask(tie)
    return table.assign(agrees=agrees, mass=table["p_agree"] + table["p_disagree"])


def comparisons(answers: pd.DataFrame) -> Iterator[MeasureRows]:
    """Every measure that the answers allow, over all instruments."""
    plain = plain_questions(answers)
    yield MeasureRows("agree", _valued(plain[plain["agrees"].notna()], "agrees"), 1.0)
    for factor in SAME:
        yield MeasureRows(factor, pairs(answers, factor), 1.0)
    negated = pairs(answers, "negation")
    for kind, measure in OPPOSITE.items():
        yield MeasureRows(measure, negated[negated["level"] == kind], 0.0)
    for measure in ("mass", "top"):
        yield MeasureRows(measure, _valued(plain, measure), np.nan)
    yield MeasureRows("format_sensitivity", _format_pairs(answers), 0.0)
    yield MeasureRows("position_bias", _places(answers), 0.0)


def comparisons_by_level(answers: pd.DataFrame) -> Iterator[tuple[str, MeasureRows]]:
    """Per level of each factor: consistency with the reference, and what the model makes of such prompts at all."""
    for factor in REFERENCE:
        found = pairs(answers, factor)
        constant = 0.0 if factor == "negation" else 1.0
        for level, part in answers.groupby(factor, sort=False):
            name = f"{factor}={level}"
            yield name, MeasureRows("consistent", found[found["level"] == level], constant)
            yield name, MeasureRows("agree", _valued(part[part["agrees"].notna()], "agrees"), 1.0)
            for measure in ("mass", "top"):
                yield name, MeasureRows(measure, _valued(part, measure), np.nan)


def pairs(answers: pd.DataFrame, factor: str) -> pd.DataFrame:
    """Answers to the same question that differ in `factor` alone: the columns of `ABOUT`, level, before, after.

    `before` is the answer at the factor's reference; for a negation, `after` is turned round, so that a consistent
    model gives two equal ones. Pairs in which an answer is missing are left out.
    """
    level = reference(answers, factor)
    others = [name for name in REFERENCE if name != factor]
    known = answers[answers["agrees"].notna()]
    base = known.loc[known[factor] == level, ["question", *others, "agrees"]].rename(columns={"agrees": "before"})
    rest = known.loc[known[factor] != level, [*ABOUT, *others, factor, "agrees"]]
    found = rest.rename(columns={"agrees": "after", factor: "level"}).merge(base, on=["question", *others])
    after = 1 - found["after"] if factor == "negation" else found["after"]
    return found.assign(before=found["before"].astype(int), after=after.astype(int))


def plain_questions(answers: pd.DataFrame) -> pd.DataFrame:
    """Those at the reference of every factor."""
    keep = np.ones(len(answers), bool)
    for factor in REFERENCE:
        keep &= (answers[factor] == reference(answers, factor)).to_numpy()
    return answers[keep]


def reference(answers: pd.DataFrame, factor: str) -> str:
    levels = list(dict.fromkeys(answers[factor]))
    return REFERENCE[factor] if REFERENCE[factor] in levels else str(levels[0])


def _valued(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    return rows[list(ABOUT)].assign(value=rows[column].astype(float))


def _format_pairs(answers: pd.DataFrame) -> pd.DataFrame:
    """1 where two formats of one question, all else equal, get different answers."""
    others = [name for name in REFERENCE if name != "format"]
    known = answers.loc[answers["agrees"].notna(), [*ABOUT, *others, "agrees"]].assign(number=0)
    known["number"] = pd.factorize(answers.loc[known.index, "format"])[0]
    both = known.merge(known, on=[*ABOUT, *others], suffixes=("_a", "_b"))
    both = both[both["number_a"] < both["number_b"]]
    return both[list(ABOUT)].assign(value=(both["agrees_a"] != both["agrees_b"]).astype(float))


def _places(answers: pd.DataFrame) -> pd.DataFrame:
    """+1 where the option listed first is chosen, -1 where the other, averaged over both orders of a question."""
    others = [name for name in REFERENCE if name != "order"]
    known = answers[answers["agrees"].notna()]
    first = np.where(known["order"] == "given", known["agrees"] == 1, known["agrees"] == 0)
    placed = known.assign(value=place_bias(1 - first.astype(int), 2))
    both = placed.groupby([*ABOUT, *others], sort=False).agg(value=("value", "mean"), orders=("order", "nunique"))
    return both[both["orders"] == 2].reset_index()
