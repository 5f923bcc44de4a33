"""Figures of steering: what changes for each emotion, how much is too much, at what price, from how many examples."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import FURTHER, INK, THIN, add_curve, colours, error_bars, hover, styled

SEEN = 0.06
"""Prices and rises shown at first; beyond them nobody wants a steering (zoom out to see)."""
METHOD_COLOURS = {
    "steered": "#D55E00",
    "coupled": "#D55E00",
    "prior": "#CC79A7",
    "whole_residual": "#7F6BB3",
    "answer_bias": "#0072B2",
    "answer_prior": "#56B4E9",
    "probe": "#66A61E",
    "gated": "#D55E00",
    "global": "#0072B2",
    "targeted": "#009E73",
    "amplify": "#E6A700",
    "vector": "#9467BD",
    "random_features": "#8C8C8C",
    "random_directions": "#8C8C8C",
    "mean_difference": "#A6761D",
    "probe_direction": "#56B4E9",
}


def recall_changes(evaluation: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Recall of every emotion before and after, with the paired interval of the change, a column per test corpus."""
    corpora = [c for c in dict.fromkeys(evaluation["corpus"]) if c != "plain text"]
    figure, places, height = _grid([corpora[i : i + MOST_BESIDE] for i in range(0, len(corpora), MOST_BESIDE)], 210)
    palette = colours(labels)
    for corpus, place in zip(corpora, places, strict=True):
        part = evaluation[evaluation["corpus"] == corpus]
        before = part[part["method"] == "unsteered"].set_index("metric")["value"]
        steered = part[part["method"] == "steered"].set_index("metric")
        for label in labels:
            if f"recall_gain_{label}" not in steered.index:
                continue
            start, change = (
                before[f"recall_{label}"],
                steered.loc[f"recall_gain_{label}", ["value", "ci_low", "ci_high"]],
            )
            ends = pd.DataFrame([0 * change, change], dtype=float) + start
            figure.add_scatter(
                x=ends["value"],
                y=[label, label],
                mode="lines+markers",
                line={"color": palette[label], "width": 2},
                marker={"symbol": ["circle-open", "circle"], "size": 9, "color": palette[label]},
                error_x=error_bars(ends, thickness=1, color=palette[label]),
                showlegend=False,
                hovertemplate="recall %{x:.3f}<extra>" + label + "</extra>",
                **place,
            )
        figure.update_xaxes(title_text="recall", range=[-0.05, 1.05], **place)
    return styled(figure, height)


def _grid(rows: Sequence[Sequence[str]], tall: int) -> tuple[go.Figure, list[dict[str, int]], int]:
    """Panels with these titles, at most so many beside each other that each is wide enough; places and height.

    Args:
        tall: pixels of a panel.
    """
    height = len(rows) * tall + (len(rows) - 1) * BETWEEN_ROWS
    figure = make_subplots(
        len(rows),
        max(map(len, rows), default=1),
        subplot_titles=[title for row in rows for title in row],
        specs=[[{} if i < len(row) else None for i in range(max(map(len, rows)))] for row in rows],
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=BETWEEN_ROWS / height if len(rows) > 1 else 0,
    )
    places = [{"row": k, "col": i} for k, row in enumerate(rows, 1) for i in range(1, len(row) + 1)]
    return figure, places, height + AROUND


MOST_BESIDE = 4
"""Panels side by side."""
BETWEEN_ROWS, AROUND = 96, 110
"""Pixels between two rows of panels, and above and below all of them."""
PRICE = "price: perplexity ratio on plain text"
DEAR = 3.0
"""Perplexity ratio from which prices are drawn on a logarithmic axis."""
MOST_PRICES = 6
LEAST_SPAN = 0.01
"""How far the axis of prices reaches below and above 1 at least: what is nothing looks like nothing."""


