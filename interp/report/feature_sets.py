"""Figure of features: which sets of emotions they are selective for, and which need the emotion word."""

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import colours, styled

MOST = 18
LOST, KEPT, UNKNOWN = "loses an emotion without its word", "keeps them without the words", "not tested"
KINDS = {LOST: "#D55E00", KEPT: "#0072B2", UNKNOWN: "#8C8C8C"}
EMPTY = "rgba(125,133,144,.25)"


def feature_sets(selectivity: pd.DataFrame) -> pd.DataFrame:
    """layer, feature, emotions (sorted tuple), kind: whether a feature loses any emotion without the emotion word."""
    found = selectivity[selectivity["kind"] != "none"]
    tested = found["lexical"].notna()
    state = pd.Series(UNKNOWN, index=found.index)
    state[tested] = [LOST if lexical else KEPT for lexical in found.loc[tested, "lexical"]]
    order = {name: i for i, name in enumerate(KINDS)}
    parts = found.assign(state=state.map(order)).groupby(["layer", "feature"])
    return pd.DataFrame(
        {
            "emotions": parts["emotion"].agg(lambda e: tuple(sorted(e))),
            "kind": parts["state"].min().map(dict(enumerate(KINDS))),
        }
    ).reset_index()


def upset(sets: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Features by the set of emotions they are selective for (after UpSet, Lex et al. 2014): bars over a dot matrix."""
    count = sets.groupby(["emotions", "kind"]).size().unstack(fill_value=0)
    count = count.loc[count.sum(axis=1).sort_values(ascending=False, kind="stable").index[:MOST]]
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, vertical_spacing=0.03, row_heights=[0.58, 0.42])
    places = list(range(len(count)))
    names = [" + ".join(e) for e in count.index]
    for kind, colour in KINDS.items():
        if kind in count:
            figure.add_bar(
                x=places,
                y=count[kind],
                name=kind,
                marker_color=colour,
                customdata=names,
                hovertemplate="%{customdata}: %{y} features, " + kind + "<extra></extra>",
                row=1,
                col=1,
            )
    palette = colours(labels)
    for label in labels:
        inside = [label in e for e in count.index]
        figure.add_scatter(
            x=places,
            y=[label] * len(places),
            mode="markers",
            marker={"size": 11, "color": [palette[label] if x else EMPTY for x in inside]},
            hoverinfo="skip",
            showlegend=False,
            row=2,
            col=1,
        )
    figure.update_layout(barmode="stack")
    figure.update_xaxes(showticklabels=False, showgrid=False)
    figure.update_yaxes(title_text="features", row=1, col=1)
    figure.update_yaxes(autorange="reversed", showgrid=False, row=2, col=1)
    return styled(figure, 300 + 26 * len(labels))
