"""Figures of causes: features one by one, how concentrated, together; confusions; the field's own ablations."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.effect_rows import effects_on
from interp.report.figures import INK, PHASES, colours, faded, styled

BASELINES = {
    "mean difference direction": "#0072B2",
    "probe direction": "#009E73",
    "random direction": "#8C8C8C",
    "attention, zero": "#E6A700",
    "attention, mean": "#D55E00",
    "mlp, zero": "#CC79A7",
    "mlp, mean": "#9467BD",
}


DIVERGING = [[0, "rgba(213,94,0,1)"], [0.5, "rgba(213,94,0,0)"], [0.5, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]]
"""From a loss to a gain; what does not change shows the page, light or dark."""
SHOWN = 40
"""Features of an emotion that its ladder shows, those of largest effect."""
COLUMNS = 3
ROW, BETWEEN_ROWS = 250, 58
"""Pixels of a row of the ladder's panels, and of what lies between two rows: ticks and a title."""
CONTROL_QUANTILE = 0.99


def ladder(effects: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Per emotion, exact effects in order: phase in colour, causal ones filled, controls as a band.

    The first two entries of every point's `customdata` are its layer and feature.
    """
    found = effects_on(effects)
    shown = [label for label in labels if ((found["emotion"] == label) & ~found["control"].astype(bool)).any()]
    rows = max(1, -(-len(shown) // COLUMNS))
    height = 100 + ROW * rows
    figure = make_subplots(
        rows=rows,
        cols=min(COLUMNS, max(1, len(shown))),
        subplot_titles=shown,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=BETWEEN_ROWS / (height - 100),
    )
    phases = sorted(found["phase"].unique())
    for i, label in enumerate(shown):
        at = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        own = found[found["emotion"] == label]
        control = own[own["control"].astype(bool)]["effect"]
        best = own[~own["control"].astype(bool)].sort_values("effect", ascending=False, kind="stable").head(SHOWN)
        place = np.arange(1, len(best) + 1)
        for number, phase in enumerate(phases):
            mine = (best["phase"] == phase).to_numpy()
            part = best[mine]
            if part.empty:
                continue
            colour = PHASES[number % len(PHASES)]
            figure.add_scatter(
                x=place[mine],
                y=part["effect"],
                error_y={
                    "type": "data",
                    "array": part["ci_high"] - part["effect"],
                    "arrayminus": part["effect"] - part["ci_low"],
                    "thickness": 0.8,
                    "width": 0,
                    "color": faded(colour, 0.6),
                },
                mode="markers",
                marker={
                    "color": colour,
                    "size": 8,
                    "symbol": ["circle" if c else "circle-open" for c in part["causal"]],
                },
                legendgroup=f"phase {phase}",
                showlegend=False,
                customdata=part[["layer", "feature", "ci_low", "ci_high", "n", "flip_rate"]],
                hovertemplate=f"{label}: layer %{{customdata[0]}}, feature %{{customdata[1]}}<br>"
                "effect %{y:.3f} [%{customdata[2]:.3f}, %{customdata[3]:.3f}] nats, n = %{customdata[4]}, "
                "answer flips in %{customdata[5]:.0%}<extra></extra>",
                **at,
            )
        if len(control):  # behind the points, yet after them: plotly draws no band in an empty panel
            low, high = control.quantile(1 - CONTROL_QUANTILE), control.quantile(CONTROL_QUANTILE)
            edge = {"color": "rgba(140,140,140,.9)", "width": 1, "dash": "dot"}
            figure.add_hrect(y0=low, y1=high, fillcolor="rgba(140,140,140,.35)", line=edge, layer="below", **at)
    _ladder_legend(figure, [int(p) for p in phases])
    figure.update_yaxes(title_text="effect (nats)", col=1)
    figure.update_xaxes(title_text="rank", row=rows)
    return styled(figure, height)


def _ladder_legend(figure: go.Figure, phases: Sequence[int]) -> None:
    """Colour says the phase, fill says causal: an entry for each, beside the band of the controls."""
    causal = {"size": 9, "color": INK}
    entries = [
        (f"phase {p}", f"phase {p}", {"symbol": "square", "size": 11, "color": PHASES[i % len(PHASES)]})
        for i, p in enumerate(phases)
    ]
    entries += [
        ("filled: causal", "", causal | {"symbol": "circle"}),
        ("hollow: not causal", "", causal | {"symbol": "circle-open"}),
        ("band: random features", "", {"symbol": "line-ew", "size": 16, "line": {"width": 7, "color": "#8C8C8C"}}),
    ]
    for name, group, marker in entries:
        figure.add_scatter(
            x=[None],
            y=[None],
            mode="markers",
            name=name,
            legendgroup=group or name,
            showlegend=True,
            marker=marker,
            hoverinfo="skip",
        )


def concentration(table: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Share of the summed effect held by the strongest causal features, and their effective number."""
    whole = table[(table["phase"] == "all") & (table["n_causal"] > 0)].set_index("emotion")
    shown = [label for label in labels if label in whole.index]
    palette = colours(labels)
    figure = make_subplots(
        rows=1,
        cols=2,
        column_widths=[0.6, 0.4],
        subplot_titles=["share of the summed effect held by the top 1, 5, 10", "effective number of causal features"],
    )
    for k, opacity in ((1, 1.0), (5, 0.65), (10, 0.35)):
        figure.add_bar(
            x=shown,
            y=[whole.loc[label, f"share_top_{k}"] for label in shown],
            name=f"top {k}",
            marker={"color": [palette[label] for label in shown], "opacity": opacity},
            hovertemplate=f"%{{x}}: top {k} hold %{{y:.0%}}<extra></extra>",
            showlegend=False,
            text=[f"top {k}"] * len(shown),
            textposition="inside",
            textangle=-90,
            row=1,
            col=1,
        )
    figure.add_bar(
        x=shown,
        y=[whole.loc[label, "effective_number"] for label in shown],
        marker_color=[palette[label] for label in shown],
        text=[f"{int(whole.loc[label, 'n_causal'])} causal" for label in shown],
        textposition="outside",
        cliponaxis=False,
        showlegend=False,
        hovertemplate="%{x}: effectively %{y:.1f} features<extra></extra>",
        row=1,
        col=2,
    )
    figure.update_yaxes(range=[0, 1], tickformat=".0%", row=1, col=1)
    figure.update_yaxes(title_text="features", rangemode="tozero", row=1, col=2)
    return styled(figure, 360)


def together(moved: pd.DataFrame, inserted: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Change of every answer's probability when causal features go, and which texts follow when they are put in."""
    figure = make_subplots(
        rows=1,
        cols=2,
        subplot_titles=["taken out: change of each answer's probability", "put in: share of answers that follow"],
        horizontal_spacing=0.18,
    )
    removed = [label for label in labels if label in set(moved["emotion"])]
    if removed:
        change = moved.pivot(index="emotion", columns="answer", values="effect").reindex(index=removed, columns=labels)
        most = float(np.nanmax(np.abs(change.to_numpy())))
        _heat(figure, 1, change, "{:+.2f}", -most, most, DIVERGING)
    causal = inserted[~inserted["control"].astype(bool)]
    sources = [label for label in labels if label in set(causal["emotion"])]
    if sources:
        targets = [t for t in (*labels, "neutral") if t in set(causal["target"])]
        share = causal.pivot(index="emotion", columns="target", values="follows").reindex(
            index=sources, columns=targets
        )
        _heat(figure, 2, share, "{:.0%}", 0, 1, [[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]])
    figure.update_yaxes(autorange="reversed", title_text="features of", row=1, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=2)
    figure.update_xaxes(title_text="answer", row=1, col=1)
    figure.update_xaxes(title_text="texts of", row=1, col=2)
    return styled(figure, 380)


def _heat(
    figure: go.Figure, column: int, table: pd.DataFrame, form: str, low: float, high: float, scale: list[list]
) -> None:
    values = table.to_numpy(dtype=float)
    figure.add_heatmap(
        z=values,
        x=list(table.columns),
        y=list(table.index),
        zmin=low,
        zmax=high,
        colorscale=scale,
        showscale=False,
        text=[["" if np.isnan(v) else form.format(v) for v in line] for line in values],
        texttemplate="%{text}",
        hovertemplate="features of %{y}, %{x}: %{text}<extra></extra>",
        xgap=1,
        ygap=1,
        row=1,
        col=column,
    )


def joint_removal(joint: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Effect of the k strongest causal features together, beside as many controls."""
    whole = joint[joint["phase"] == "all"]
    palette = colours(labels)
    figure = go.Figure()
    for label in labels:
        for control in (False, True):
            mine = whole[(whole["emotion"] == label) & (whole["control"].astype(bool) == control)].sort_values("k")
            if mine.empty:
                continue
            figure.add_scatter(
                x=mine["k"],
                y=mine["effect"],
                error_y={
                    "type": "data",
                    "array": mine["ci_high"] - mine["effect"],
                    "arrayminus": mine["effect"] - mine["ci_low"],
                    "thickness": 1,
                    "width": 2,
                },
                mode="lines+markers",
                line={"color": palette[label], "dash": "dot" if control else "solid", "width": 1 if control else 2},
                opacity=0.5 if control else 1,
                name=label,
                legendgroup=label,
                showlegend=not control,
                hovertemplate=f"{label}, %{{x}} {'controls' if control else 'causal'}: %{{y:.2f}} nats<extra></extra>",
            )
    figure.update_xaxes(type="log", title_text="features removed together", tickvals=[1, 2, 4, 8, 16, 32])
    figure.update_yaxes(title_text="effect (nats)")
    return styled(figure, 400)


def baselines(table: pd.DataFrame) -> go.Figure:
    """Mean effect over emotions of the field's ablations, by layer."""
    means = table.groupby(["layer", "method"])["effect"].mean().unstack()
    figure = go.Figure()
    for method, colour in BASELINES.items():
        if method in means:
            figure.add_scatter(x=means.index, y=means[method], mode="lines+markers", name=method, line_color=colour)
    figure.update_xaxes(title_text="layer", dtick=1 if len(means) < 20 else None)
    figure.update_yaxes(title_text="effect (nats)")
    return styled(figure, 400)


def confusion(predictions: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Gold against predicted, as shares of each gold emotion, before and after steering."""
    methods = [m for m in ("unsteered", "steered") if (predictions["method"] == m).any()]
    titles = ["the model as it is", "steered"][: len(methods)]
    figure = make_subplots(rows=1, cols=len(methods), subplot_titles=titles, horizontal_spacing=0.16)
    for column, method in enumerate(methods, 1):
        mine = predictions[predictions["method"] == method]
        count = pd.crosstab(mine["gold"], mine["predicted"]).reindex(index=labels, columns=labels, fill_value=0)
        total = count.sum(axis=1)
        rows = [label for label in labels if total[label] > 0]
        share = count.loc[rows].div(total[rows], axis=0)
        figure.add_heatmap(
            z=share.to_numpy(),
            x=list(labels),
            y=rows,
            zmin=0,
            zmax=1,
            colorscale=[[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]],
            showscale=False,
            text=[[f"{v:.0%}" if v >= 0.005 else "" for v in line] for line in share.to_numpy()],
            texttemplate="%{text}",
            customdata=count.loc[rows].to_numpy(),
            hovertemplate="gold %{y}, answered %{x}: %{customdata} (%{z:.0%})<extra></extra>",
            xgap=1,
            ygap=1,
            row=1,
            col=column,
        )
        figure.update_yaxes(autorange="reversed", title_text="gold" if column == 1 else None, row=1, col=column)
        figure.update_xaxes(title_text="answer", row=1, col=column)
    return styled(figure, 130 + 40 * max(len(labels), 4))