def gains(evaluation: pd.DataFrame, budget: float | None = None) -> go.Figure:
    """Change of macro-F1 of every method with its paired interval, a column per test corpus, and its price beside it.

    Args:
        budget: perplexity ratio up to which a steering may be chosen; drawn as a dotted line.
    """
    found = evaluation[evaluation["metric"] == "macro_f1_gain"]
    cost = evaluation[evaluation["metric"] == "perplexity_ratio"]
    corpora, methods = list(dict.fromkeys(found["corpus"])), list(dict.fromkeys(found["method"]))
    names = [m.replace("_", " ") for m in methods]
    cost = cost[cost["method"].isin(methods)]
    beside = MOST_BESIDE - bool(len(cost))
    rows = [corpora[i : i + beside] for i in range(0, len(corpora), beside)]
    if len(cost):  # once, beside the first gains
        rows[0] = [*rows[0], PRICE]
    figure, places, height = _grid(rows, 30 + 26 * len(methods))
    for title, place in zip([title for row in rows for title in row], places, strict=True):
        if title == PRICE:
            own = cost.drop_duplicates("method").set_index("method").reindex(methods)
            _estimates(figure, own, names, place, ".3f")
            figure.add_vline(x=1, line=THIN, **place)
            if budget is not None:
                figure.add_vline(x=budget, line={"color": "#D55E00", "width": 1, "dash": "dot"}, **place)
            figure.update_xaxes(title_text="1: nothing changes", **_price_axis(own), **place)
            continue
        own = found[found["corpus"] == title].set_index("method").reindex(methods)
        _estimates(figure, own, names, place, "+.3f")
        figure.add_vline(x=0, line=THIN, **place)
        figure.update_xaxes(title_text="change of macro-F1", **place)
    figure.update_yaxes(autorange="reversed", type="category", categoryorder="array", categoryarray=names)
    return styled(figure, height)


