"""Figures of layers: signals with phases, and where the features of each emotion are."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.figures import NAMES, PHASES, faded, styled

Panel = tuple[str, str, dict[str, str]]
"""Title, unit, colour by signal."""

REPRESENTATIONAL: tuple[Panel, ...] = (
    (
        "What the layer holds: probe accuracy",
        "accuracy",
        {
            "probe_residuals": "#0072B2",
            "probe_features": "#009E73",
            "probe_control": "#B15928",
            "probe_shuffled": "#8C8C8C",
        },
    ),
    ("Features selective for an emotion (q < 0.05)", "features", {"selective_features": "#CC79A7"}),
    (
        "Format, content and reconstruction",
        "share",
        {
            "format_share": "#E6A700",
            "content_overlap": "#56B4E9",
            "fvu": "#666666",
            "neighbour_agreement": "#9467BD",
        },
    ),
)
CAUSAL: tuple[Panel, ...] = (
    ("What the layer does: effect of removing its top features", "nats", {"joint_ablation": "#D55E00"}),
    ("Read out directly: log-probability of the gold emotion", "nats", {"direct_evidence": "#9467BD"}),
)


def layer_phases(signals: pd.DataFrame, phases: Mapping | None, panels: Sequence[Panel]) -> go.Figure | None:
    """Signals over layers, one panel per kind, intervals as bands, phases as shading; None where there is no signal."""
    present = [(t, u, {s: c for s, c in own.items() if (signals["signal"] == s).any()}) for t, u, own in panels]
    present = [p for p in present if p[2]]
    if not present:
        return None
    figure = make_subplots(
        rows=len(present), cols=1, shared_xaxes=True, vertical_spacing=0.09, subplot_titles=[p[0] for p in present]
    )
    for row, (_, unit, own) in enumerate(present, 1):
        for name, colour in own.items():
            _signal(figure, signals[signals["signal"] == name].sort_values("layer"), name, colour, row)
        figure.update_yaxes(title_text=unit, row=row, col=1)
    for i, span in enumerate(phases["phases"] if phases else []):
        figure.add_vrect(
            x0=span["first"] - 0.5,
            x1=span["last"] + 0.5,
            fillcolor=faded(PHASES[i % len(PHASES)], 0.13),
            line_width=0,
            layer="below",
        )
        middle = (span["first"] + span["last"]) / 2
        label = {"text": f"phase {span['phase']}", "showarrow": False, "yref": "paper", "y": 1, "yshift": 34}
        figure.add_annotation(x=middle, **label)
    figure.update_xaxes(dtick=1 if signals["layer"].nunique() <= 16 else None)
    figure.update_xaxes(title_text="layer", row=len(present), col=1)
    return styled(figure, 190 * len(present) + 140)


def _signal(figure: go.Figure, mine: pd.DataFrame, name: str, colour: str, row: int) -> None:
    x = mine["layer"].tolist()
    figure.add_scatter(
        x=x + x[::-1],
        y=[*mine["ci_high"], *mine["ci_low"][::-1]],
        fill="toself",
        fillcolor=faded(colour),
        mode="lines",
        line_width=0,
        hoverinfo="skip",
        showlegend=False,
        legendgroup=name,
        row=row,
        col=1,
    )
    figure.add_scatter(
        x=x,
        y=mine["value"],
        name=NAMES[name],
        mode="lines+markers",
        line_color=colour,
        marker_size=6,
        legendgroup=name,
        customdata=mine[["ci_low", "ci_high", "n"]],
        hovertemplate="layer %{x}: %{y:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], n = %{customdata[2]}",
        row=row,
        col=1,
    )


def emotion_map(
    selectivity: pd.DataFrame | None, effects: pd.DataFrame | None, layers: Sequence[int], labels: Sequence[str]
) -> go.Figure:
    """Layer by emotion: how many features are selective, and how much the causal ones do together (summed effect)."""
    panels: list[tuple[str, pd.DataFrame, pd.DataFrame, str]] = []
    if selectivity is not None:
        found = selectivity[selectivity["kind"] != "none"]
        count = pd.crosstab(found["layer"], found["emotion"])
        specific = found[found["kind"] == "specific"]
        alone = pd.crosstab(specific["layer"], specific["emotion"])
        panels.append(("selective features", count, alone, "%{z} selective, %{customdata} for this emotion alone"))
    if effects is not None:
        causal = effects[effects["causal"].astype(bool) & (effects["split"] == "discover")]
        total = causal.pivot_table(index="layer", columns="emotion", values="effect", aggfunc="sum")
        number = pd.crosstab(causal["layer"], causal["emotion"])
        shown = "%{z:.2f} nats in all, %{customdata} causal features"
        panels.append(("causal features: summed effect (nats)", total, number, shown))
    figure = make_subplots(
        rows=1, cols=len(panels), subplot_titles=[p[0] for p in panels], shared_yaxes=True, horizontal_spacing=0.05
    )
    for column, (_, values, beside, shown) in enumerate(panels, 1):
        z, extra = (
            t.reindex(index=labels, columns=layers, fill_value=0).fillna(0).to_numpy() for t in (values.T, beside.T)
        )
        form = "{:.0f}" if z.dtype.kind in "iu" else "{:.1f}"
        figure.add_heatmap(
            z=z,
            x=[str(k) for k in layers],
            y=list(labels),
            customdata=extra,
            text=[[form.format(v) if v else "" for v in line] for line in z] if len(layers) <= 16 else None,
            texttemplate="%{text}" if len(layers) <= 16 else None,
            zmin=0,
            zmax=max(float(np.max(z, initial=0)), 1e-9),
            colorscale=[[0, "rgba(0,114,178,0)"], [1, "rgba(0,114,178,1)"]],
            showscale=False,
            xgap=1,
            ygap=1,
            hovertemplate="%{y}, layer %{x}: " + shown + "<extra></extra>",
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text="layer", type="category", row=1, col=column)
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 90 + 46 * max(len(labels), 3))
