"""Figures of emotion trees: which emotions are near each other in the answers and in a layer, and how these agree."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import INK, THIN, colours, styled
from interp.texts.emotions import TO_EKMAN, TOGETHER

SURE = 0.7
"""Support from which a branch is marked."""
SOURCES = {"residuals": "#0072B2", "features": "#009E73"}
BESIDE = {"answers": ("solid", "with the answers"), "grouping": ("dash", "with Ekman's six")}
"""What trees are compared with: the line, and its words."""
UNITS = {"answers": "nats of log-odds between them"}
ANGLE = "1 - cosine of their means"


class DrawnBranch(NamedTuple):
    """A branch as it is drawn: its emotions, how high it is, and in which line it stands."""

    emotions: frozenset[str]
    height: float
    line: float


def emotion_trees(trees: pd.DataFrame, layer: int, labels: Sequence[str]) -> go.Figure:
    """The answers' tree, and beside it that of a layer's features."""
    own = [("answers", trees[trees["source"] == "answers"])]
    own += [("features", trees[(trees["source"] == "features") & (trees["layer"] == layer)])]
    own = [(source, rows.sort_values("merge")) for source, rows in own if len(rows)]
    titles = {
        "answers": "mistaken for each other in the answers",
        "features": f"alike in the features of layer {layer}",
    }
    figure = make_subplots(
        rows=1, cols=len(own), subplot_titles=[titles[source] for source, _ in own], horizontal_spacing=0.2
    )
    shade = shades(labels)
    most = 0
    for column, (source, rows) in enumerate(own, 1):
        order = leaves(rows)
        most = max(most, len(order))
        _tree(figure, rows, order, shade, column)
        figure.update_yaxes(
            tickvals=list(range(len(order))),
            ticktext=order,
            range=[len(order) - 0.5, -0.5],
            showgrid=False,
            zeroline=False,
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text=UNITS.get(source, ANGLE), rangemode="tozero", row=1, col=column)
    return styled(figure, 110 + max(19 * most, 220))


def tree_agreement(table: pd.DataFrame) -> go.Figure:
    """How far the trees of every layer agree with that of the answers to other texts; filled: p < 0.05."""
    figure = go.Figure()
    of_layers = table[table["layer"].notna()]
    for (beside, (dash, words)), (source, colour) in product(BESIDE.items(), SOURCES.items()):
        rows = of_layers[(of_layers["source"] == source) & (of_layers["beside"] == beside)].sort_values("layer")
        if not len(rows):
            continue
        sure = rows["p"] < 0.05
        figure.add_scatter(
            x=rows["layer"],
            y=rows["correlation"],
            name=f"{source}, {words}",
            mode="lines+markers",
            line={"color": colour, "width": 1.4, "dash": dash},
            marker={"size": 9, "color": [colour if x else "rgba(0,0,0,0)" for x in sure]}
            | {"line": {"color": colour, "width": 1.6}},
            customdata=rows[["p", "emotions", "n"]],
            hovertemplate="layer %{x}: %{y:.2f}, p = %{customdata[0]:.3g}, %{customdata[1]} emotions,"
            " n = %{customdata[2]:,}",
        )
    ceiling = table[(table["beside"] == "answers") & (table["source"] == "answers")]
    if len(ceiling):
        figure.add_hline(
            y=float(ceiling["correlation"].iloc[0]), line={"color": INK, "dash": "dot", "width": 1.2}, layer="below"
        )
    figure.add_hline(y=0, line=THIN)
    figure.update_xaxes(title_text="layer")
    figure.update_yaxes(title_text="correlation")
    return styled(figure, 320)


def leaves(rows: pd.DataFrame) -> list[str]:
    """The emotions from top to bottom, so that no lines of the tree cross."""
    order: dict[frozenset[str], list[str]] = {}
    found: list[str] = []
    for row in rows.itertuples():
        sides = [_emotions(side) for side in (row.left, row.right)]
        found = [name for side in sides for name in order.get(side, sorted(side))]
        order[sides[0] | sides[1]] = found
    return found


def shades(labels: Sequence[str]) -> dict[str, str]:
    """A colour for every emotion; finer emotions have that of the one of Ekman's six which they are a shade of."""
    own = colours([*labels, *sorted({*TO_EKMAN.values()})])
    fine = sum(label in TO_EKMAN for label in labels) > len({*TO_EKMAN.values()})
    return {label: own[TO_EKMAN.get(label, label) if fine else label] for label in labels}


def _tree(figure: go.Figure, rows: pd.DataFrame, order: Sequence[str], shade: dict[str, str], column: int) -> None:
    drawn = {frozenset([name]): DrawnBranch(frozenset([name]), 0.0, float(i)) for i, name in enumerate(order)}
    for row in rows.itertuples():
        sides = [drawn[_emotions(side)] for side in (row.left, row.right)]
        branch = DrawnBranch(
            sides[0].emotions | sides[1].emotions, float(row.height), (sides[0].line + sides[1].line) / 2
        )
        drawn[branch.emotions] = branch
        for side in sides:
            figure.add_scatter(
                x=[side.height, branch.height, branch.height],
                y=[side.line, side.line, branch.line],
                mode="lines",
                line={"color": _colour(side, shade), "width": 2},
                hoverinfo="skip",
                showlegend=False,
                row=1,
                col=column,
            )
    whole = drawn[frozenset(order)]  # a branch in every resample, which says nothing
    merged = [drawn[_emotions(r.left) | _emotions(r.right)] for r in rows.itertuples()]
    shown = [(b, r) for b, r in zip(merged, rows.itertuples(), strict=True) if b is not whole]
    figure.add_scatter(
        x=[branch.height for branch, _ in shown],
        y=[branch.line for branch, _ in shown],
        mode="markers",
        marker={"size": 7, "color": [INK if row.support >= SURE else "rgba(0,0,0,0)" for _, row in shown]}
        | {"line": {"color": INK, "width": 1.2}},
        customdata=[[row.left, row.right, row.support] for _, row in shown],
        hovertemplate="%{customdata[0]} | %{customdata[1]}<br>at %{x:.3f}, support %{customdata[2]:.0%}<extra></extra>",
        showlegend=False,
        row=1,
        col=column,
    )


def _colour(branch: DrawnBranch, shade: dict[str, str]) -> str:
    found = {shade.get(name, INK) for name in branch.emotions}
    return found.pop() if len(found) == 1 else INK


def _emotions(side: str) -> frozenset[str]:
    return frozenset(side.split(TOGETHER))
