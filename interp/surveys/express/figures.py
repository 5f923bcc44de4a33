"""Figures of a comparison: data frames in, plotly figures out."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import RUNS, add_dots, add_heat, styled
from interp.surveys.express.plutchik import WHEEL

SCORES = (
    ("scores", "VRate", "readable (VRate)"),
    ("scores", "AccL", "own word (AccL)"),
    ("scores", "AccV", "same vector (AccV)"),
    ("without_all_zero_pairs", "AccV", "AccV, no all-zero"),
    ("scores", "F1V", "overlap (F1V)"),
    ("without_all_zero_pairs", "F1V", "F1V, no all-zero"),
    ("scores", "AccV-2", "equal parts (AccV-2)"),
    ("sentiment", "agreement", "same sentiment"),
    ("similarity", "cosine", "cosine"),
)


LEAST_SPOKES = 5
"""Emotions that must be named at all by one of the entries for the wheel to say anything."""


def headline(table: pd.DataFrame, entries: Sequence[str]) -> go.Figure:
    """Every score of every entry with its interval."""
    keyed = table.set_index(["entry", "section", "name"])
    rows = {entry: keyed.loc[[(entry, section, name) for section, name, _ in SCORES]] for entry in entries}
    return _dots(rows, [title for *_, title in SCORES], "score")


def emotions(table: pd.DataFrame, entries: Sequence[str]) -> go.Figure:
    """F1 of the eight basic emotions with intervals, neighbours as on Plutchik's wheel."""
    return _dots({entry: _wheel(table, entry) for entry in entries}, WHEEL, "F1", n="gold n")


def radar(table: pd.DataFrame, entries: Sequence[str]) -> go.Figure | None:
    """F1 of the eight basic emotions on Plutchik's wheel; None where it would be no area but a few spokes."""
    if not any((_wheel(table, entry)["value"] > 0).sum() >= LEAST_SPOKES for entry in entries):
        return None
    figure = go.Figure()
    for number, entry in enumerate(entries):
        values = _wheel(table, entry)["value"].tolist()
        figure.add_scatterpolar(
            r=[*values, values[0]],
            theta=[*WHEEL, WHEEL[0]],
            name=entry,
            line={"color": RUNS[number % len(RUNS)], "width": 2},
            marker={"symbol": number % 8, "size": 7},
            mode="lines+markers",
            connectgaps=True,
            hovertemplate="%{theta}: F1 %{r:.3f}",
        )
    line = "rgba(125,133,144,.35)"
    ticks = {"angle": 22.5, "tickangle": 22.5, "tickfont_size": 11, "tickvals": [0.25, 0.5, 0.75]}
    figure.update_polars(
        bgcolor="rgba(0,0,0,0)",
        radialaxis={"range": [0, 1], "gridcolor": line, "linecolor": line, **ticks},
        angularaxis={"gridcolor": line, "linecolor": line, "rotation": 90, "direction": "clockwise"},
        domain={"x": [0.12, 0.88]},
    )
    return styled(figure, 440).update_layout(margin_t=40)


def confusions(matrices: Sequence[tuple[str, pd.DataFrame]]) -> go.Figure:
    """Of the labels whose gold word has the row's emotion, the share whose answer has the column's, per entry.

    Args:
        matrices: by entry, of those with valid answers.
    """
    columns = min(2, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[name for name, _ in matrices],
        horizontal_spacing=0.14,
        vertical_spacing=0.32 / rows,
    )
    for place, (_, counts) in enumerate(matrices):
        gold = counts.attrs["gold"]
        counts = counts.loc[[label for label in counts.index if gold[label] > 0]]
        shares = counts.div(gold[counts.index], axis=0)
        add_heat(
            figure,
            shares.set_axis([f"{label} ({int(gold[label])})" for label in shares.index]),
            "gold %{y}, answer %{x}: %{customdata} (%{z:.0%})",
            customdata=counts.to_numpy(),
            row=1 + place // columns,
            col=1 + place % columns,
        )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-40)
    return styled(figure, 460 * rows)


def _wheel(table: pd.DataFrame, entry: str) -> pd.DataFrame:
    """F1 of one entry, in the order of the wheel."""
    scores = table[(table["entry"] == entry) & (table["name"] == "f1")].set_index("section")
    return scores.loc[[f"dimensions/{emotion}" for emotion in WHEEL]]


def _dots(rows: Mapping[str, pd.DataFrame], lines: Sequence[str], axis: str, n: str = "n") -> go.Figure:
    """A line of dots per row of the tables, entries side by side within it."""
    figure = go.Figure()
    for number, (entry, table) in enumerate(rows.items()):
        add_dots(figure, table, range(len(lines)), entry, number, len(rows), n=n)
    figure.update_yaxes(tickvals=list(range(len(lines))), ticktext=list(lines), autorange="reversed", showgrid=False)
    figure.update_xaxes(range=[-0.02, 1.02], title_text=axis)
    return styled(figure, 90 + len(lines) * max(34, 16 * len(rows))).update_yaxes(zeroline=False)
