"""What pages share: values as JSON, tables as Markdown, error bars, bands and cells."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.files.jsonable import jsonable
from interp.report.contents import Page as PageContents
from interp.report.contents import PageColumn, PageFigure, PageTable, Section
from interp.report.looks import add_band, add_heat, error_bars
from interp.report.markdown import markdown_table
from interp.report.page import embedded, render


@dataclass(frozen=True)
class Pair:
    a: float
    b: Path


def test_values_are_what_json_holds():
    value = {1: (np.float32(0.5), np.nan, np.int64(3), True, None), "x": Pair(float("inf"), Path("a/b"))}
    assert jsonable(value) == {"1": [0.5, None, 3, True, None], "x": {"a": None, "b": "a/b"}}
    assert jsonable(np.array([[1.23456789, np.nan]]), 3) == [[1.23, None]]
    assert jsonable(pd.DataFrame({"n": [1, 2], "v": [0.1, np.nan]})) == [{"n": 1, "v": 0.1}, {"n": 2, "v": None}]
    assert json.dumps(jsonable({"a": [1, "b"]}), allow_nan=False) == '{"a": [1, "b"]}'


FRAME = pd.DataFrame(
    {"layer": [1, 2], "feature": [3, 4], "value": [0.5, np.nan], "low": [0.25, np.nan], "high": [1, np.nan]}
)
COLUMNS = {
    ("layer", "feature"): PageColumn("layer, feature", "feature"),
    ("value", "low", "high"): PageColumn("effect", "interval", 2, sign=True),
    "value": PageColumn("share", "share", 0),
}


def test_one_mapping_of_columns_makes_a_table_of_the_page_and_of_markdown():
    table = PageTable.of(FRAME, COLUMNS, name="t", title="T", note="<i>n</i>")
    assert [list(row) for row in table.rows] == [[[1, 3], [0.5, 0.25, 1.0], 0.5], [[2, 4], None, None]]
    lines = markdown_table(table).splitlines()
    assert lines[2:] == ["| 1, 3 | +0.50 [+0.25, +1.00] | 50 % |", "| 2, 4 | - | - |"]
    page = render(PageContents("t & u", "lead", [Section("S", "s", tables=[table]), Section("empty", "e")]))
    assert "t &amp; u" in page
    assert "&lt;i&gt;n" in page
    assert 'id="s"' in page
    assert 'id="e"' not in page
    assert 'name="interp-schema"' in page


def test_what_stands_in_a_script_cannot_end_it():
    assert embedded({"a": "</script><!--"}) == '{"a":"\\u003c/script>\\u003c!--"}'


def test_bars_bands_and_cells():
    table = pd.DataFrame({"x": [0, 1], "value": [1.0, 2.0], "ci_low": [0.5, 1.0], "ci_high": [3.0, 2.5]})
    bars = error_bars(table)
    assert list(bars["array"]) == [2.0, 0.5]
    assert list(bars["arrayminus"]) == [0.5, 1.0]
    assert not bars["symmetric"]
    figure = go.Figure()
    add_band(figure, table, "x", "#0072B2", "g")
    assert list(figure.data[0].x) == [0, 1, 1, 0]
    assert list(figure.data[0].y) == [3.0, 2.5, 1.0, 0.5]
    figure = go.Figure()
    add_heat(figure, pd.DataFrame([[0.5, 0.001], [np.nan, 1]], index=["a", "b"], columns=["c", "d"]), "%{z}")
    assert [list(line) for line in figure.data[0].text] == [["50%", ""], ["", "100%"]]
    assert list(figure.data[0].x) == [
        "c",
        "d",
    ]


def test_a_figure_without_axes_has_a_narrow_layout_too():
    wheel = go.Figure(go.Scatterpolar(r=[1, 2, 1], theta=["a", "b", "a"])).update_layout(height=400, margin_t=10)
    wheel.update_layout(margin_b=10)
    assert json.loads(embedded(PageFigure("w", "w", wheel, "n = 3")))["least"] == 560
