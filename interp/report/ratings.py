"""Figures of ratings: which layer knows them, whether answers move with them as people's do, valence and arousal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.surgery_methods import DIRECTION, FEATURES, METHODS, WITHIN
from interp.report.looks import INK, RUNS, THIN, add_curve, colours, error_bars, faded, hover, styled

MOST_CURVES, MOST_BANDS = 6, 3
"""Ratings with a curve of their own, those that are read best; more than three show their interval at one layer."""
MOST_DOSED = 4
"""Ratings whose doses are shown."""
PLANE = ("valence", "arousal")
"""The ratings that span the circumplex (Russell 1980)."""
BESIDE = {
    "residuals": ("residuals, best layer", "#0072B2", "circle"),
    "features": ("features, best layer", "#009E73", "diamond"),
    "within emotions": ("residuals, within emotions", "#9467BD", "square"),
    "emotion": ("no model: the text's emotion", "#E6A700", "triangle-up"),
    "lexicon": ("no model: a lexicon of the whole corpus", "#CC79A7", "triangle-down"),
    "words": ("no model: its words", "#D55E00", "x"),
    "length": ("no model: its length", "#8C8C8C", "cross"),
}
"""What reads a rating: its name, colour and symbol."""


def plain(name: str) -> str:
    """A rating as words."""
    return name.replace("_", " ")


def curves(probes: pd.DataFrame, ratings: pd.DataFrame) -> go.Figure:
    """R squared by layer of the ratings that are read best, over the band of shuffled ratings."""
    figure = go.Figure()
    shuffled = probes[probes["method"] == "shuffled"].groupby("layer")[["value", "ci_low", "ci_high"]].mean()
    layers = [int(k) for k in shuffled.index]
    figure.add_scatter(
        x=[*layers, *layers[::-1]],
        y=[*shuffled["ci_high"], *shuffled["ci_low"][::-1]],
        fill="toself",
        fillcolor=faded(INK, 0.35),
        mode="lines",
        line_width=0,
        name="shuffled ratings, 95 % of them",
        hoverinfo="skip",
    )
    best = ratings.sort_values("value", ascending=False, kind="stable").head(MOST_CURVES)["rating"]
    for name, colour in zip(best, RUNS, strict=False):
        own = probes[(probes["rating"] == name) & (probes["method"] == "residuals")].sort_values("layer")
        if len(best) <= MOST_BANDS:
            add_curve(figure, own, "layer", plain(name), colour)
            continue
        at = own[own["value"] == own["value"].max()].head(1)
        figure.add_scatter(
            x=own["layer"], y=own["value"], name=plain(name), mode="lines+markers", line_color=colour, **hover(own, "y")
        )
        figure.add_scatter(
            x=at["layer"],
            y=at["value"],
            error_y=error_bars(at, width=4, thickness=1.6),
            mode="markers",
            marker={"color": colour, "size": 10},
            showlegend=False,
            hoverinfo="skip",
        )
    span = [layers[0] - 0.5, layers[-1] + 0.5]
    figure.update_xaxes(title_text="layer", dtick=1 if len(layers) < 20 else None, range=span)
    figure.update_yaxes(title_text="R² on held-out texts")
    return styled(figure, 380)


def beside(probes: pd.DataFrame, ratings: pd.DataFrame) -> go.Figure:
    """R squared of every rating from the best layer, within emotions there, and from what needs no model."""
    order = list(ratings.sort_values("value", kind="stable")["rating"])
    place = {name: i for i, name in enumerate(order)}
    layer = probes["rating"].map(ratings.set_index("rating")["layer"])
    shown = probes[probes["layer"].isna() | (probes["layer"] == layer)]
    of_features = probes[probes["method"] == "features"]
    best = of_features.loc[of_features.groupby("rating")["value"].idxmax()] if len(of_features) else of_features
    shown = pd.concat([shown[shown["method"] != "features"], best])
    present = [method for method in BESIDE if (shown["method"] == method).any()]
    figure = go.Figure()
    for number, method in enumerate(present):
        name, colour, symbol = BESIDE[method]
        own = shown[shown["method"] == method]
        shift = 0.5 * ((len(present) - 1) / 2 - number) / max(len(present) - 1, 1)
        figure.add_scatter(
            x=own["value"],
            y=[place[rating] + shift for rating in own["rating"]],
            error_x=error_bars(own, color=faded(colour, 0.6)),
            mode="markers",
            name=name,
            marker={"color": colour, "symbol": symbol, "size": 7},
            **hover(own, "x"),
        )
    figure.add_vline(x=0, line=THIN)
    figure.update_yaxes(tickvals=list(place.values()), ticktext=[plain(name) for name in order], showgrid=False)
    figure.update_yaxes(range=[-0.6, len(order) - 0.4])
    low = min(float(shown["value"].min()) - 0.03, -0.05)
    figure.update_xaxes(title_text="R² on held-out texts", range=[max(low, -0.4), None])
    return styled(figure, 130 + 34 * len(order))


def sign_agreement(pairs: pd.DataFrame, agreement: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """What a rating does to an answer against how people's ratings go with the emotion, a panel a method."""
    shown = [method for method in METHODS if method in set(agreement["method"])]
    share = agreement.set_index("method")["agreement"]
    titles = [f"{method}: {share[method]:.0%} of signs agree" for method in shown]
    columns = min(3, max(1, len(shown)))
    rows = -(-len(shown) // columns)
    height = 90 + 310 * rows
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=titles,
        horizontal_spacing=0.07,
        vertical_spacing=90 / (height - 100),
    )
    told = pairs.dropna(subset=["human"])
    sure = (told["human_low"] > 0) | (told["human_high"] < 0)
    for i, method in enumerate(shown):
        panel = {"row": i // columns + 1, "col": i % columns + 1}
        for label, colour in colours(labels).items():
            own = told[(told["method"] == method) & (told["emotion"] == label)]
            if not len(own):
                continue
            figure.add_scatter(
                x=own["human"],
                y=own["effect"],
                error_y=error_bars(own, "effect", thickness=0.8, color=faded(colour, 0.5)),
                mode="markers",
                name=label,
                legendgroup=label,
                showlegend=False,
                marker={
                    "color": colour,
                    "size": 7,
                    "symbol": ["circle" if s else "circle-open" for s in sure[own.index]],
                },
                customdata=[
                    [plain(r.rating), label, r.human_low, r.human_high, r.ci_low, r.ci_high, r.n]
                    for r in own.itertuples()
                ],
                hovertemplate="%{customdata[0]} and %{customdata[1]}: people %{x:.2f} [%{customdata[2]:.2f},"
                " %{customdata[3]:.2f}], model %{y:.3f} [%{customdata[4]:.3f}, %{customdata[5]:.3f}] nats,"
                " n = %{customdata[6]:,}<extra></extra>",
                **panel,
            )
        figure.add_hline(y=0, line=THIN, **panel)
        figure.add_vline(x=0, line=THIN, **panel)
        figure.update_xaxes(title_text="people: correlation", **panel)
    for label, colour in colours(labels).items():  # a legend of full circles, whatever a label's first point is
        marker = {"color": colour, "size": 7}
        legend = {"name": label, "legendgroup": label, "showlegend": True}
        figure.add_scatter(x=[None], y=[None], mode="markers", marker=marker, **legend)
    figure.update_yaxes(title_text="model: rise of the answer (nats)", col=1)
    return styled(figure, height)


def doses(table: pd.DataFrame, ratings: pd.DataFrame, labels: Sequence[str]) -> go.Figure | None:
    """Every answer by dose, for the ratings that are read best; None where none is known."""
    known = ratings[ratings["known"].astype(bool)].sort_values("value", ascending=False, kind="stable")
    names = list(known["rating"].head(MOST_DOSED))
    methods = [m for m in (FEATURES, DIRECTION, WITHIN) if (table["method"] == m).any()]
    if not names or not methods:
        return None
    height = 60 + 230 * len(methods)
    figure = make_subplots(
        rows=len(methods),
        cols=len(names),
        shared_xaxes=True,
        subplot_titles=[f"{plain(name)}, {method}" for method in methods for name in names],
        horizontal_spacing=0.045,
        vertical_spacing=40 / (height - 80),
    )
    for row, method in enumerate(methods, 1):
        for column, name in enumerate(names, 1):
            own = table[(table["rating"] == name) & (table["method"] == method)]
            for label, colour in colours(labels).items():
                line = own[own["emotion"] == label].sort_values("dose").rename(columns={"effect": "value"})
                if len(line):
                    add_curve(
                        figure, line, "dose", label, colour, row=row, col=column, showlegend=(row, column) == (1, 1)
                    )
            figure.add_hline(y=0, line=THIN, row=row, col=column)
    figure.update_xaxes(dtick=1)
    figure.update_xaxes(title_text="dose (standard deviations)", row=len(methods))
    figure.update_yaxes(title_text="rise (nats)", col=1)
    return styled(figure, height)


def plane_layer(ratings: pd.DataFrame) -> int:
    """The layer at which the circumplex is drawn: where the first of its ratings is read best."""
    return int(ratings.set_index("rating").loc[PLANE[0], "layer"])


def circumplex(
    norms: pd.DataFrame, positions: pd.DataFrame, ratings: pd.DataFrame, labels: Sequence[str]
) -> go.Figure | None:
    """Emotions in the plane of valence and arousal: for people, and as a layer is read; and causal features.

    None where the corpus does not have both ratings.
    """
    if not {*PLANE} <= {*ratings["rating"]}:
        return None
    layer = plane_layer(ratings)
    of_emotions = positions[(positions["layer"] == layer) & positions["feature"].isna()]
    of_features = positions[positions["feature"].notna()]
    titles = ("people", f"the model, layer {layer}", "causal features, each read at its layer")
    shown = [titles[0]] * bool(len(norms)) + [titles[1]] + [titles[2]] * bool(len(of_features))
    figure = make_subplots(1, len(shown), subplot_titles=shown, horizontal_spacing=0.07)
    ends = {"difference": "value", "difference_low": "ci_low", "difference_high": "ci_high"}
    norms = norms.drop(columns=["ci_low", "ci_high"], errors="ignore").rename(columns=ends)
    parts = {titles[0]: norms.assign(feature=np.nan, layer=0), titles[1]: of_emotions, titles[2]: of_features}
    for column, title in enumerate(shown, 1):
        for label, colour in colours(labels).items():
            own = parts[title][parts[title]["emotion"] == label]
            x, y = (own[own["rating"] == axis].set_index(["layer", "feature"]).sort_index() for axis in PLANE)
            if not len(x):
                continue
            many = title == titles[2]
            bars: dict[str, Any] = {"thickness": 0.6 if many else 1.4, "color": faded(colour, 0.35 if many else 0.7)}
            figure.add_scatter(
                x=x["value"],
                y=y["value"],
                error_x=error_bars(x, **bars),
                error_y=error_bars(y, **bars),
                mode="markers" if many else "markers+text",
                text=None if many else [label],
                textposition="top center",
                textfont={"color": colour},
                name=label,
                legendgroup=label,
                showlegend=column == 1,
                marker={"color": colour, "size": 5 if many else 10},
                customdata=[
                    ["" if np.isnan(key[1]) else f", layer {key[0]}, feature {key[1]:.0f}", int(n)]
                    for key, n in zip(x.index, x["n"], strict=True)
                ],
                hovertemplate=f"{label}%{{customdata[0]}}: valence %{{x:.3f}}, arousal %{{y:.3f}},"
                " n = %{customdata[1]:,}<extra></extra>",
                row=1,
                col=column,
            )
        figure.add_hline(y=0, line=THIN, row=1, col=column)
        figure.add_vline(x=0, line=THIN, row=1, col=column)
        figure.update_xaxes(title_text="valence (standard deviations)", row=1, col=column)
    figure.update_yaxes(title_text="arousal (standard deviations)", col=1)
    return styled(figure, 420)
