"""Steerings of several runs on the corpora of all: one made here, used there."""

from collections.abc import Mapping

import pandas as pd
import plotly.graph_objects as go

from interp.report.contents import Columns, PageColumn, PageFigure, PageTable, Section
from interp.report.looks import DIVERGING, add_heat, styled

TABLE: Columns = {
    "run": PageColumn("made in"),
    "method": PageColumn("method"),
    "corpus": PageColumn("used on"),
    "own": PageColumn("own corpus"),
    "unsteered": PageColumn("unsteered macro-F1", "number", 2),
    ("gain", "ci_low", "ci_high"): PageColumn("change of macro-F1", "interval", sign=True),
    "n": PageColumn("n", "number", 0),
}


def carrying(gains: pd.DataFrame) -> list[Section]:
    """The section of the comparison; none where fewer than two corpora were scored.

    Args:
        gains: `transfer.parquet`.
    """
    if gains["corpus"].nunique() < 2:
        return []
    own = gains["own"].map({True: "yes", False: "no"})
    table = PageTable.of(
        gains.assign(own=own),
        TABLE,
        name="carrying",
        title="A steering made here, used there",
        note="Macro-F1 on held-out texts; changes are paired on the same texts, with 95 % bootstrap intervals.",
    )
    figure = PageFigure("carrying", "A steering made here, used there", _figure(gains), _caption(gains))
    return [Section("What carries over", "carrying", [figure], [table], "Carrying over")]


def _caption(gains: pd.DataFrame) -> str:
    beyond = int((gains["ci_low"] > 0).sum())
    return (
        "Rows: the run in which the steering was made, once, on its fit texts. Columns: the corpus it was used on."
        " Cells: change of macro-F1 to the unsteered model on the same texts, in points; blue: better, orange: worse,"
        f" darkest: {100 * _top(gains):.0f} points; in brackets: the interval holds zero. Empty: not scored. Beyond"
        f" doubt: {beyond} of {len(gains)} gains. n = {gains['n'].min():,} to {gains['n'].max():,} texts a cell."
    )


def _figure(gains: pd.DataFrame) -> go.Figure:
    cells = {column: _wide(gains, column) for column in ("gain", "ci_low", "ci_high", "n")}
    figure, top = go.Figure(), _top(gains)
    told = "%{y} on %{x}: %{z:+.3f} [%{customdata[0]:+.3f}, %{customdata[1]:+.3f}]<br>n = %{customdata[2]:,}"
    beside = [cells[c].to_numpy() for c in ("ci_low", "ci_high", "n")]
    customdata = [list(zip(*rows, strict=True)) for rows in zip(*beside, strict=True)]
    printed = [
        [_printed(*cell) for cell in zip(*rows, strict=True)]
        for rows in zip(cells["gain"].to_numpy(), cells["ci_low"].to_numpy(), cells["ci_high"].to_numpy(), strict=True)
    ]
    add_heat(
        figure,
        cells["gain"],
        told,
        form=None,
        limits=(-top, top),
        scale=DIVERGING,
        customdata=customdata,
        text=printed,
        texttemplate="%{text}",
    )
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 120 + 44 * len(cells["gain"]))


def _wide(gains: pd.DataFrame, column: str) -> pd.DataFrame:
    runs, corpora = list(dict.fromkeys(gains["run"])), list(dict.fromkeys(gains["corpus"]))
    return gains.pivot(index="run", columns="corpus", values=column).reindex(index=runs, columns=corpora)


def _printed(gain: float, low: float, high: float) -> str:
    if pd.isna(gain):
        return ""
    points = f"{100 * gain:+.0f}"
    return points if low > 0 or high < 0 else f"({points})"


def _top(gains: pd.DataFrame) -> float:
    return max(float(gains["gain"].abs().max()), 0.01)


def gains_of(runs: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`transfer.parquet`: what carries over from every run, by its name."""
    return pd.concat([table.assign(run=name) for name, table in runs.items()], ignore_index=True)
