"""The same figure for a telephone: panels one below another, titles in lines that fit, room for a taller legend."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import plotly.graph_objects as go

from interp.report.looks import NARROW, WIDE, is_title, legend_room

TITLE = 40
"""Letters of a title in one line."""
TICKS, TITLED, LINE = 60, 38, 17
"""Pixels between panels for ticks and for a title, and for a further line of it."""
LEAST = 190
"""Pixels of a panel that stood beside others."""
LONGEST = {"x": 22, "y": 20}
"""Letters of a word at an axis."""
MOST_WIDE = 1100
"""Pixels of a plot on a wide page, all but a few."""
LETTER, TURNED = 7, 40
"""Pixels of a letter, and of a turned word for which there is room anyway."""
MOST_TICKS = 12
FOR_A_PANEL = 200
"""Pixels of width that a panel needs beside others."""


@dataclass(frozen=True)
class Panel:
    """A pair of axes and where they are, as shares of the plot."""

    x: str
    y: str
    left: tuple[float, float]
    height: tuple[float, float]


def panels_of(figure: go.Figure) -> list[Panel]:
    """In the order of the axes' numbers, which is that of reading."""
    pairs = dict.fromkeys((t.xaxis or "x", t.yaxis or "y") for t in figure.data if "xaxis" in t)
    axes = [(_axis(x), _axis(y)) for x, y in sorted(pairs, key=lambda p: int(p[0][1:] or 1))]
    domains = [(x, y, figure.layout[x].domain or (0, 1), figure.layout[y].domain or (0, 1)) for x, y in axes]
    return [Panel(x, y, tuple(left), tuple(height)) for x, y, left, height in domains]


def columns_of(figure: go.Figure) -> int:
    """How many panels stand side by side."""
    return max(1, len({p.left for p in panels_of(figure)}))


def width_needed(figure: go.Figure) -> int:
    """Pixels below which the narrow layout is the better one: panels too small, or titles that run into each other."""
    starts = sorted({p.left[0] for p in panels_of(figure)})
    widths = {round(a, 6): b - a for a, b in pairwise([*starts, 1.0])}
    titles = [a for a in figure.layout.annotations if is_title(a) and len(starts) > 1]
    room = [LETTER * len(a.text) / widths.get(round(a.x, 6), 1) for a in titles]
    margins = max(_margin(figure), figure.layout.margin.l or 0)
    return max(560, FOR_A_PANEL * columns_of(figure), min(int(max(room, default=0)) + margins, MOST_WIDE))


def narrow_layout(figure: go.Figure) -> dict[str, Any]:
    """The figure's layout, without its template, for a plot of about 360 pixels."""
    own = go.Figure(layout=figure.layout)
    panels = panels_of(figure)
    titles = [a for a in own.layout.annotations if is_title(a)]
    lines, letters = 1, _letters(figure)
    for title in titles:
        wrapped = textwrap.wrap(title.text, letters) or [""]
        lines = max(lines, len(wrapped))
        title.update(text="<br>".join(wrapped), align="left")
    margin = own.layout.margin
    top = margin.t + LINE * (lines - 1)
    room = legend_room(figure, NARROW)
    turned = _turned(figure)
    below = margin.b - legend_room(figure, WIDE) + room + turned
    inside = own.layout.height - margin.t - margin.b
    for mark in own.layout.annotations:
        if mark.name:
            mark.yshift = (mark.yshift or 0) + LINE * (lines - 1)
    for axis in own.select_xaxes():
        _thin(axis)
    _short(own, figure, turned > 0)
    if len(panels) > 1 and len(titles) == len(panels):
        inside = _stack(own, panels, titles, inside, LINE * (lines - 1) + turned)
    own.update_layout(height=top + inside + below, margin={"l": 44, "r": 8, "t": top, "b": below})
    layout: dict[str, Any] = own.to_plotly_json()["layout"]
    return {name: value for name, value in layout.items() if name != "template"}


