"""What pages share: values as JSON, tables as Markdown, error bars, bands and cells."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import pytest

from interp.files.jsonable import jsonable
from interp.report import looks
from interp.report.contents import Page as PageContents
from interp.report.contents import PageColumn, PageFigure, PageTable, Section
from interp.report.few import few
from interp.report.looks import add_band, add_heat, error_bars
from interp.report.markdown import markdown_table
from interp.report.naming import told_apart
from interp.report.narrow import columns_of, width_needed
from interp.report.page import embedded, render
from interp.report.sentences import Sentence
from interp.report.steering import METHOD_COLOURS, PRICE, dose_response, gains
from interp.report.terms import explained
from interp.report.words import fixed, signed


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


def test_what_rounds_to_nothing_has_no_sign():
    assert [signed(x) for x in (-0.0001, 0.0001, -0.0, -0.002, 0.002)] == [
        "0.000",
        "0.000",
        "0.000",
        "-0.002",
        "+0.002",
    ]
    frame = pd.DataFrame({"value": [-0.0001], "low": [-0.02], "high": [0.0001]})
    columns = {
        ("value", "low", "high"): PageColumn("change", "interval", 2, sign=True),
        "value": PageColumn("v", "share"),
    }
    table = PageTable.of(frame, columns, name="t", title="T", note="")
    assert markdown_table(table).splitlines()[-1] == "| 0.00 [-0.02, 0.00] | -0.010 % |"


def test_numbers_have_three_digits_that_say_something():
    written = {0.0514: "0.051", 1.4412: "1.441", 17.842: "17.8", 131.12: "131", -42.5: "-42.5", 1.2e12: "1.2e+12"}
    assert {x: fixed(x, 3) for x in written} == written
    assert fixed(17.842, 0) == "18"
    assert fixed(131.12, 3, sign=True) == "+131"
    p = PageTable.of(pd.DataFrame({"p": [0.00001, 0.0]}), {"p": PageColumn("p", "number")}, name="t", title="", note="")
    assert markdown_table(p).splitlines()[2:] == ["| &lt; 0.001 |", "| 0.000 |"]


def test_names_say_what_differs_and_folders_only_where_nothing_else_does():
    facts = {"a": ["small", "on isear", "seed 0"], "b": ["large", "on isear", "seed 0"]}
    assert told_apart(facts) == {"a": "small", "b": "large"}
    facts = {
        "a": ["small", "on isear", "seed 0"],
        "b": ["small", "on xed", "seed 0"],
        "c": ["small", "on xed", "seed 0"],
    }
    assert told_apart(facts) == {"a": "small (on isear)", "b": "small: b", "c": "small: c"}
    assert told_apart({"file": ["file", ""], "run": ["small", "open"]}) == {"file": "file", "run": "small (open)"}


def test_few_texts_are_said_to_be_few():
    assert few({"a": 50, "b": 2000}, "texts") == []
    (warning,) = few({"a": 12, "b": 40, "c": 500}, "labels")
    assert warning.startswith("Few labels (a n = 12 and b n = 40): a single one moves a share by up to 8 points.")


def test_words_of_the_first_screen_are_explained_if_they_occur_and_only_then():
    assert explained(["Nothing to see."]) == []
    assert [t.word for t in explained(["It loses 0.47 [0.36, 0.60] nats."])] == ["Nat", "[low, high]"]
    said = [Sentence("Where", "The residual stream holds it from layer 3 on.")]
    page = render(PageContents("t", "lead", [], answer=said))
    assert page.count("<dt>Residual stream</dt>") == 1
    assert "<dt>Nat</dt>" not in page


def contrast(colour: str, page: str) -> float:
    """Of WCAG 2, between 1 and 21."""
    light = []
    for one in (colour, page):
        parts = [int(one[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        light.append(0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2])
    return (max(light) + 0.05) / (min(light) + 0.05)


@pytest.mark.parametrize("page", ["#ffffff", "#0f1419"])
def test_every_colour_is_seen_on_light_and_on_dark_pages(page):
    named = [*looks.COLOURS.values(), *looks.FURTHER, *looks.RUNS, *looks.PHASES, looks.INK, *METHOD_COLOURS.values()]
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert [c for c in named if contrast(c, page) < 2] == []


def evaluation(price: float) -> pd.DataFrame:
    lines = [("mine", "macro_f1_gain", 0.1), ("plain text", "perplexity_ratio", price)]
    rows = [{"corpus": c, "method": "steered", "metric": m, "value": v, "ci_low": v, "ci_high": v} for c, m, v in lines]
    return pd.DataFrame(rows).assign(n=9)


def test_one_price_of_a_hundredfold_does_not_hide_the_others():
    assert gains(evaluation(1.04), 1.05).layout.xaxis2.type is None
    axis = gains(evaluation(131.0), 1.05).layout.xaxis2
    assert axis.type == "log"
    assert 131 < 10 ** axis.range[1] < 200
    assert list(axis.ticktext) == ["1", "3", "10", "30", "100"]


def test_many_corpora_stand_in_rows_with_the_price_beside_the_first():
    parts = [evaluation(1.04).replace({"corpus": {"mine": f"corpus {i}"}}) for i in range(8)]
    figure = gains(pd.concat(parts, ignore_index=True))
    titles = [a.text for a in figure.layout.annotations]
    assert titles == [*(f"corpus {i}" for i in range(3)), PRICE, *(f"corpus {i}" for i in range(3, 8))]
    assert columns_of(figure) == 4
    assert width_needed(figure) <= 1100


def test_a_price_of_nothing_looks_like_nothing():
    lines = [
        {"corpus": "plain text", "method": "perplexity_ratio", "strength": s, "value": v, "ci_low": v, "ci_high": 1.0}
        for s, v in ((0.5, 0.99999), (1.0, 0.99998))
    ]
    lines += [{**line, "corpus": "mine", "method": "steered"} for line in lines]
    assert list(dose_response(pd.DataFrame(lines).assign(n=9)).layout.yaxis2.range) == [0.99, 1.01]
    lines[0]["ci_high"] = 1.4
    assert dose_response(pd.DataFrame(lines).assign(n=9)).layout.yaxis2.range is None
