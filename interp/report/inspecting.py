"""The token view of one text: as a page, and in the terminal."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from rich.console import Group, RenderableType
from rich.table import Table as Lines
from rich.text import Text

from interp.analysis.inspection import Inspection
from interp.report.contents import Page, PageColumn, PageFigure, PageTable, Section
from interp.report.looks import add_heat, colours, styled
from interp.report.page import render
from interp.report.sentences import Sentence

MOST_TOKENS = 120
"""Tokens that are drawn, up to the answer position."""
TERMINAL_TOKENS = 40
BLOCKS = " ▁▂▃▄▅▆▇█"
MOST_TEXT = 400


def inspection_page(found: Inspection, name: str) -> str:
    """The page: one heat map per emotion behind a switch, answers by condition, features with exact effects."""
    maps = [
        PageFigure(f"evidence-{i}", label, evidence_figure(found, i), _caption(label), group="emotion")
        for i, label in _by_probability(found)
    ]
    bars = PageFigure(
        "answers",
        "Answers",
        answers_figure(found),
        "Probability of each emotion as answer: the model as it is; with the features that support its answer most"
        f" removed together; and steered, if the run found a steering.{_unsteered(found)} n = 1 text: no interval, and"
        " no claim beyond it.",
    )
    text = (
        found.text if len(found.text) <= MOST_TEXT else f"{found.text[:MOST_TEXT]} … ({len(found.text):,} characters)"
    )
    cut = [f"{found.cut:,} tokens of the text did not fit the context and were cut from its left."] if found.cut else []
    page = Page(
        title=f"{name}: one text",
        heading=f"What {name} makes of one text",
        lead=text,
        labels=found.labels,
        answer=_said(found),
        sections=[
            Section("Where in the text and the layers", "evidence", maps, short="Layers and tokens"),
            Section("What edits change", "answers", [bars], short="Edits"),
            Section("Features behind the answer", "features", tables=[features_table(found)], short="Features"),
        ],
        notices=cut,
    )
    return render(page)


def _said(found: Inspection) -> list[Sentence]:
    """The answer, from which layer on it can be read where the model answers, and the feature that it hangs on most."""
    at, plain = found.labels.index(found.answer), found.probabilities["plain"]
    others = sorted(zip(plain, found.labels, strict=True), reverse=True)[1:2]
    beside = "".join(f"; next: {label}, {share:.2f}" for share, label in others)
    said = [Sentence("Answer", f"{found.answer} (probability {max(plain):.2f} among the emotions{beside}).")]
    away = np.flatnonzero(found.evidence[:, -1].argmax(-1) != at)
    first = int(away[-1]) + 1 if len(away) else 0
    if first < len(found.evidence):
        where = f"from layer {first} of 0 to {len(found.evidence) - 1} on" if first else "from the first layer on"
        said.append(Sentence("Where", f"{where} {found.answer} is what the residual stream says at the last token."))
    most = max(found.features, key=lambda f: f.effect, default=None)
    if most is not None and most.effect > 0:
        without = most.without[at]
        said.append(
            Sentence(
                "Which feature",
                f"the answer hangs most on feature {most.feature} of layer {most.layer}: without it {found.answer} has"
                f" {without:.2f} instead of {max(plain):.2f} ({most.effect:.2f} nats less).",
            )
        )
    return said


def _unsteered(found: Inspection) -> str:
    """Why a row is missing."""
    return "" if "steered" in found.probabilities else " This run has no steering, so there is no such row."


def _by_probability(found: Inspection) -> list[tuple[int, str]]:
    order = np.argsort(found.probabilities["plain"], kind="stable")[::-1]
    return [(int(i), found.labels[i]) for i in order]


def _caption(label: str) -> str:
    return (
        f"Columns: tokens of the prompt (the last {MOST_TOKENS}); rows: layers; colour: probability of {label} among"
        " the labels if that layer's residual at that token were read out by the final norm and unembedding (logit"
        " lens), n = 1 text; the scale ends at the highest value of any emotion. Only the last column is where the"
        " model answers; elsewhere it shows what is there to be"
        " read, not what is used."
    )


def evidence_figure(found: Inspection, label: int) -> go.Figure:
    """A heat map of one label's evidence: layers by tokens."""
    values = found.evidence[:, -MOST_TOKENS:, label]
    tokens = [t.replace("\n", "⏎").strip() or "·" for t in found.tokens[-MOST_TOKENS:]]
    most = float(found.evidence[:, -MOST_TOKENS:].max(initial=0))
    figure = go.Figure()
    add_heat(
        figure,
        pd.DataFrame(np.round(values, 4)),
        "layer %{y}, token %{customdata}: %{z:.0%}",
        form=None,
        limits=(0, min(1.0, max(np.ceil(20 * most) / 20, 0.05))),
        customdata=[tokens] * len(values),
        showscale=True,
        colorbar={"thickness": 10, "tickformat": ".0%"},
    )
    figure.update_xaxes(tickvals=list(range(len(tokens))), ticktext=[t[:14] for t in tokens], tickangle=-90)
    figure.update_xaxes(tickfont_size=13 if len(tokens) <= 60 else 9)
    figure.update_yaxes(title_text="layer", dtick=1 if len(values) <= 16 else None)
    return styled(figure, 150 + 22 * len(values))


