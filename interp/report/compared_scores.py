"""Runs side by side: how well each recognises emotions, what steering gained and cost, and emotion by emotion."""

from collections.abc import Mapping, Sequence

import pandas as pd
from plotly.subplots import make_subplots
from statsmodels.stats.proportion import proportion_confint

from interp.report.contents import PageColumn, PageFigure, PageTable
from interp.report.looks import THIN, add_dots, styled
from interp.run.reading import PLAIN, RunFiles, score_of
from interp.statistics import Estimate

SCORES = [
    PageColumn("run"),
    PageColumn("test corpus"),
    PageColumn("n", "number", 0),
    PageColumn("accuracy", "interval"),
    PageColumn("macro-F1", "interval"),
    PageColumn("steering"),
    PageColumn("change of macro-F1", "interval", sign=True),
    PageColumn("price: perplexity ratio", "interval"),
]


def scores_table(runs: Mapping[str, RunFiles]) -> PageTable | None:
    """A row per run and test corpus, the gain of the chosen steering beside its price; None where none was tested."""
    rows = [
        [name, corpus, *cells]
        for name, run in runs.items()
        if (scores := run.table("evaluation")) is not None
        for corpus, cells in _scored(run, scores).items()
    ]
    note = (
        "The unsteered model's accuracy and macro-F1 on test texts; the change is that of the steering which the run"
        " chose on other texts, paired on the same texts; price: perplexity of plain text with it over that without, 1:"
        " nothing lost. 95 % intervals."
    )
    return PageTable("scores", "Recognition, and what steering changed", SCORES, rows, note) if rows else None


def _scored(run: RunFiles, scores: pd.DataFrame) -> dict[str, list[object]]:
    chosen = run.steering
    price = score_of(scores[scores["corpus"] == PLAIN], "steered", "perplexity_ratio") if chosen is not None else None
    found: dict[str, list[object]] = {}
    for corpus, own in scores[scores["corpus"] != PLAIN].groupby("corpus", sort=False):
        accuracy = score_of(own, "unsteered", "accuracy")
        if accuracy is None:
            continue
        gain = score_of(own, "steered", "macro_f1_gain") if chosen is not None else None
        method = "none chosen" if chosen is None else str((run.json("steering") or {}).get("method", "-"))
        macro_f1 = score_of(own, "unsteered", "macro_f1")
        cells = [_cell(e) for e in (accuracy, macro_f1, gain, price)]
        found[str(corpus)] = [accuracy.n, *cells[:2], method.replace("_", " "), *cells[2:]]
    return found


def _cell(estimate: Estimate | None) -> list[float] | None:
    return None if estimate is None else [estimate.value, estimate.low, estimate.high]


def emotions_figure(runs: Mapping[str, RunFiles], emotions: Sequence[str]) -> PageFigure | None:
    """A line per emotion with a dot per run: recall, and what all its causal features are worth; None where unknown."""
    parts = {name: _emotions(run) for name, run in runs.items()}
    panels = [
        (title, axis, measure)
        for title, axis, measure in (
            ("share of its texts answered rightly", "recall", "recall"),
            ("loss without all its causal features", "nats", "removed"),
        )
        if any((part["measure"] == measure).any() for part in parts.values())
    ]
    if not panels:
        return None
    figure = make_subplots(
        1, len(panels), subplot_titles=[p[0] for p in panels], shared_yaxes=True, horizontal_spacing=0.05
    )
    for column, (_, axis, measure) in enumerate(panels, 1):
        for number, (name, part) in enumerate(parts.items()):
            own = part[(part["measure"] == measure) & part["emotion"].isin(emotions)]
            lines = [emotions.index(e) for e in own["emotion"]]
            panel = {"row": 1, "col": column, "showlegend": column == 1}
            add_dots(figure, own, lines, name, number, len(parts), **panel)
        figure.update_xaxes(title_text=axis, row=1, col=column)
        figure.add_vline(x=0, line=THIN, row=1, col=column)
    places = {"tickvals": list(range(len(emotions))), "ticktext": list(emotions)}
    figure.update_yaxes(**places, range=[len(emotions) - 0.5, -0.5], showgrid=False)
    counts = pd.concat([part["n"] for part in parts.values()])
    caption = (
        "Discover examples of each emotion"
        f" (n = {int(counts.min()):,} to {int(counts.max()):,}), 95 % intervals. First: recall of the model as it is."
        " Second: fall of the right answer's log-probability when all causal features of the emotion (at most 32) are"
        " removed together; where a run found none, it has no dot."
    )
    height = 110 + len(emotions) * max(36, 16 * len(parts))
    shown = styled(figure, height).update_yaxes(zeroline=False)
    return PageFigure("by-emotion", "Emotion by emotion", shown, caption)


def _emotions(run: RunFiles) -> pd.DataFrame:
    """measure, emotion, value, ci_low, ci_high, n."""
    columns = ["emotion", "value", "ci_low", "ci_high", "n"]
    found = [pd.DataFrame(columns=["measure", *columns])]
    why, joint = run.table("why"), run.table("joint")
    if why is not None:
        why = why[why["n"] > 0]
        right = (why["recall"] * why["n"]).round()
        low, high = proportion_confint(right, why["n"], method="wilson")
        recall = why[["emotion", "recall", "n"]].rename(columns={"recall": "value"})
        found.append(recall.assign(ci_low=low, ci_high=high, measure="recall"))
    if joint is not None:
        whole = joint[(joint["phase"] == "all") & ~joint["control"].astype(bool)]
        most = whole.sort_values("k").drop_duplicates("emotion", keep="last").rename(columns={"effect": "value"})
        found.append(most[columns].assign(measure="removed"))
    return pd.concat([part for part in found if len(part)] or found, ignore_index=True)
