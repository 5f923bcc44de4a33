"""Figure of confusions: gold emotions against answers."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import add_heat, styled


def confusion(predictions: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Gold against predicted, as shares of each gold emotion, before and after steering."""
    methods = [m for m in ("unsteered", "steered") if (predictions["method"] == m).any()]
    titles = ["the model as it is", "steered"][: len(methods)]
    figure = make_subplots(rows=1, cols=len(methods), subplot_titles=titles, horizontal_spacing=0.16)
    for column, method in enumerate(methods, 1):
        answered = predictions[predictions["method"] == method]
        count = pd.crosstab(answered["gold"], answered["predicted"]).reindex(index=labels, columns=labels, fill_value=0)
        count = count[count.sum(axis=1) > 0]
        shares = count.div(count.sum(axis=1), axis=0)
        told = "gold %{y}, answered %{x}: %{customdata} (%{z:.0%})"
        add_heat(figure, shares, told, customdata=count.to_numpy(), row=1, col=column)
        figure.update_yaxes(autorange="reversed", title_text="gold" if column == 1 else None, row=1, col=column)
        figure.update_xaxes(title_text="answer", row=1, col=column)
    return styled(figure, 130 + 40 * max(len(labels), 4))
