"""What the terminal shows: one row per measure, its interval, kappa, and what a constant answerer would get."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.box import SIMPLE
from rich.table import Table

from interp.surveys.reliability.bias import Bias
from interp.surveys.reliability.comparing import NAMES, ComparedRun, common_measures
from interp.surveys.reliability.emotion_scoring import EmotionReliability
from interp.surveys.reliability.measures import Share
from interp.surveys.reliability.problems import count
from interp.surveys.reliability.running import Outcome
from interp.surveys.reliability.scoring import Reliability
from interp.terminal import Screen

UNDERSTOOD = 0.5
"""Below this share of prompts with an option on top, the user is told that answers are guesses."""


def print_reliability(found: Reliability, *, title: str) -> None:
    """The overall measures, and what could not be measured."""
    _print_measures(found.measures, title=title, by="question")
    screen = _screen()
    top = found.measures.get("top")
    if top is not None and top.value < UNDERSTOOD:
        screen.print(f"An option is the likeliest token for {top.value:.0%} of the plain prompts: this model hardly")
        screen.print("understands that it is to choose, and the other shares say how it guesses.")
    for measure, n in found.skipped.items():
        screen.print(f"{n} questions could not be measured for: {NAMES[measure]}.")
    if found.unanswered:
        screen.print(f"{found.unanswered} prompts got no answer (no option likelier than the other).")
    for kind, n in count(found.problems).items():
        screen.print(f"{n} x {kind}.")


def print_emotions(found: EmotionReliability, *, title: str) -> None:
    _print_measures(found.measures, title=title, by="text")
    if found.unanswered:
        _screen().print(f"{found.unanswered} prompts got no answer.")


def print_outcome(outcome: Outcome, *, model: str) -> None:
    """Everything one run found, and the folder it is in."""
    screen = _screen()
    if outcome.questionnaire is not None:
        print_reliability(outcome.questionnaire, title=f"{model}: questionnaire")
    if outcome.emotions is not None:
        print_emotions(outcome.emotions, title=f"{model}: emotions")
    if outcome.whole_answers:
        screen.print(
            f"{outcome.whole_answers} prompts have options that begin with the same token:"
            " they were scored by the probability of the whole answer."
        )
    if outcome.cut:
        screen.print(f"{outcome.cut} prompts had their text cut to fit the context.")
    screen.print(str(outcome.folder))


def print_changes(changes: pd.DataFrame, state: str = "steered") -> None:
    """Measures of the steered model beside the unsteered one, paired by question; `state` says how it is steered."""
    table = Table(title=state, caption="change [95 % interval], paired by question", box=SIMPLE, pad_edge=False)
    for column in ("measure", "unsteered", "steered", "change", "questions"):
        table.add_column(column, no_wrap=True)
    for row in changes.itertuples():
        change = interval(row.change, row.ci_low, row.ci_high)
        table.add_row(NAMES.get(row.measure, row.measure), f"{row.before:.3f}", f"{row.after:.3f}", change, str(row.n))
    _screen().print(table)


def print_bias(found: Bias) -> None:
    """The preference for the first place before and after, and the features behind it."""
    screen = _screen()
    table = Table(title="features of position bias", box=SIMPLE, pad_edge=False)
    for column in ("layer", "feature", "order effect", "bias it makes (nats)", "removed"):
        table.add_column(column, no_wrap=True)
    for row in found.features.head(12).itertuples():
        effect = interval(row.effect, row.ci_low, row.ci_high)
        removed = "yes" if row.chosen else ""
        table.add_row(str(row.layer), str(row.feature), f"{row.firing_difference:+.3f}", effect, removed)
    screen.print(table)
    for name, e in (("before", found.before), ("after", found.after), ("change of its size", found.change)):
        screen.print(f"preference for the first place (nats), {name}: {interval(*e[:3])}, n = {e.n} held-out texts")
    if not found.steering.layers:
        screen.print("No set of features lowered the bias on the texts for choosing: the steering is none.")


def print_comparison(runs: Sequence[ComparedRun]) -> None:
    """A row per measure, a column per run."""
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), caption="share [95 % interval], then kappa where there is one")
    table.add_column("measure", no_wrap=True)
    for run in runs:
        table.add_column(run.name)
    for part, measure in common_measures(runs):
        cells = []
        for run in runs:
            share = run.measures.get((part, measure))
            cells.append("-" if share is None else interval(share.value, share.low, share.high) + _kappa(share))
        table.add_row(NAMES[measure], *cells)
    _screen().print(table)


def interval(value: float, low: float, high: float, digits: int = 3) -> str:
    if math.isnan(value):
        return "-"
    kind = ".0e" if 0 < abs(value) < 0.5 * 10**-digits else f".{digits}f"
    return f"{value:{kind}} [{low:{kind}}, {high:{kind}}]"


def _print_measures(measures: Mapping[str, Share], *, title: str, by: str) -> None:
    caption = f"95 % intervals, resampled by {by}; constant: who always says the same"
    table = Table(title=title, caption=caption, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("measure", "share", "n", "kappa", "constant"):
        table.add_column(column, no_wrap=True)
    for measure, share in measures.items():
        kappa = interval(share.kappa, share.kappa_low, share.kappa_high, digits=2)
        constant = "-" if math.isnan(share.constant) else f"{share.constant:.3g}"
        table.add_row(NAMES[measure], interval(share.value, share.low, share.high), str(share.n), kappa, constant)
    _screen().print(table)


def _kappa(share: Share) -> str:
    return "" if math.isnan(share.kappa) else f", {share.kappa:.2f}"


def _screen() -> Screen:
    return Screen()
