"""The layer-phase plot of a run as a page of its own, with the reading by entropy below it."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.findings.layers import EntropyPhases
from interp.findings.measuring import RunFindings
from interp.report.contents import Page, PageFigure, Section
from interp.report.layers import HELD, USED, SignalPanel, layer_phases
from interp.report.page import write_page

ENTROPY = SignalPanel(
    "Features specific by entropy over emotions",
    "share of active features",
    {"entropy_specific": "#0072B2", "entropy_shuffled": "#8C8C8C"},
)


def stem(title: str) -> str:
    """A file name for a run's title."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.") or "run"


def write_figures(found: Sequence[RunFindings], folder: Path) -> dict[str, Path]:
    """`FOLDER/<title>.html` for every run that has something to plot, self-contained; by title."""
    pages = {one.title: Page(one.title, _lead(one), _sections(one)) for one in found}
    return {
        title: write_page(folder / f"{stem(title)}.html", page)
        for title, page in pages.items()
        if any(section.figures for section in page.sections)
    }


def _lead(one: RunFindings) -> str:
    return f"run {one.run.folder.resolve().name} · seed {one.run.config['seed']}"


def _sections(one: RunFindings) -> list[Section]:
    signals, phases = one.run.table("signals"), one.run.json("phases")
    whole = None if signals is None else layer_phases(signals, phases, (*HELD, *USED))
    entropy = None if one.entropy is None else _entropy(one.entropy)
    n = 0 if signals is None else int(signals["n"].max())
    shared = "bands: 95 % bootstrap intervals. Shaded: phases, stretches of layers that behave alike."
    drawn = (
        ("layers", "Layers and phases", whole, f"Points: a layer's value over n = {n:,} discover examples; {shared}"),
        (
            "entropy",
            "By entropy over emotions",
            entropy,
            f"n = {one.entropy.n if one.entropy else 0:,} texts; {shared}",
        ),
    )
    return [
        Section(title, name, [PageFigure(name, title, figure, caption)])
        for name, title, figure, caption in drawn
        if figure is not None
    ]


def _entropy(entropy: EntropyPhases) -> go.Figure | None:
    curve = entropy.curve
    low, high = np.quantile(curve.draws, (0.025, 0.975), axis=0)
    named = {
        "entropy_specific": (curve.specific, low, high),
        "entropy_shuffled": (curve.shuffled, curve.shuffled, curve.shuffled),
    }
    table = pd.concat(
        [
            pd.DataFrame(
                {"layer": curve.layers, "signal": name, "value": v, "ci_low": lo, "ci_high": hi, "n": entropy.n}
            )
            for name, (v, lo, hi) in named.items()
        ],
        ignore_index=True,
    )
    return layer_phases(table, {"phases": entropy.phases.spans()}, (ENTROPY,))
