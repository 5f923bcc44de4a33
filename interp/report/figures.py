"""What all figures share: one colour per emotion, phases, names of signals, the look of a plot."""

from collections.abc import Sequence

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
INK = "#7d8590"
"""Text and grid: readable on a light and on a dark page."""
PHASES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#7D8590")
"""Colours of phases, in order."""
NAMES = {
    "probe_residuals": "probe on residuals",
    "probe_features": "probe on features",
    "probe_shuffled": "probe, labels shuffled",
    "probe_control": "probe, control task (first word)",
    "selective_features": "selective features",
    "joint_ablation": "joint ablation of the top 16",
    "direct_evidence": "direct evidence",
    "format_share": "share of format features",
    "content_overlap": "overlap between texts",
    "fvu": "unexplained variance (FVU)",
    "neighbour_agreement": "agreement with the next layer",
    "l0": "active features (L0)",
    "entropy_specific": "specific by entropy",
    "entropy_shuffled": "specific by entropy, labels shuffled",
}


def colours(labels: Sequence[str]) -> dict[str, str]:
    """A colour for every label; labels that are no known emotion get the next free one."""
    spare = iter(FURTHER * (1 + len(labels) // len(FURTHER)))
    return {label: COLOURS.get(label) or next(spare) for label in labels}


def faded(colour: str, opacity: float = 0.18) -> str:
    """The colour, see-through."""
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity:g})"


def in_script(text: str) -> str:
    """JSON as it may stand in a script element: without `<`, nothing in it can end the element or begin a comment."""
    return text.replace("<", "\\u003c")


def styled(figure: go.Figure, height: int) -> go.Figure:
    """What all figures share."""
    figure.update_layout(
        height=height,
        margin={"l": 56, "r": 16, "t": 64, "b": 96 if _has_legend(figure) else 48},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        bargap=0.25,
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK},
    )
    axis = {"gridcolor": "rgba(125,133,144,.22)", "zerolinecolor": "rgba(125,133,144,.5)", "automargin": True}
    figure.update_xaxes(**axis, zeroline=False)
    figure.update_yaxes(**axis)
    figure.update_annotations(font_size=13)
    return figure


def _has_legend(figure: go.Figure) -> bool:
    named = [t for t in figure.data if t.name and t.showlegend is not False]
    return len(named) > 1 or any(t.showlegend for t in named)
