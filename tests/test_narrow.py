"""Figures on wide and narrow pages: gaps between layers, panels one below another, no grid over heat maps."""

import json
import re
from itertools import pairwise

import pandas as pd
import pytest
from fake_runs import make_run

from interp.report import causes, layers, write_report
from interp.report.narrow import narrow_layout, panels_of, width_needed

LABELS = ("anger", "disgust", "fear", "joy")


def signals(measured: list[int]) -> pd.DataFrame:
    lines = [
        {"layer": k, "signal": "probe_residuals", "value": k / 40, "ci_low": 0.0, "ci_high": 1.0} for k in measured
    ]
    return pd.DataFrame(lines).assign(n=10)


def effects(labels=LABELS) -> pd.DataFrame:
    lines = [
        {"emotion": e, "phase": 1 + f % 2, "feature": f, "causal": f < 2, "control": f > 7, "effect": 1 / (f + 1)}
        for e in labels
        for f in range(10)
    ]
    return pd.DataFrame(lines).assign(layer=0, role="discover", ci_low=0.0, ci_high=2.0, n=9, flip_rate=0.1)


def test_layers_that_were_not_measured_have_no_point_and_no_line():
    measured = [3, 8, 20, 21, 22]
    figure = layers.layer_phases(signals(measured), None, layers.HELD)
    (shown,) = [t for t in figure.data if t.name]
    values = dict(zip(shown.x, shown.y, strict=True))
    assert {k for k, v in values.items() if v == v} == set(measured)
    assert values[3.5] != values[3.5]
    assert values[8.5] != values[8.5]
    assert 20.5 not in values
    assert [t.line.dash for t in figure.data if t.line.dash] == ["dot"]
    assert list(figure.layout.xaxis.tickvals) == measured
    assert layers.layer_phases(signals([0, 1, 2]), None, layers.HELD).data[1].line.dash is None


def test_shading_changes_half_way_between_layers_that_were_measured():
    spans = [{"first": 3, "last": 12}, {"first": 13, "last": 20}]
    assert layers.shaded(spans, [3, 8, 13, 20]) == [(2.5, 10.5), (10.5, 20.5)]
    assert layers.shaded([{"first": 0, "last": 3}], [0, 1, 2, 3]) == [(-0.5, 3.5)]
    assert layers.runs_of([0, 1, 3, 5, 6]) == [[0, 1], [3], [5, 6]]


def test_the_ladder_explains_fill_and_colour_and_its_band_can_be_seen():
    figure = causes.ladder(effects(), LABELS)
    legend = [t.name for t in figure.data if t.showlegend]
    assert legend == ["phase 1", "phase 2", "filled: causal", "hollow: not causal", "band: random features"]
    assert len([s for s in figure.layout.shapes if s.type == "rect"]) == len(LABELS)
    first, second = (p.height for p in (panels_of(figure)[0], panels_of(figure)[3]))
    margin, inside = figure.layout.margin, figure.layout.height - figure.layout.margin.t - figure.layout.margin.b
    assert (first[0] - second[1]) * inside > 50
    assert margin.t > 40


def test_on_a_narrow_page_panels_stand_below_one_another():
    figure = causes.ladder(effects(), LABELS)
    layout = narrow_layout(figure)
    heights = [layout[p.y]["domain"] for p in panels_of(figure)]
    assert len(heights) == 4
    assert all(tuple(layout[p.x]["domain"]) == (0, 1) for p in panels_of(figure))
    assert all(a[0] > b[1] for a, b in pairwise(heights))
    assert heights[-1][0] >= 0
    titles = [a for a in layout["annotations"] if a["text"] in LABELS]
    assert [round(a["y"], 6) for a in titles] == [round(top, 6) for _, top in heights]
    assert layout["height"] > figure.layout.height
    assert "template" not in layout
    assert width_needed(figure) >= 560


def test_long_titles_are_broken_on_a_narrow_page():
    figure = layers.layer_phases(signals([0, 1, 2]), {"phases": [{"phase": 1, "first": 0, "last": 2}]}, layers.HELD)
    titles = [a["text"] for a in narrow_layout(figure)["annotations"]]
    assert any("<br>" in t for t in titles)
    assert max(len(part) for t in titles for part in t.split("<br>")) <= 40


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> str:
    return write_report(make_run(tmp_path_factory.mktemp("run"))).read_text(encoding="utf-8")


def test_heat_maps_have_no_grid_and_the_confusions_are_not_stretched(page):
    for name in ("map", "together", "confusion-0"):
        drawn = json.loads(re.search(rf'id="data-{name}">(.*?)</script>', page, re.DOTALL)[1])
        axes = [v for k, v in drawn["layout"].items() if k.startswith(("xaxis", "yaxis"))]
        assert axes
        assert all(a["showgrid"] is False for a in axes)
    assert re.search(r'id="figure-confusion-0" style="height:\d+px; max-width:\d+px"', page)


def test_signals_have_names_units_and_counts_without_decimals(page):
    found = json.loads(re.search(r'id="table-signals">.*?json">(.*?)</script>', page, re.DOTALL)[1])
    rows = {row[0]: row for row in found["rows"]}
    assert "probe on the residual stream" in rows
    assert "active features (L0)" in rows
    assert "fvu" not in rows
    assert rows["selective features"][2][3] == 0
    assert rows["selective features"][3] == "features"
    assert len(rows["probe on SAE features"][2]) == 3
    assert rows["probe on SAE features"][3] == "share right"


def test_entries_of_the_navigation_are_short(page):
    entries = re.findall(r'<a href="#[\w-]+"[^>]*>([^<]+)</a>', re.search(r"<nav>.*?</nav>", page)[0])
    assert len(entries) >= 12
    assert sum(map(len, entries)) < 120
    assert max(map(len, entries)) <= 11
