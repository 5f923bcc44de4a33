"""A run at hand: tables with meanings, figures as the report has them, what objects show of themselves."""

import json
import re

import pandas as pd
import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest
from fake_runs import make_run

from interp import Steering, UserError, capture, load_saes, open_run
from interp.report.opened import SLUGS, Plots
from interp.report.sections import sections
from interp.saes.coordinates import Coordinates


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    return open_run(make_run(tmp_path_factory.mktemp("opened")))


def test_tables_are_those_of_the_folder_and_say_what_their_columns_are(opened):
    for name in opened.tables["table"]:
        table = getattr(opened, name)
        pd.testing.assert_frame_equal(table, pd.read_parquet(opened.folder / f"{name}.parquet"), check_dtype=False)
        assert set(opened.columns(name).index) == {*table}
        stored = pq.read_schema(opened.folder / f"{name}.parquet")
        for column, meaning in table.attrs["columns"].items():
            metadata = stored.field(column).metadata
            assert meaning.startswith(metadata[b"meaning"].decode())
            assert metadata.get(b"unit", b"").decode() in meaning
    assert opened.columns("effects").loc["effect", "unit"] == "nats"


def test_a_table_that_is_changed_is_ones_own(opened):
    table = opened.effects
    table["effect"] = 0.0
    assert opened.effects["effect"].abs().max() > 0


def test_every_figure_of_the_report_can_be_had(opened):
    drawn = {f.name: f.figure for section in sections(opened.files) for f in section.figures}
    methods = {name for name in vars(Plots) if not name.startswith("_")} - {"available", "captions", "run"}
    assert methods == {*SLUGS}
    assert {name for name in drawn if not any(name.startswith(slug) for slug in SLUGS.values())} == set()
    for name in opened.plot.available:
        figure = getattr(opened.plot, name)()
        assert isinstance(figure, go.Figure)
        assert json.loads(figure.to_json()) in [json.loads(own.to_json()) for own in drawn.values()]
        assert opened.plot.captions[name]
    first, second = opened.plot.ladder(), opened.plot.ladder()
    first.update_layout(title="mine")
    assert second.layout.title.text is None
    used = opened.plot.layer_phases("used").to_json()
    assert json.loads(used) == json.loads(drawn["layers-causal"].to_json())


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda run: run.table("efects"), "did you mean 'effects'"),
        (lambda run: run.table("patching"), "`interp patch"),
        (lambda run: run.plot.circuit("boredom"), "knows no emotion"),
        (lambda run: run.plot.patching(), "nothing to draw for plot.patching"),
        (lambda run: run.plot.layer_phases("both"), "held or used"),
        (lambda run: open_run(run.folder / "nowhere"), "no run folder"),
    ],
)
def test_what_is_not_there_is_said_in_a_line(opened, ask, words):
    with pytest.raises(UserError, match=words):
        ask(opened)
    with pytest.raises(AttributeError, match="did you mean 'effects'"):
        _ = opened.efects


def test_objects_say_what_they_are_in_a_cell(opened, llama, stack):
    shown = {
        llama: ("LanguageModel", str(llama.n_layers)),
        stack: ("SaeStack", stack.identity),
        Coordinates(2, 8): ("Coordinates", "the residual itself"),
        load_saes("none", llama): ("Coordinates", str(llama.d_model)),
    }
    captured = capture(llama, ["The dog ran.", "A letter came."], answers=["joy", "fear"])
    steering = Steering.from_difference(llama, ["The dog ran."], ["A letter <came>."])
    cells = list(shown.items())
    cells += [(captured, ("Captured", "example 2")), (steering, ("Steering", "mean_difference"))]
    for one, words in cells:
        for text in (one._repr_html_(), repr(one)):
            assert all(word in text for word in words), text
            assert len(text) < 2000
    page = opened._repr_html_()
    assert "<code>.plot.ladder()</code>" in page
    assert "<code>.effects</code>" in page
    assert not re.search(r"<script", page)
