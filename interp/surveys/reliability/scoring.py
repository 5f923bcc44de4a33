"""From a table of answers to shares with intervals: overall, per variation, instrument and axis."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from interp.defaults import RESAMPLES
from interp.files.jsonable import jsonable
from interp.surveys.reliability.measures import Share, agreement, cronbachs_alpha, mean_share, split_half
from interp.surveys.reliability.pairing import (
    OPPOSITE,
    REFERENCE,
    SAME,
    MeasureRows,
    comparisons,
    comparisons_by_level,
    pairs,
    with_answers,
)
from interp.texts.problems import Problems

SUMMARY = ("agree", "order", "wording", "negation_direct", "negation_paraphrastic", "mass")
"""What the JSON has at its top level, whether or not it could be measured."""


@dataclass(frozen=True)
class Reliability:
    """Shares of one set of answers, with everything that was left out.

    Attributes:
        measures: over all questions.
        items: tidy; level (all | variation | instrument | axis), name, measure, and the fields of `Share`.
        scales: a row per axis: keyed_agreement, alpha, split_half, items, administrations.
        unanswered: prompts whose two options are equally likely, or to which no answer could be read.
        skipped: questions for which a measure could not be taken, by measure.
    """

    measures: Mapping[str, Share]
    items: pd.DataFrame
    scales: pd.DataFrame
    unanswered: int
    skipped: Mapping[str, int] = field(default_factory=dict)
    problems: Problems = field(default_factory=Problems)

    def as_dict(self) -> dict[str, Any]:
        """The six summary shares at the top level, everything else further down."""
        parts = dict(iter(self.items.groupby("level", sort=False)))
        summary: dict[str, Any] = jsonable(
            {
                **{name: self.measures[name].value if name in self.measures else None for name in SUMMARY},
                "measures": {name: with_interval(share.as_dict()) for name, share in self.measures.items()},
                **{f"by_{level}": nested(part) for level, part in parts.items() if level != "all"},
                "scales": self.scales.to_dict("records"),
                "unanswered": self.unanswered,
                "skipped": dict(self.skipped),
                "problems": {"counts": self.problems.counts(), "rows": [p._asdict() for p in self.problems]},
            }
        )
        return summary


def score(
    table: pd.DataFrame, *, problems: Problems | None = None, resamples: int = RESAMPLES, seed: int = 0
) -> Reliability:
    """All measures of a table of answers.

    `agree`, `mass` and `top` are taken at the reference of every factor (the plain question); `position_bias` over
    questions asked in both orders; consistency over all pairs that differ in one factor alone.

    Args:
        table: with `pairing.COLUMNS`; p_agree and p_disagree are probabilities, equal ones are no answer.
        problems: rows that reading left out, carried through to the result.
        resamples: bootstrap resamples of questions.
    """
    answers = with_answers(table)
    shares: dict[str, Share] = {}
    rows = []
    for (level, name), own in _groups(comparisons(answers)).items():
        for comparison in own:
            share = _share(comparison, resamples, seed)
            rows.append({"level": level, "name": name, "measure": comparison.measure, **share.as_dict()})
            if level == "all":
                shares[comparison.measure] = share
    for name, comparison in comparisons_by_level(answers):
        if len(comparison.rows):
            share = _share(comparison, resamples, seed)
            rows.append({"level": "variation", "name": name, "measure": comparison.measure, **share.as_dict()})
    return Reliability(
        measures=shares,
        items=pd.DataFrame(rows),
        scales=scales(answers),
        unanswered=int(answers["agrees"].isna().sum()),
        skipped=_skipped(answers),
        problems=Problems(problems or ()),
    )


def _groups(found: Iterable[MeasureRows]) -> dict[tuple[str, str], list[MeasureRows]]:
    """All comparisons of everything, of each instrument and of each axis, by (level, name)."""
    groups: dict[tuple[str, str], list[MeasureRows]] = {}
    for comparison in found:
        rows = comparison.rows
        names = {"all": ["all"] * len(rows), "instrument": rows["instrument"].tolist()}
        names["axis"] = (rows["instrument"] + "/" + rows["axis"]).tolist()
        for level, own in names.items():
            for name, part in rows.groupby(own, sort=False):
                groups.setdefault((level, str(name)), []).append(comparison._replace(rows=part))
    return groups


def _share(comparison: MeasureRows, resamples: int, seed: int) -> Share:
    rows = comparison.rows
    options: dict[str, Any] = {"constant": comparison.constant, "resamples": resamples, "seed": seed}
    clusters = rows["question"].tolist()
    if "value" in rows:
        return mean_share(rows["value"].to_numpy(), clusters, **options)
    return agreement(rows["before"].to_numpy(), rows["after"].to_numpy(), clusters, **options)


def scales(answers: pd.DataFrame) -> pd.DataFrame:
    """Per axis: internal consistency over administrations, and the keyed agreement itself.

    An administration is one way of asking (wording, order, format, persona) without negation; an item's score is the
    agreeing option's share of the two, turned round for negatively keyed statements. Only administrations that put all
    of an axis' items count.
    """
    manner = [factor for factor in REFERENCE if factor != "negation"]
    share = answers["p_agree"] / answers["mass"].where(answers["mass"] > 0)
    keyed = answers.assign(
        keyed=share.where(answers["valence"] > 0, 1 - share).where(answers["valence"].notna()),
        manner=answers[manner].astype(str).agg("|".join, axis=1),
    )
    keyed = keyed[(keyed["negation"] == "none") & keyed["keyed"].notna()]
    rows = []
    for (instrument, axis), part in keyed.groupby(["instrument", "axis"], sort=False):
        grid = part.pivot_table(index="manner", columns="question", values="keyed", sort=False).dropna()
        rows.append(
            {
                "instrument": instrument,
                "axis": axis,
                "keyed_agreement": float(part["keyed"].mean()),
                "alpha": cronbachs_alpha(grid.to_numpy()),
                "split_half": split_half(grid.to_numpy()),
                "items": grid.shape[1],
                "administrations": grid.shape[0],
            }
        )
    columns = ["instrument", "axis", "keyed_agreement", "alpha", "split_half", "items", "administrations"]
    return pd.DataFrame(rows, columns=columns)


def _skipped(answers: pd.DataFrame) -> dict[str, int]:
    """How many questions were not asked with a measure's variation, or not answered in it."""
    total = answers["question"].nunique()
    negated = pairs(answers, "negation")
    measured = {m: negated.loc[negated["level"] == kind, "question"] for kind, m in OPPOSITE.items()}
    measured |= {f: pairs(answers, f)["question"] for f in SAME if answers[f].nunique() > 1}
    lacking = {measure: total - questions.nunique() for measure, questions in measured.items()}
    return {measure: n for measure, n in lacking.items() if n}


def with_interval(share: dict[str, Any]) -> dict[str, Any]:
    """`low` and `high` as one `interval`."""
    bounds = ("low", "high", "kappa_low", "kappa_high")
    rest = {name: value for name, value in share.items() if name not in bounds}
    rest["interval"] = [share["low"], share["high"]]
    return {**rest, "kappa_interval": [share["kappa_low"], share["kappa_high"]]}


def nested(part: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """{name: {measure: share}}."""
    shares: dict[str, dict[str, Any]] = {}
    for row in part.drop(columns="level").to_dict("records"):
        shares.setdefault(row.pop("name"), {})[row.pop("measure")] = with_interval(row)
    return shares
