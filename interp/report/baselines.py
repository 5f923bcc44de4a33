"""Figure of the ablations that the field uses: directions, and outputs of attention and MLP."""

import pandas as pd
import plotly.graph_objects as go

from interp.report.looks import styled

COLOURS_OF_BASELINES = {
    "mean difference direction": "#0072B2",
    "probe direction": "#009E73",
    "random direction": "#8C8C8C",
    "attention, zero": "#E6A700",
    "attention, mean": "#D55E00",
    "mlp, zero": "#CC79A7",
    "mlp, mean": "#9467BD",
}


def baselines(table: pd.DataFrame) -> go.Figure:
    """Mean effect over emotions of each of them, by layer."""
    means = table.groupby(["layer", "method"])["effect"].mean().unstack()
    figure = go.Figure()
    for method, colour in COLOURS_OF_BASELINES.items():
        if method in means:
            figure.add_scatter(x=means.index, y=means[method], mode="lines+markers", name=method, line_color=colour)
    figure.update_xaxes(title_text="layer", dtick=1 if len(means) < 20 else None)
    figure.update_yaxes(title_text="effect (nats)")
    return styled(figure, 400)