def answers_figure(found: Inspection) -> go.Figure:
    """Bars of the labels' probabilities, one a condition."""
    palette = colours(found.labels)
    figure = go.Figure()
    names = list(found.probabilities)
    for i, label in enumerate(found.labels):
        figure.add_bar(
            y=names,
            x=[found.probabilities[n][i] for n in names],
            name=label,
            orientation="h",
            marker_color=palette[label],
            hovertemplate=f"%{{y}}: {label} %{{x:.1%}}<extra></extra>",
        )
    figure.update_layout(barmode="stack", legend_traceorder="normal")
    figure.update_xaxes(range=[0, 1.002], tickformat=".0%")
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 90 + 50 * len(names))


def features_table(found: Inspection) -> PageTable:
    """A row per feature behind the answer."""
    columns = [
        PageColumn("layer, feature", "feature"),
        PageColumn("activation", "number"),
        PageColumn(f"effect on {found.answer} (nats)", "number", sign=True),
        PageColumn("answer without it"),
        PageColumn(f"{found.answer} without it", "share", 1),
        PageColumn("found causal for"),
    ]
    target = found.labels.index(found.answer)
    rows = [
        [
            [f.layer, f.feature],
            f.activation,
            f.effect,
            found.labels[int(np.argmax(f.without))],
            f.without[target],
            ", ".join(f.causal_for) or "-",
        ]
        for f in found.features
    ]
    note = (
        "Proposed by attribution, decided by exact ablation at the answer position, one feature at a time. Positive:"
        " the feature supports the answer; negative: it works against it. n = 1 text. The last column is what the run"
        " found on its discover examples."
    )
    return PageTable("features", "Features behind the answer", columns, rows, note)


# ------------------------------------------------------------------------------------------ terminal


def inspection_lines(found: Inspection) -> RenderableType:
    """What a terminal shows: answers by condition, a block per token and layer, features."""
    parts: list[RenderableType] = [_answer_lines(found), _token_lines(found), _feature_lines(found)]
    if found.cut:
        parts.insert(0, Text(f"{found.cut} tokens of the text did not fit the context and were cut from its left."))
    return Group(*parts)


def _answer_lines(found: Inspection) -> Lines:
    table = Lines(title=Text(f"answers: {found.answer}", style="table.title"))
    table.add_column("")
    for label in found.labels:
        table.add_column(Text(label), justify="right")
    for name, values in found.probabilities.items():
        table.add_row(Text(name), *(_strong(f"{v:.2f}", v == max(values)) for v in values))
    return table


def _token_lines(found: Inspection) -> Lines:
    """A row per token, a block per layer: how high, the probability of the answer there."""
    at = found.labels.index(found.answer)
    values = found.evidence[:, -TERMINAL_TOKENS:, at]
    cut = len(found.tokens) > TERMINAL_TOKENS
    table = Lines(
        title=Text(f"{found.answer} at every token, layer 0 to {len(values) - 1}", style="table.title"),
        caption=f"the last {TERMINAL_TOKENS} of {len(found.tokens)} tokens" if cut else None,
        box=None,
    )
    table.add_column("token", justify="right")
    table.add_column("0 to 1", no_wrap=True)
    for token, column in zip(found.tokens[-TERMINAL_TOKENS:], values.T, strict=True):
        shown = token.replace("\n", "⏎").strip() or "·"
        table.add_row(Text(shown[:24]), Text("".join(BLOCKS[round(8 * float(v))] for v in column), style="blue"))
    return table


def _feature_lines(found: Inspection) -> Lines:
    table = Lines(title="features behind the answer (exact, one at a time)")
    for column in ("layer", "feature", "activation", "effect (nats)", "answer without", "probability", "causal for"):
        table.add_column(column, justify="right" if column not in ("answer without", "causal for") else "left")
    for (layer, feature), activation, effect, answer, share, causal in features_table(found).rows:
        cells: Sequence[str] = (f"{layer}", f"{feature}", f"{activation:.2f}", f"{effect:+.3f}", answer, f"{share:.2f}")
        table.add_row(*(Text(c) for c in (*cells, causal)))
    return table


def _strong(text: str, strong: bool) -> Text:
    return Text(text, style="bold" if strong else "")
