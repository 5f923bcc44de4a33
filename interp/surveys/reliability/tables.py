"""What the terminal shows: one row per measure, its interval, kappa, and what a constant answerer would get."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from interp.surveys.reliability.bias import Bias
from interp.surveys.reliability.compared import NAMES, ComparedRun, common_measures
from interp.surveys.reliability.emotion_scoring import EmotionReliability
from interp.surveys.reliability.measures import Share
from interp.surveys.reliability.running import ReliabilityRun
from interp.surveys.reliability.scoring import Reliability
from interp.surveys.terminal import interval, print_table
from interp.terminal import Screen

UNDERSTOOD = 0.5
"""Below this share of prompts with an option on top, the user is told that answers are guesses."""


def print_reliability(found: Reliability, *, title: str) -> None:
    """The overall measures, and what could not be measured."""
    _print_measures(found.measures, title=title, by="question")
    lines = []
    top = found.measures.get("top")
    if top is not None and top.value < UNDERSTOOD:
        lines += [
            f"An option is the likeliest token for {top.value:.0%} of the plain prompts: this model hardly",
            "understands that it is to choose, and the other shares say how it guesses.",
        ]
    lines += [f"{n} questions could not be measured for: {NAMES[measure]}." for measure, n in found.skipped.items()]
    if found.unanswered:
        lines.append(f"{found.unanswered} prompts got no answer (no option likelier than the other).")
    lines += [f"{n} x {kind}." for kind, n in found.problems.counts().items()]
    _print_lines(lines)


def print_emotions(found: EmotionReliability, *, title: str) -> None:
    _print_measures(found.measures, title=title, by="text")
    _print_lines([f"{found.unanswered} prompts got no answer."] if found.unanswered else [])


def print_run(run: ReliabilityRun, *, model: str) -> None:
    """Everything one run found."""
    if run.questionnaire is not None:
        print_reliability(run.questionnaire, title=f"{model}: questionnaire")
    if run.emotions is not None:
        print_emotions(run.emotions, title=f"{model}: emotions")
    lines = []
    if run.whole_answers:
        lines.append(
            f"{run.whole_answers} prompts have options that begin with the same token:"
            " they were scored by the probability of the whole answer."
        )
    if run.cut:
        lines.append(f"{run.cut} prompts had their text cut to fit the context.")
    _print_lines(lines)
    if run.changes is not None:
        print_changes(run.changes, run.state)


def print_changes(changes: pd.DataFrame, state: str) -> None:
    """Measures of the steered model beside the unsteered one, paired by question; `state` says how it is steered."""
    rows = [
        [
            NAMES.get(r.measure, r.measure),
            f"{r.before:.3f}",
            f"{r.after:.3f}",
            interval(r.change, r.ci_low, r.ci_high),
            str(r.n),
        ]
        for r in changes.itertuples()
    ]
    columns = ("measure", "unsteered", "steered", "change", "questions")
    print_table(columns, rows, title=state, caption="change [95 % interval], paired by question")


def print_bias(found: Bias) -> None:
    """The preference for the first place before and after, and the features behind it."""
    rows = [
        [
            str(r.layer),
            str(r.feature),
            f"{r.firing_difference:+.3f}",
            interval(r.effect, r.ci_low, r.ci_high),
            "yes" if r.chosen else "",
        ]
        for r in found.features.head(12).itertuples()
    ]
    columns = ("layer", "feature", "order effect", "bias it makes (nats)", "removed")
    print_table(columns, rows, title="features of position bias")
    lines = [
        f"preference for the first place (nats), {name}: {interval(*e[:3])}, n = {e.n} held-out texts"
        for name, e in (("before", found.before), ("after", found.after), ("change of its size", found.change))
    ]
    if not found.steering.layers:
        lines.append("No set of features lowered the bias on the texts for choosing: the steering is none.")
    _print_lines(lines)


def print_comparison(runs: Sequence[ComparedRun]) -> None:
    """A row per measure, a column per run."""
    rows = [
        [NAMES[measure], *(_with_kappa(run.measures.get((part, measure))) for run in runs)]
        for part, measure in common_measures(runs)
    ]
    caption = "share [95 % interval], then kappa where there is one"
    print_table(["measure", *(run.name for run in runs)], rows, caption=caption, wrap=True)


def _print_measures(measures: Mapping[str, Share], *, title: str, by: str) -> None:
    rows = [
        [
            NAMES[name],
            interval(s.value, s.low, s.high),
            str(s.n),
            interval(s.kappa, s.kappa_low, s.kappa_high, digits=2),
            "-" if math.isnan(s.constant) else f"{s.constant:.3g}",
        ]
        for name, s in measures.items()
    ]
    caption = f"95 % intervals, resampled by {by}; constant: who always says the same"
    print_table(("measure", "share", "n", "kappa", "constant"), rows, title=title, caption=caption)


def _with_kappa(share: Share | None) -> str:
    if share is None:
        return "-"
    kappa = "" if math.isnan(share.kappa) else f", {share.kappa:.2f}"
    return interval(share.value, share.low, share.high) + kappa


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        Screen().print(line)
