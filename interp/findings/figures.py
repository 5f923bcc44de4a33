"""The layer-phase plot of a run as a page of its own, with the reading by entropy below it."""

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from interp.files.folder import writing
from interp.findings.layers import EntropyPhases
from interp.findings.measuring import RunFindings
from interp.report.layers import CAUSAL, REPRESENTATIONAL, Panel, layer_phases

ENTROPY: Panel = (
    "Features specific by entropy over emotions",
    "share of active features",
    {"entropy_specific": "#0072B2", "entropy_shuffled": "#8C8C8C"},
)
STYLE = "body{font:15px/1.5 system-ui,sans-serif;max-width:1000px;margin:1rem auto;color:#222;background:#fff}"


def stem(title: str) -> str:
    """A file name for a run's title."""
    return re.sub(r"[^a-z0-9.]+", "-", title.lower()).strip("-.") or "run"


def write_figures(found: Sequence[RunFindings], folder: Path) -> dict[str, Path]:
    """`FOLDER/<title>.html` for every run that has something to plot, self-contained; by title."""
    folder.mkdir(parents=True, exist_ok=True)
    pages = {}
    for one in found:
        figures = _figures(one)
        if figures:
            path = folder / f"{stem(one.title)}.html"
            with writing(path) as part:
                part.write_text(_page(one.title, figures), encoding="utf-8")
            pages[one.title] = path
    return pages


def _figures(one: RunFindings) -> list[go.Figure]:
    signals, phases = one.run.table("signals"), one.run.json("phases")
    whole = None if signals is None else layer_phases(signals, phases, (*REPRESENTATIONAL, *CAUSAL))
    return [f for f in (whole, None if one.entropy is None else _entropy(one.entropy)) if f is not None]


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


def _page(title: str, figures: Sequence[go.Figure]) -> str:
    parts = [
        f.to_html(include_plotlyjs=False, full_html=False, div_id=f"figure-{i}", config={"displayModeBar": False})
        for i, f in enumerate(figures)
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style><script>{get_plotlyjs()}</script></head>"
        f"<body><h1>{escape(title)}</h1>{''.join(parts)}</body></html>\n"
    )
