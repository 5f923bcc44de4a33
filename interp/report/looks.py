"""How figures look: colours, error bars, bands, curves, heat maps with printed cells, and the layout around them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

COLOURS = {
    "anger": "#D55E00",
    "disgust": "#009E73",
    "fear": "#9467BD",
    "joy": "#E6A700",
    "sadness": "#0072B2",
    "surprise": "#CC79A7",
    "neutral": "#8C8C8C",
}
"""One colour per emotion in all figures, told apart under the common colour blindnesses (after Okabe & Ito)."""
FURTHER = ("#56B4E9", "#A6761D", "#66A61E", "#E7298A", "#1B9E77", "#7570B3", "#666666", "#B15928")
"""Colours of labels that are no known emotion, and of corpora."""
RUNS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E6A700", "#56B4E9", "#7570B3", "#666666")
"""Colours of runs and models side by side."""
PHASES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#7D8590")
"""Colours of phases, in order."""
INK = "#7d8590"
"""Text and grid: readable on a light and on a dark page."""
GRID = "rgba(125,133,144,.22)"
THIN = {"color": INK, "width": 1}
"""A line at zero or at what changes nothing."""
BLUES = [[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]]
DIVERGING = [[0, "rgba(213,94,0,1)"], [0.5, "rgba(213,94,0,0)"], [0.5, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]]
"""From a loss to a gain; what does not change shows the page, light or dark."""
ENDS = ["ci_low", "ci_high", "n"]


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for every label; labels that are no known emotion get the next free one."""
    spare = iter(FURTHER * (1 + len(labels) // len(FURTHER)))
    return {label: COLOURS.get(label) or next(spare) for label in labels}


def faded(colour: str, opacity: float = 0.18) -> str:
    """The colour, see-through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def error_bars(table: pd.DataFrame, value: str = "value", **look: Any) -> dict[str, Any]:
    """From a value to the ends of its interval, `ci_low` and `ci_high`."""
    return {
        "type": "data",
        "symmetric": False,
        "array": table["ci_high"] - table[value],
        "arrayminus": table[value] - table["ci_low"],
        "thickness": 1.2,
        "width": 0,
    } | look


def hover(table: pd.DataFrame, along: str, form: str = ".3f", *, before: str = "", n: str = "n") -> dict[str, Any]:
    """What is said of a point: its value along an axis, the interval, and n."""
    low, high = (f"%{{customdata[{i}]:{form}}}" for i in (0, 1))
    text = f"{before}%{{{along}:{form}}} [{low}, {high}], {n} = %{{customdata[2]:,}}"
    return {"customdata": table[ENDS], "hovertemplate": text}


def add_dots(
    figure: go.Figure, table: pd.DataFrame, lines: Sequence[int], name: str, number: int, of: int, **options: Any
) -> None:
    """The values of run `number` with their intervals, one on each of these lines, beside those of the other runs."""
    figure.add_scatter(
        x=table["value"],
        y=[line + 0.4 * (number - (of - 1) / 2) / max(of - 1, 1) for line in lines],
        error_x=error_bars(table, thickness=1.4, width=3),
        mode="markers",
        name=name,
        legendgroup=name,
        marker={"color": RUNS[number % len(RUNS)], "size": 9, "symbol": number % 8},
        **hover(table, "x", n=options.pop("n", "n")),
        **options,
    )


def add_band(figure: go.Figure, table: pd.DataFrame, over: str, colour: str, group: str, **place: Any) -> None:
    """Intervals as one area."""
    figure.add_scatter(
        x=[*table[over], *table[over][::-1]],
        y=[*table["ci_high"], *table["ci_low"][::-1]],
        fill="toself",
        fillcolor=faded(colour),
        mode="lines",
        line_width=0,
        hoverinfo="skip",
        showlegend=False,
        legendgroup=group,
        **place,
    )


def add_curve(figure: go.Figure, table: pd.DataFrame, over: str, name: str, colour: str, **place: Any) -> None:
    """A line with its intervals as a band."""
    where = {key: place[key] for key in ("row", "col") if key in place}
    add_band(figure, table, over, colour, name, **where)
    told = hover(table, "y", before="%{x}: ") if "n" in table else {}
    figure.add_scatter(
        x=table[over],
        y=table["value"],
        name=name.replace("_", " "),
        mode="lines+markers",
        line_color=colour,
        legendgroup=name,
        **told,
        **place,
    )


def add_heat(
    figure: go.Figure,
    values: pd.DataFrame,
    hovertemplate: str,
    *,
    form: str | None = "{:.0%}",
    least: float = 0.005,
    limits: tuple[float, float] = (0, 1),
    scale: list[list[Any]] = BLUES,
    **options: Any,
) -> None:
    """A heat map that shows the page where there is nothing.

    Args:
        form: how a cell's value is printed in it; None: not at all.
        least: what is smaller, whatever its sign, is not printed.
        options: of the trace and its place.
    """
    cells = values.to_numpy(dtype=float)
    printed = (
        {}
        if form is None
        else {
            "text": [["" if np.isnan(v) or abs(v) < least else form.format(v) for v in line] for line in cells],
            "texttemplate": "%{text}",
        }
    )
    options = {"showscale": False, "xgap": 1, "ygap": 1} | printed | options
    figure.add_heatmap(
        z=cells,
        x=list(values.columns),
        y=list(values.index),
        zmin=limits[0],
        zmax=limits[1],
        colorscale=scale,
        hovertemplate=hovertemplate + "<extra></extra>",
        **options,
    )


def styled(figure: go.Figure, height: int) -> go.Figure:
    """What all figures share; `height` holds no legend, room for which is added.

    Panel titles stand at the left over their panels; cells of heat maps have no grid over them.
    """
    room = legend_room(figure, WIDE)
    figure.update_layout(
        height=height + room,
        margin={
            "l": 56,
            "r": 16,
            "t": 56 if figure.layout.annotations or figure.layout.title.text else 16,
            "b": 52 + room,
        },
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        bargap=0.25,
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK},
    )
    axis = {"gridcolor": GRID, "zerolinecolor": "rgba(125,133,144,.5)", "automargin": True}
    axis |= {"title_font_size": 13}
    figure.update_xaxes(**axis, zeroline=False)
    figure.update_yaxes(**axis)
    for trace in figure.select_traces({"type": "heatmap"}):
        for name in (trace.xaxis or "x", trace.yaxis or "y"):
            figure.layout[name[0] + "axis" + name[1:]].update(showgrid=False, zeroline=False, ticks="", ticksuffix=" ")
    starts = {round(sum(x.domain) / 2, 6): x.domain[0] for x in figure.select_xaxes() if x.domain}
    figure.update_traces(marker_line_width=0, selector={"type": "bar"})
    for title in figure.layout.annotations:
        if is_title(title):
            title.update(x=starts.get(round(title.x, 6), title.x), xanchor="left", yshift=4)
    figure.update_annotations(font_size=13)
    return figure


def is_title(annotation: go.layout.Annotation) -> bool:
    """Whether it is a panel's title, as `make_subplots` writes them."""
    own = annotation
    return (own.xref, own.yref, own.yanchor, own.showarrow) == ("paper", "paper", "bottom", False) and not own.name


WIDE, NARROW = 1000, 330
"""Pixels of a legend on a wide page and on a telephone."""


def legend_room(figure: go.Figure, width: int) -> int:
    """Pixels that the legend takes below the plot: entries stand in columns as wide as the longest of them."""
    names = [t.name for t in figure.data if t.name and t.showlegend is not False]
    if len(names) < 2 and not any(t.showlegend for t in figure.data if t.name):
        return 0
    columns = max(1, width // (44 + 7 * max(map(len, names))))
    return 12 + 20 * -(-len(names) // columns)
