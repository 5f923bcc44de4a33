"""Figures of a comparison: data frames in, plotly figures out."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.figures import INK
from interp.surveys.express.plutchik import BASIC, WHEEL

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E6A700", "#56B4E9", "#7570B3", "#666666")
"""After Okabe & Ito, told apart under the common colour blindnesses."""
SCORES = (
    ("scores", "VRate", "VRate"),
    ("scores", "AccL", "AccL"),
    ("scores", "AccV", "AccV"),
    ("without_all_zero_pairs", "AccV", "AccV, no all-zero pairs"),
    ("scores", "F1V", "F1V"),
    ("without_all_zero_pairs", "F1V", "F1V, no all-zero pairs"),
    ("scores", "AccV-2", "AccV-2"),
    ("sentiment", "agreement", "same sentiment"),
    ("similarity", "cosine", "cosine"),
)


def headline(table: pd.DataFrame, entries: Sequence[str]) -> go.Figure:
    """Every score of every entry with its interval."""
    figure = go.Figure()
    keyed = table.set_index(["entry", "section", "name"])
    for number, entry in enumerate(entries):
        own = keyed.loc[[(entry, section, name) for section, name, _ in SCORES]]
        shift = _shift(number, len(entries))
        figure.add_scatter(
            x=own["value"],
            y=[place + shift for place in range(len(SCORES))],
            error_x=_bars(own),
            mode="markers",
            name=entry,
            marker={"color": PALETTE[number % len(PALETTE)], "size": 9, "symbol": number % 8},
            customdata=own[["ci_low", "ci_high", "n"]],
            hovertemplate="%{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], n = %{customdata[2]}",
        )
    ticks = {"tickvals": list(range(len(SCORES))), "ticktext": [title for *_, title in SCORES]}
    figure.update_yaxes(**ticks, autorange="reversed", showgrid=False)
    figure.update_xaxes(range=[-0.02, 1.02])
    return _styled(figure, 120 + len(SCORES) * max(34, 16 * len(entries)))


def radar(table: pd.DataFrame, entries: Sequence[str]) -> go.Figure:
    """F1 of the eight basic emotions, in the order of Plutchik's wheel, and the same with intervals beside it."""
    figure = make_subplots(
        rows=1,
        cols=2,
        specs=[[{"type": "polar"}, {"type": "xy"}]],
        column_widths=[0.52, 0.48],
        horizontal_spacing=0.14,
    )
    for number, entry in enumerate(entries):
        mine = table[(table["entry"] == entry) & (table["name"] == "f1")].set_index("section")
        own = mine.loc[[f"dimensions/{emotion}" for emotion in WHEEL]]
        colour = PALETTE[number % len(PALETTE)]
        values = own["value"].tolist()
        figure.add_scatterpolar(
            r=[*values, values[0]],
            theta=[*WHEEL, WHEEL[0]],
            name=entry,
            legendgroup=entry,
            line={"color": colour, "width": 2},
            marker={"symbol": number % 8, "size": 7},
            mode="lines+markers",
            connectgaps=True,
            hovertemplate="%{theta}: F1 %{r:.3f}",
            row=1,
            col=1,
        )
        shift = _shift(number, len(entries))
        figure.add_scatter(
            x=values,
            y=[place + shift for place in range(len(WHEEL))],
            error_x=_bars(own),
            mode="markers",
            name=entry,
            legendgroup=entry,
            showlegend=False,
            marker={"color": colour, "size": 8, "symbol": number % 8},
            customdata=own[["ci_low", "ci_high", "n"]],
            hovertemplate="F1 %{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], gold n = %{customdata[2]}",
            row=1,
            col=2,
        )
    ticks = {"tickvals": list(range(len(WHEEL))), "ticktext": list(WHEEL)}
    figure.update_yaxes(**ticks, autorange="reversed", showgrid=False)
    figure.update_xaxes(range=[-0.02, 1.02], title_text="F1")
    line = "rgba(125,133,144,.35)"
    figure.update_polars(
        bgcolor="rgba(0,0,0,0)",
        radialaxis={
            "range": [0, 1],
            "angle": 22.5,
            "tickangle": 22.5,
            "gridcolor": line,
            "tickfont_size": 11,
            "tickvals": [0.25, 0.5, 0.75],
        },
        angularaxis={"gridcolor": line, "rotation": 90, "direction": "clockwise"},
    )
    return _styled(figure, 500)


def confusions(matrices: Sequence[tuple[str, pd.DataFrame]]) -> go.Figure:
    """Of the labels whose gold word has the row's emotion, the share whose answer has the column's, per entry."""
    columns = min(2, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[name for name, _ in matrices],
        horizontal_spacing=0.14,
        vertical_spacing=0.32 / rows,
    )
    labels = [*BASIC, "none"]
    for place, (_, counts) in enumerate(matrices):
        gold = counts.attrs["gold"]
        share = counts.div(gold.where(gold > 0), axis=0)
        text = [[f"{value:.0%}" if value >= 0.005 else "" for value in line] for line in share.to_numpy()]
        figure.add_heatmap(
            z=share.to_numpy(),
            x=labels,
            y=[f"{label} ({int(gold[label])})" for label in labels],
            zmin=0,
            zmax=1,
            colorscale=[[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]],
            showscale=False,
            text=text,
            texttemplate="%{text}",
            customdata=counts.to_numpy(),
            hovertemplate="gold %{y}, answer %{x}: %{customdata} (%{z:.0%})<extra></extra>",
            xgap=1,
            ygap=1,
            row=1 + place // columns,
            col=1 + place % columns,
        )
    figure.update_yaxes(autorange="reversed", showgrid=False)
    figure.update_xaxes(tickangle=-40, showgrid=False)
    return _styled(figure, 460 * rows)


def _shift(number: int, of: int) -> float:
    """Entries stand side by side within a line."""
    return 0.4 * (number - (of - 1) / 2) / max(of - 1, 1)


def _bars(own: pd.DataFrame) -> dict[str, object]:
    """Error bars from interval ends."""
    return {
        "type": "data",
        "symmetric": False,
        "array": (own["ci_high"] - own["value"]).tolist(),
        "arrayminus": (own["value"] - own["ci_low"]).tolist(),
        "thickness": 1.4,
        "width": 3,
    }


def _styled(figure: go.Figure, height: int) -> go.Figure:
    figure.update_layout(
        height=height,
        margin={"l": 56, "r": 24, "t": 88, "b": 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.09, "x": 0},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK},
    )
    axis = {"gridcolor": "rgba(125,133,144,.22)", "zeroline": False, "automargin": True}
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
    return figure
