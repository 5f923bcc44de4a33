"""Figures of layers: signals with phases, and where the features of each emotion are."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.effect_rows import causal_features
from interp.report.looks import PHASES, add_band, add_heat, faded, hover, styled
from interp.report.signal_names import signal_name

MOST_TICKS = 26
"""Layers with a number on the axis."""
MOST_PRINTED = 16
"""Layers in whose cells values are printed."""
ABOVE = {"showarrow": False, "yref": "paper", "y": 1, "yanchor": "bottom", "yshift": 24}
"""Where phases are numbered: over the title of the first panel."""


class SignalPanel(NamedTuple):
    """A panel of signals, with the colour of each."""

    title: str
    unit: str
    colours: dict[str, str]


HELD = (
    SignalPanel(
        "What the layer holds: answers of a linear probe that are right",
        "share right",
        {
            "probe_residuals": "#0072B2",
            "probe_features": "#009E73",
            "probe_control": "#B15928",
            "probe_shuffled": "#8C8C8C",
        },
    ),
    SignalPanel(
        "Features that tell an emotion from the others (q < 0.05)", "features", {"selective_features": "#CC79A7"}
    ),
    SignalPanel(
        "Format, content, and what the SAE leaves out",
        "share",
        {"format_share": "#E6A700", "content_overlap": "#56B4E9", "fvu": "#666666", "neighbour_agreement": "#9467BD"},
    ),
)
"""What can be read from a layer."""
USED = (
    SignalPanel("What the answer takes from it: loss without its top features", "nats", {"joint_ablation": "#D55E00"}),
    SignalPanel(
        "What it says if read out directly: right answer's log-probability", "nats", {"direct_evidence": "#9467BD"}
    ),
)
"""What the answer takes from a layer."""


def layer_phases(
    signals: pd.DataFrame, phases: Mapping[str, Any] | None, panels: Sequence[SignalPanel]
) -> go.Figure | None:
    """Signals over layers, one panel per kind, intervals as bands, phases as shading; None where there is no signal.

    Layers that were not measured have no point; a dotted line leads over them, and shading changes half-way.
    """
    measured = set(signals["signal"])
    present = [p._replace(colours={s: c for s, c in p.colours.items() if s in measured}) for p in panels]
    present = [p for p in present if p.colours]
    if "fvu" not in measured:  # without SAEs one signal of that panel is left
        alone = {"neighbour_agreement"}
        present = [p._replace(title="Agreement with the next layer") if {*p.colours} == alone else p for p in present]
    if not present:
        return None
    layers = sorted(int(k) for k in signals["layer"].unique())
    figure = make_subplots(
        rows=len(present),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.27 / (len(present) + 1),
        subplot_titles=[p.title for p in present],
    )
    for row, panel in enumerate(present, 1):
        for name, colour in panel.colours.items():
            _signal(figure, signals[signals["signal"] == name].sort_values("layer"), name, colour, row)
        figure.update_yaxes(title_text=panel.unit, row=row, col=1)
    spans = phases["phases"] if phases else []
    for i, (span, (low, high)) in enumerate(zip(spans, shaded(spans, layers), strict=True)):
        colour = faded(PHASES[i % len(PHASES)], 0.13)
        figure.add_vrect(x0=low, x1=high, fillcolor=colour, line_width=0, layer="below")
        figure.add_annotation(x=(low + high) / 2, text=str(span["phase"]), name=f"phase {span['phase']}", **ABOVE)
    if spans:  # once, so that numbers fit over a single layer of many on a telephone
        figure.add_annotation(x=0, xref="paper", xanchor="right", xshift=-5, text="phase", name="phases", **ABOVE)
    ticks = layers if len(layers) <= MOST_TICKS else layers[:: -(-len(layers) // MOST_TICKS)]
    figure.update_xaxes(tickvals=ticks, range=[layers[0] - 0.5, layers[-1] + 0.5])
    figure.update_xaxes(title_text="layer", row=len(present), col=1)
    return styled(figure, 170 * len(present) + 110)


def shaded(spans: Sequence[Mapping[str, int]], layers: Sequence[int]) -> list[tuple[float, float]]:
    """From where to where each phase is shaded: half-way between its layers and its neighbours' that were measured."""
    if not spans:
        return []
    edges = [layers[0] - 0.5]
    for span in spans[1:]:
        before = [k for k in layers if k < span["first"]]
        edges.append((before[-1] + span["first"]) / 2 if before else span["first"] - 0.5)
    return list(pairwise([*edges, layers[-1] + 0.5]))


def runs_of(layers: Sequence[int]) -> list[list[int]]:
    """Consecutive layers together."""
    found: list[list[int]] = []
    for k in layers:
        if found and k == found[-1][-1] + 1:
            found[-1].append(k)
        else:
            found.append([k])
    return found


def _signal(figure: go.Figure, table: pd.DataFrame, name: str, colour: str, row: int) -> None:
    """One signal with its band; layers that were not measured have no point, a dotted line leads over them."""
    layers = [int(k) for k in table["layer"]]
    panel = {"row": row, "col": 1}
    add_band(figure, table, "layer", colour, name, **panel)
    stretches = runs_of(layers)
    if len(stretches) > 1:
        dotted = {"color": colour, "dash": "dot", "width": 1}
        hidden = {"hoverinfo": "skip", "showlegend": False, "legendgroup": name}
        figure.add_scatter(x=layers, y=table["value"], mode="lines", line=dotted, **hidden, **panel)
    gaps = [[before[-1] + 0.5] for before in stretches[:-1]] + [[]]
    places = [k for stretch, gap in zip(stretches, gaps, strict=True) for k in (*stretch, *gap)]
    broken = table.set_index("layer")[["value", "ci_low", "ci_high", "n"]].reindex(places)
    figure.add_scatter(
        x=broken.index,
        y=broken["value"],
        name=signal_name(name).name,
        mode="lines+markers",
        line_color=colour,
        marker_size=6,
        legendgroup=name,
        **hover(broken, "y", before="layer %{x}: "),
        **panel,
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
        panels.append(
            ("features selective for it", count, alone, "%{z} selective, %{customdata} for this emotion alone")
        )
    if effects is not None:
        causal = causal_features(effects)
        total = causal.pivot_table(index="layer", columns="emotion", values="effect", aggfunc="sum")
        number = pd.crosstab(causal["layer"], causal["emotion"])
        shown = "%{z:.2f} nats in all, %{customdata} causal features"
        panels.append(("causal features: summed effect (nats)", total, number, shown))
    figure = make_subplots(
        rows=1, cols=len(panels), subplot_titles=[p[0] for p in panels], shared_yaxes=True, horizontal_spacing=0.05
    )
    for column, (_, values, beside, shown) in enumerate(panels, 1):
        cells, extra = (
            t.T.reindex(index=labels, columns=layers, fill_value=0).fillna(0).rename(columns=str)
            for t in (values, beside)
        )
        most = float(np.max(cells.to_numpy(), initial=0))
        counts = cells.to_numpy().dtype.kind in "iu"
        form, least = ("{:.0f}", 0.5) if counts else ("{:.1f}", 0.05) if most >= 2 else ("{:.2f}", 0.005)
        add_heat(
            figure,
            cells,
            "%{y}, layer %{x}: " + shown,
            form=form if len(layers) <= MOST_PRINTED else None,
            least=least,
            limits=(0, max(most, 1e-9)),
            customdata=extra.to_numpy(),
            row=1,
            col=column,
        )
        figure.update_xaxes(title_text="layer", type="category", row=1, col=column)
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 110 + 42 * max(len(labels), 3))
