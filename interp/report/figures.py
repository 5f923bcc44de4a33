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
    "probe_residuals": "probe on the residual stream",
    "probe_features": "probe on SAE features",
    "probe_shuffled": "probe, emotions shuffled",
    "probe_control": "probe, other task (first word)",
    "selective_features": "selective features",
    "joint_ablation": "loss without its top 16 features",
    "direct_evidence": "right answer, read out directly",
    "format_share": "features active in nearly all texts",
    "content_overlap": "features shared by two texts",
    "fvu": "variance the SAE leaves out (FVU)",
    "neighbour_agreement": "agreement with the next layer",
    "l0": "active features (L0)",
    "entropy_specific": "specific by entropy",
    "entropy_shuffled": "specific by entropy, emotions shuffled",
}
UNITS = {
    "probe_residuals": "share right",
    "probe_features": "share right",
    "probe_shuffled": "share right",
    "probe_control": "share right",
    "selective_features": "features",
    "joint_ablation": "nats",
    "direct_evidence": "nats",
    "format_share": "share of active features",
    "content_overlap": "share of active features",
    "fvu": "share of variance",
    "neighbour_agreement": "correlation",
    "l0": "features per text",
    "entropy_specific": "share of features",
    "entropy_shuffled": "share of features",
}
"""What each signal is counted in."""
COUNTS = ("selective_features", "l0")
"""Signals that count something, written without decimals."""


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
    """What all figures share; `height` holds no legend, room for which is added.

    Panel titles stand at the left over their panels; cells of heat maps have no grid over them.
    """
    room = legend_room(figure, WIDE)
    figure.update_layout(
        height=height + room,
        margin={
            "l": 56,
            "r": 16,
            "t": 56 if figure.layout.annotations or figure.layout.title.text else 16,
            "b": 52 + room,
        },
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13, "color": INK},
        legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        bargap=0.25,
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": INK},
    )
    axis = {"gridcolor": "rgba(125,133,144,.22)", "zerolinecolor": "rgba(125,133,144,.5)", "automargin": True}
    axis |= {"title_font_size": 13}
    figure.update_xaxes(**axis, zeroline=False)
    figure.update_yaxes(**axis)
    for trace in figure.select_traces({"type": "heatmap"}):
        for name in (trace.xaxis or "x", trace.yaxis or "y"):
            figure.layout[name[0] + "axis" + name[1:]].update(showgrid=False, zeroline=False, ticks="", ticksuffix=" ")
    starts = {round(sum(x.domain) / 2, 6): x.domain[0] for x in figure.select_xaxes() if x.domain}
    figure.update_traces(marker_line_width=0, selector={"type": "bar"})
    for title in figure.layout.annotations:
        if is_title(title):
            title.update(x=starts.get(round(title.x, 6), title.x), xanchor="left", yshift=4)
    figure.update_annotations(font_size=13)
    return figure


def is_title(annotation: go.layout.Annotation) -> bool:
    """Whether it is a panel's title, as `make_subplots` writes them."""
    own = annotation
    return (own.xref, own.yref, own.yanchor, own.showarrow) == ("paper", "paper", "bottom", False) and not own.name


WIDE, NARROW = 1000, 330
"""Pixels of a legend on a wide page and on a telephone."""


def legend_room(figure: go.Figure, width: int) -> int:
    """Pixels that the legend takes below the plot: entries stand in columns as wide as the longest of them."""
    names = [t.name for t in figure.data if t.name and t.showlegend is not False]
    if len(names) < 2 and not any(t.showlegend for t in figure.data if t.name):
        return 0
    columns = max(1, width // (44 + 7 * max(map(len, names))))
    return 12 + 20 * -(-len(names) // columns)
