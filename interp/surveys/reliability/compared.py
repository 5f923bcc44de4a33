"""Measures of several runs: what they are called, and which run has which."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from interp.surveys.reliability.measures import Share


class MeasureName(NamedTuple):
    """A measure in two words, so that a row fits a terminal of 80 columns, and what it is."""

    short: str
    meaning: str


MEASURES = {
    "agree": MeasureName("agrees", "share of plain statements agreed with"),
    "order": MeasureName("order", "same answer when the options swap places"),
    "wording": MeasureName("wording", "same answer when asked for yes/no or agree/disagree instead of true/false"),
    "format": MeasureName("format", "same answer in another of the nine formats"),
    "persona": MeasureName("persona", "same answer when told who it is"),
    "negation_direct": MeasureName("direct negation", "opposite answer to the statement with a negating word"),
    "negation_paraphrastic": MeasureName(
        "semantic negation", "opposite answer to the opposite statement in other words"
    ),
    "format_sensitivity": MeasureName("formats differ", "share of format pairs with different answers"),
    "accuracy": MeasureName("accuracy", "right in the given order of labels"),
    "accuracy_worst_order": MeasureName("in worst order", "right in the order of labels with the lowest accuracy"),
    "accuracy_every_order": MeasureName("in every order", "right whatever the order of labels"),
    "accuracy_averaged": MeasureName("orders averaged", "right if probabilities are averaged over orders"),
    "flip_rate": MeasureName("flip rate", "other answer in another order of labels"),
    "any_flip": MeasureName("texts that flip", "texts whose answer some order changes"),
    "fleiss_kappa": MeasureName("Fleiss' kappa", "agreement of the orders beyond chance"),
    "mass": MeasureName("probability mass", "probability on the options' likeliest spellings"),
    "top": MeasureName("option on top", "share of prompts whose likeliest next token is an option"),
    "position_bias": MeasureName("position bias", "+1: always the option listed first, -1: always the last"),
}
NAMES = {measure: name.short for measure, name in MEASURES.items()}


@dataclass(frozen=True)
class ComparedRun:
    """One run's overall measures, by (part, measure)."""

    name: str
    record: dict[str, Any]
    measures: dict[tuple[str, str], Share]

    def as_dict(self) -> dict[str, Any]:
        """Name, what was asked by whom, and by part and measure its share, interval, n and kappa."""
        parts = dict.fromkeys(part for part, _ in self.measures)
        return {
            "name": self.name,
            "made_by": self.record["made_by"],
            **{part: {m: share.as_dict() for (p, m), share in self.measures.items() if p == part} for part in parts},
        }


def common_measures(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """(part, measure) that at least one run has, in the order of `NAMES`."""
    present = {key for run in runs for key in run.measures}
    return [(part, m) for part in ("questionnaire", "emotions") for m in NAMES if (part, m) in present]


def constant_of(runs: Sequence[ComparedRun], part: str, measure: str) -> float:
    """What a model gets that always says the same; NaN where that is not defined."""
    return next(r.measures[part, measure].constant for r in runs if (part, measure) in r.measures)