def _price_axis(cost: pd.DataFrame) -> dict[str, Any]:
    """Logarithmic where one method costs so much that the others' prices could not be told apart."""
    most = float(cost[["value", "ci_high"]].max().max())
    if most < DEAR:
        return {}
    least = min(1.0, float(cost[["value", "ci_low"]].clip(lower=0.01).min().min()))
    ticks = [k * 10.0**power for power in range(-2, 13) for k in (1, 3)]
    shown = [tick for tick in ticks if 0.8 * least <= tick <= 1.2 * most]
    decades = shown[next(i for i, tick in enumerate(shown) if np.isclose(np.log10(tick) % 1, 0)) :: 2]
    ends = [float(np.log10(least)) - 0.06, float(np.log10(most)) + 0.06]
    few = shown if len(shown) <= MOST_PRICES else decades[:: -(-len(decades) // MOST_PRICES)]
    words = [f"{tick:,g}" if tick < 1e5 else f"10<sup>{np.log10(tick):.0f}</sup>" for tick in few]
    return {"type": "log", "range": ends, "tickvals": few, "ticktext": words}


def _estimates(figure: go.Figure, table: pd.DataFrame, names: Sequence[str], place: dict[str, int], form: str) -> None:
    """A point with its interval per method, the chosen steering as a diamond."""
    methods = list(table.index)
    told = hover(table, "x", form, before="%{y}: ")
    figure.add_scatter(
        x=table["value"],
        y=list(names),
        error_x=error_bars(table, color=INK),
        mode="markers",
        marker={
            "color": [METHOD_COLOURS.get(m, "#666666") for m in methods],
            "size": [11 if m == "steered" else 7 for m in methods],
            "symbol": ["diamond" if m == "steered" else "circle" for m in methods],
        },
        showlegend=False,
        customdata=told["customdata"],
        hovertemplate=told["hovertemplate"] + "<extra></extra>",
        **place,
    )


def dose_response(dose: pd.DataFrame) -> go.Figure:
    """Change of macro-F1 of the chosen steering over its strength, by corpus; below, what it costs in language."""
    figure = make_subplots(
        2, 1, shared_xaxes=True, vertical_spacing=0.1, subplot_titles=["change of macro-F1", "perplexity ratio"]
    )
    chosen = dose[(dose["method"] == "steered") & (dose["corpus"] != "plain text")]
    for i, (corpus, curve) in enumerate(chosen.groupby("corpus", sort=False)):
        colour = FURTHER[i % len(FURTHER)]
        add_curve(figure, curve.sort_values("strength"), "strength", str(corpus), colour, row=1, col=1)
    cost = dose[(dose["corpus"] == "plain text") & (dose["method"] == "perplexity_ratio")].sort_values("strength")
    if len(cost):
        add_curve(figure, cost, "strength", "plain text", "#666666", row=2, col=1)
        known = cost[["value", "ci_low", "ci_high"]]
        ends = [float(known.min().min()), float(known.max().max())]
        if max(abs(end - 1) for end in ends) < LEAST_SPAN:
            figure.update_yaxes(range=[1 - LEAST_SPAN, 1 + LEAST_SPAN], row=2, col=1)
    strengths = sorted(set(chosen["strength"]))
    figure.update_xaxes(type="log", tickvals=strengths, ticktext=[f"{s:g}" for s in strengths])
    figure.update_xaxes(title_text="strength (1: as chosen)", row=2, col=1)
    figure.add_hline(y=0, line=THIN, row=1, col=1)
    return styled(figure, 540)


def price(dose: pd.DataFrame, handled: Collection[str], methods: Sequence[str]) -> go.Figure:
    """Every method from mild to strong: mean rise on the other corpora against the largest fall on a handled one."""
    figure = go.Figure()
    table = prices(dose, handled)
    for method in methods:
        part = table[table["method"] == method].sort_values("strength")
        if part.empty:
            continue
        figure.add_scatter(
            x=part["price"],
            y=part["rise"],
            error_y=error_bars(part, "rise", thickness=0.7, width=4),
            mode="lines+markers",
            name=method.replace("_", " "),
            line={"color": METHOD_COLOURS.get(method, "#1B9E77"), "width": 3 if method == "steered" else 1.5},
            text=[f"strength {s:g}" for s in part["strength"]],
            hovertemplate="%{text}: rise %{y:+.3f}, price %{x:.3f}<extra>" + method + "</extra>",
        )
    figure.add_hline(y=0, line=THIN)
    figure.add_vline(x=0.01, line=THIN | {"dash": "dot"})
    title = "price: largest fall of macro-F1 on a corpus the model handles"
    figure.update_xaxes(title_text=title, range=[-0.002, SEEN])
    figure.update_yaxes(title_text="rise of macro-F1 elsewhere", range=[-SEEN, SEEN])
    return styled(figure, 480)


def prices(dose: pd.DataFrame, handled: Collection[str]) -> pd.DataFrame:
    """method, strength, price, rise, ci_low, ci_high: the rise is a mean over corpora, its interval likewise."""
    scored = dose[dose["corpus"] != "plain text"]
    inside = scored["corpus"].isin(handled)
    key = ["method", "strength"]
    fall = (-scored[inside].groupby(key)["value"].min()).clip(lower=0).rename("price")
    rise = scored[~inside].groupby(key)[["value", "ci_low", "ci_high"]].mean()
    rise.columns = ["rise", "ci_low", "ci_high"]
    return rise.join(fall, how="inner").reset_index()


def learning_curve(learning: pd.DataFrame) -> go.Figure:
    """Macro-F1's change by number of labelled examples of each emotion, a column per corpus."""
    corpora = list(dict.fromkeys(learning["corpus"]))
    sizes = sorted(set(learning["labels"]))
    places = {size: i for i, size in enumerate(sizes)}  # evenly spaced, so that none at all has its place too
    figure, spots, height = _grid([corpora[i : i + MOST_BESIDE] for i in range(0, len(corpora), MOST_BESIDE)], 300)
    for number, (corpus, place) in enumerate(zip(corpora, spots, strict=True)):
        for method, curve in learning[learning["corpus"] == corpus].groupby("method", sort=False):
            panel = {**place, "showlegend": number == 0}
            colour = METHOD_COLOURS.get(str(method), "#1B9E77")
            own = curve.assign(place=curve["labels"].map(places)).sort_values("place")
            add_curve(figure, own, "place", str(method).replace("_", " "), colour, **panel)
        figure.add_hline(y=0, line=THIN, **place)
        figure.update_xaxes(title_text="labels per emotion", **place)
        figure.update_xaxes(tickvals=list(places.values()), ticktext=[str(s) for s in sizes], **place)
    figure.update_yaxes(title_text="change of macro-F1", col=1)
    return styled(figure, height)
