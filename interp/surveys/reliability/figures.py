"""The figure of a comparison: a row per measure, a dot and an interval per run."""

from collections.abc import Sequence
from dataclasses import fields
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.looks import INK, add_dots, styled
from interp.surveys.reliability.compared import NAMES, ComparedRun, common_measures, constant_of
from interp.surveys.reliability.measures import Share

SIGNED = ("position_bias",)
"""Measures that run from -1 to 1; the others are shares."""
LINE, AROUND = 40, 104
"""Pixels of a measure, and of title, ticks and axis title around a panel."""


class MeasurePanel(NamedTuple):
    """Measures on one axis.

    Attributes:
        kappa: whether their kappa is drawn, not their value.
    """

    title: str
    part: str
    measures: list[str]
    kappa: bool = False


def panels(runs: Sequence[ComparedRun]) -> list[list[MeasurePanel]]:
    """Rows of panels: shares with kappa beside them where there is any, what has a sign below."""
    keys, rows = common_measures(runs), []
    for part in dict.fromkeys(part for part, _ in keys):
        shares = [m for p, m in keys if p == part and m not in SIGNED]
        signed = [m for p, m in keys if p == part and m in SIGNED]
        kappas = any(_table(run, part, shares)["kappa"].notna().any() for run in runs)
        beside = [MeasurePanel(f"{part}: agreement beyond chance (kappa)", part, shares, kappa=True)] if kappas else []
        rows += [[MeasurePanel(f"{part}: share of answers", part, shares), *beside]] if shares else []
        rows += [[MeasurePanel(f"{part}: first (+1) or last option (-1)", part, signed)]] if signed else []
    return rows


def figure(runs: Sequence[ComparedRun]) -> go.Figure:
    """A row per measure, a dot and interval per run, a hollow diamond for an answerer that always says the same."""
    rows = panels(runs)
    lines = [len(row[0].measures) for row in rows]
    height = sum(LINE * max(n, 2) for n in lines) + AROUND * len(rows)
    drawn = make_subplots(
        rows=len(rows),
        cols=2,
        specs=[[{}, {}] if len(row) == 2 else [{"colspan": 2}, None] for row in rows],
        column_widths=[0.62, 0.38],
        row_heights=[max(n, 2) for n in lines],
        horizontal_spacing=0.04,
        vertical_spacing=AROUND / height if len(rows) > 1 else 0,
        shared_yaxes=True,
        subplot_titles=[panel.title for row in rows for panel in row],
    )
    named: set[str] = set()
    for number, row in enumerate(rows, 1):
        for column, panel in enumerate(row, 1):
            _dots(drawn, runs, panel, number, column, named)
        _constants(drawn, runs, row[0], number)
    return styled(drawn, height).update_yaxes(zeroline=False)


def _dots(
    drawn: go.Figure, runs: Sequence[ComparedRun], panel: MeasurePanel, row: int, column: int, named: set[str]
) -> None:
    least = 0.0
    for number, run in enumerate(runs):
        table = _table(run, panel.part, panel.measures)
        if panel.kappa:
            table = table.assign(value=table["kappa"], ci_low=table["kappa_low"], ci_high=table["kappa_high"])
        known = table.dropna(subset="value")
        if not len(known):
            continue
        least = min(least, float(known[["value", "ci_low"]].min().min()))
        place = {"row": row, "col": column, "showlegend": run.name not in named}
        add_dots(drawn, known, known["line"].tolist(), run.name, number, len(runs), **place)
        named.add(run.name)
    low = -1.0 if panel.measures[0] in SIGNED else least
    drawn.update_xaxes(
        range=[low - 0.05, 1.05], tickformat=".0%" if _is_share(panel) else None, zeroline=True, row=row, col=column
    )
    drawn.update_yaxes(
        tickvals=list(range(len(panel.measures))),
        ticktext=[NAMES[m] for m in panel.measures],
        range=[len(panel.measures) - 0.4, -0.6],
        showgrid=False,
        row=row,
        col=column,
    )


def _is_share(panel: MeasurePanel) -> bool:
    return not panel.kappa and panel.measures[0] not in SIGNED


def _table(run: ComparedRun, part: str, measures: Sequence[str]) -> pd.DataFrame:
    """The columns of `Share`, with interval ends and the line of each measure that a run has."""
    known = {m: run.measures[part, m].as_dict() for m in measures if (part, m) in run.measures}
    table = pd.DataFrame(known.values(), columns=[f.name for f in fields(Share)])
    return table.rename(columns={"low": "ci_low", "high": "ci_high"}).assign(line=[measures.index(m) for m in known])


def _constants(drawn: go.Figure, runs: Sequence[ComparedRun], panel: MeasurePanel, row: int) -> None:
    """What a constant answerer gets, where that is defined."""
    values = [constant_of(runs, panel.part, m) for m in panel.measures]
    drawn.add_scatter(
        x=[v for v in values if v == v],
        y=[place for place, v in enumerate(values) if v == v],
        mode="markers",
        name="a constant answerer",
        legendgroup="constant",
        showlegend=row == 1,
        marker={"color": INK, "size": 11, "symbol": "diamond-open"},
        hovertemplate="a constant answerer: %{x:.3f}<extra></extra>",
        row=row,
        col=1,
    )