def _stack(own: go.Figure, panels: list[Panel], titles: list[Any], inside: float, more: float) -> float:
    """Moves every panel and its title below the one before; the height of all panels together.

    Args:
        more: pixels between two panels for what is longer than usual.
    """
    beside = len({p.left for p in panels}) > 1
    gap = TITLED + more + (TICKS if beside else 0)
    heights = [max(inside * (p.height[1] - p.height[0]), LEAST if beside else 0) for p in panels]
    whole = sum(heights) + gap * (len(panels) - 1)
    tops = [1 - (sum(heights[:i]) + gap * i) / whole for i in range(len(panels))]
    for title, top in zip(titles, tops, strict=True):  # both in the order of reading
        title.update(x=0, y=top, xanchor="left")
    for i, panel in enumerate(panels):
        bottom = max(tops[i] - heights[i] / whole, 0)
        own.layout[panel.y].domain = (bottom, tops[i])
        if beside:
            own.layout[panel.x].update(domain=(0, 1), showticklabels=True)
            own.layout[panel.y].showticklabels = True
    return whole


def _letters(figure: go.Figure) -> int:
    """That fit into a line of a title, which begins where the plot does: right of the longest word of an axis."""
    return min(TITLE, int((NARROW + 24 - max(_margin(figure), 44)) / LETTER))


def _margin(figure: go.Figure) -> int:
    """Pixels that the longest word at the left takes."""
    return 24 + LETTER * min(max(map(len, _words(figure, "y")), default=0), LONGEST["y"])


def _turned(figure: go.Figure) -> int:
    """Pixels that words below a panel take beyond the usual, where they do not fit unless they are turned."""
    words = _words(figure, "x")
    longest = min(max(map(len, words), default=0), LONGEST["x"])
    if LETTER * longest * len(words) < NARROW - _margin(figure):
        return 0
    return max(0, LETTER * longest - TURNED)


def _short(own: go.Figure, figure: go.Figure, turned: bool) -> None:
    """Words at axes are not longer than fits: in lines at the left, cut below; the whole is said on hover.

    Args:
        turned: whether those below stand upright: slanted ones would take room from the plot.
    """
    for panel in panels_of(figure):
        for along, name in (("x", panel.x), ("y", panel.y)):
            axis, words = own.layout[name], _words(figure, along, name)
            if along == "x" and turned and words:
                axis.tickangle = -90
            if all(len(word) <= LONGEST[along] for word in words):
                continue
            shown = [_fitting(word, LONGEST[along], lines=along == "y") for word in words]
            axis.update(tickvals=list(axis.tickvals) if axis.ticktext else words, ticktext=shown)


def _fitting(word: str, longest: int, *, lines: bool) -> str:
    if lines:
        return "<br>".join(textwrap.wrap(word, longest))
    return word if len(word) <= longest else word[: longest - 1] + "…"


def _words(figure: go.Figure, along: str, name: str | None = None) -> list[str]:
    """What stands along an axis that counts in words; along all of them where none is named."""
    axes = figure.select_xaxes() if along == "x" else figure.select_yaxes()
    named = [str(word) for axis in axes for word in axis.ticktext or () if name in (None, axis.plotly_name)]
    traces = [t for t in figure.data if along in t and t[along] is not None]
    own = [t for t in traces if name in (None, _axis(t[f"{along}axis"] or along))]
    places = [word for trace in own for word in trace[along] if isinstance(word, str)]
    return named or list(dict.fromkeys(places))


def _thin(axis: Any) -> None:
    """No more ticks than fit: numbers are plotly's to choose; of words, every so many is kept, the last among them."""
    values = axis.tickvals
    if values is None or axis.type == "log":
        return
    if axis.ticktext is not None and len(values) > MOST_TICKS:
        step = -(-len(values) // MOST_TICKS)
        axis.update(tickvals=values[::-1][::step][::-1], ticktext=axis.ticktext[::-1][::step][::-1])
    elif axis.ticktext is None and (len(values) > MOST_TICKS or _uneven(values)):
        axis.update(tickvals=None, nticks=8, tickformat="d")


def _uneven(values: Sequence[float]) -> bool:
    return len({b - a for a, b in pairwise(values)}) > 1


def _axis(name: str) -> str:
    return f"{name[0]}axis{name[1:]}"
