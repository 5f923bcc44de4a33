"""Figures of causal features: one by one, how concentrated, taken out and put in together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.effect_rows import effects_on
from interp.analysis.rules import CONTROL_QUANTILE
from interp.report.looks import DIVERGING, INK, PHASES, add_heat, colours, error_bars, faded, styled

SHOWN = 40
"""Features of an emotion that its ladder shows, those of largest effect."""
COLUMNS = 3
ROW, BETWEEN_ROWS = 250, 58
"""Pixels of a row of the ladder's panels, and of what lies between two rows: ticks and a title."""
CELL = "features of %{y}, %{x}: %{text}"


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
        panel = {"row": i // COLUMNS + 1, "col": i % COLUMNS + 1}
        own = found[found["emotion"] == label]
        control = own[own["control"].astype(bool)]["effect"]
        best = own[~own["control"].astype(bool)].sort_values("effect", ascending=False, kind="stable").head(SHOWN)
        rank = np.arange(1, len(best) + 1)
        for number, phase in enumerate(phases):
            inside = (best["phase"] == phase).to_numpy()
            part = best[inside]
            if part.empty:
                continue
            colour = PHASES[number % len(PHASES)]
            figure.add_scatter(
                x=rank[inside],
                y=part["effect"],
                error_y=error_bars(part, "effect", thickness=0.8, color=faded(colour, 0.6)),
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
                **panel,
            )
        if len(control):  # behind the points, yet after them: plotly draws no band in an empty panel
            low, high = control.quantile(1 - CONTROL_QUANTILE), control.quantile(CONTROL_QUANTILE)
            edge = {"color": "rgba(140,140,140,.9)", "width": 1, "dash": "dot"}
            figure.add_hrect(y0=low, y1=high, fillcolor="rgba(140,140,140,.35)", line=edge, layer="below", **panel)
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
        limits = (-most, most)
        add_heat(figure, change, CELL, form="{:+.2f}", least=0, limits=limits, scale=DIVERGING, row=1, col=1)
    causal = inserted[~inserted["control"].astype(bool)]
    sources = [label for label in labels if label in set(causal["emotion"])]
    if sources:
        targets = [t for t in (*labels, "neutral") if t in set(causal["target"])]
        share = causal.pivot(index="emotion", columns="target", values="follows").reindex(
            index=sources, columns=targets
        )
        add_heat(figure, share, CELL, least=0, row=1, col=2)
    figure.update_yaxes(autorange="reversed", title_text="features of", row=1, col=1)
    figure.update_yaxes(autorange="reversed", row=1, col=2)
    figure.update_xaxes(title_text="answer", row=1, col=1)
    figure.update_xaxes(title_text="texts of", row=1, col=2)
    return styled(figure, 380)


def joint_removal(joint: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Effect of the k strongest causal features together, beside as many controls."""
    whole = joint[joint["phase"] == "all"]
    palette = colours(labels)
    figure = go.Figure()
    for label in labels:
        for control in (False, True):
            curve = whole[(whole["emotion"] == label) & (whole["control"].astype(bool) == control)].sort_values("k")
            if curve.empty:
                continue
            figure.add_scatter(
                x=curve["k"],
                y=curve["effect"],
                error_y=error_bars(curve, "effect", thickness=1, width=2),
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
