"""Figures of patching from text to text."""

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import THIN, add_curve, styled

PARTS = {"residual": "#0072B2", "attention": "#D55E00", "mlp": "#009E73"}


def patched(table: pd.DataFrame) -> go.Figure:
    """Share of the way to the source's answer, by layer; a panel for pairs of two emotions and one for controls."""
    titles = {False: "source of another emotion", True: "source of the same emotion, answered otherwise"}
    shown = [c for c in titles if (table["control"].astype(bool) == c).any()]
    figure = make_subplots(
        cols=len(shown), subplot_titles=[titles[c] for c in shown], shared_yaxes=True, horizontal_spacing=0.06
    )
    for column, control in enumerate(shown, start=1):
        for part, colour in PARTS.items():
            own = table[(table["part"] == part) & (table["control"].astype(bool) == control)].sort_values("first")
            spread = {"recovered": "value", "recovered_low": "ci_low", "recovered_high": "ci_high"}
            curve = own.drop(columns=["ci_low", "ci_high"]).rename(columns=spread)
            if len(curve):
                add_curve(figure, curve, "first", part, colour, row=1, col=column, showlegend=column == 1)
        figure.add_hline(y=1, line=THIN | {"dash": "dot"}, row=1, col=column)
        figure.add_hline(y=0, line=THIN, row=1, col=column)
        wide = int(table["last"].iloc[0] - table["first"].iloc[0] + 1)
        figure.update_xaxes(title_text="layer" if wide == 1 else f"first of {wide} layers", row=1, col=column)
    figure.update_yaxes(title_text="share of the way", col=1)
    return styled(figure, 360)
