"""Stages of a run: what they declare, the order that follows, and what they depend on."""

from dataclasses import replace
from functools import reduce
from operator import attrgetter, getitem
from pathlib import Path

import pytest

from interp.run.config import Config
from interp.run.inputs import Inputs
from interp.run.pipeline import STAGES, fingerprints
from interp.run.stage import Speeds, Stage, Workload, costs, declared_stages, in_order, with_what_follows, without_saes
from interp.run.tables import FILES


def made(name: str, reads: tuple[str, ...] = ()) -> Stage:
    return Stage(name, lambda session: None, "", reads, (f"{name}.json",))


def test_what_is_read_is_written_before_and_nothing_is_waited_for_twice():
    written: set[str] = set()
    for stage in STAGES:
        assert {*stage.inputs} <= written, stage.name
        written |= {*stage.outputs}
    assert {stage.name: stage.needs for stage in STAGES}["why"] == ("causes", "selectivity")
    assert {stage.name: stage.needs for stage in STAGES}["trace"] == ("phases",)


def test_without_saes_stages_that_need_their_files_drop_out_and_the_others_keep_their_order():
    left = {stage.name: stage for stage in without_saes(STAGES)}
    assert {stage.name for stage in STAGES} - {*left} == {
        *("features", "attribution", "selectivity", "trace", "causes", "why", "cards", "parts", "ratings"),
    }
    written: set[str] = set()
    for stage in left.values():
        assert {*stage.inputs} <= written, stage.name
        written |= {*stage.outputs}
    assert left["signals"].may_read == ()
    assert left["signals"].needs == ("capture",)
    assert next(s for s in STAGES if s.name == "signals").needs == ("attribution",)


def test_what_may_be_read_is_waited_for_and_can_be_missed():
    given = [
        replace(made("a"), saes=True),
        made("b"),
        replace(made("c", ("b.json",)), may_read=("a.json",)),
        made("d", ("a.json",)),
        made("e", ("d.json",)),
    ]
    assert {s.name: s.needs for s in in_order(given)}["c"] == ("a", "b")
    assert {s.name: s.needs for s in without_saes(in_order(given))} == {"b": (), "c": ("b",)}


def test_the_longest_chain_comes_first_whatever_the_order_of_declarations():
    stages = [made("a"), made("b"), made("c", ("b.json",)), made("d", ("b.json", "c.json"))]
    for given in (stages, stages[::-1]):
        ordered = in_order(given)
        assert [stage.name for stage in ordered] == ["b", "c", "a", "d"]
        assert [stage.needs for stage in ordered] == [(), ("b",), (), ("c",)]
    assert with_what_follows(ordered, "c") == {"c", "d"}


@pytest.mark.parametrize(
    ("stages", "words"),
    [
        ([made("a", ("b.json",))], "which no stage writes"),
        ([made("a"), replace(made("a"), name="b")], "is written by the stages"),
        ([made("a", ("b.json",)), made("b", ("a.json",))], "cycle"),
    ],
)
def test_what_cannot_be_put_in_order_is_refused(stages, words):
    with pytest.raises(ValueError, match=words):
        in_order(stages)


def test_a_declaration_is_read_without_loading_its_module(tmp_path: Path):
    (tmp_path / "new.py").write_text(
        "import no_such_module\n\n"
        '@stage("new", reads=("a.json",), writes=("new.json",), fields=("seed",), edition=3, cost=lambda work: 3.0)\n'
        "def run(session):\n    pass\n"
    )
    (stage,) = declared_stages(tmp_path)
    facts = (stage.name, stage.module, stage.reads, stage.outputs, stage.fields, stage.sources)
    assert facts == ("new", "interp.run.stages.new", ("a.json",), ("new.json",), ("seed",), ())
    assert (stage.edition, made("old").edition) == (3, 1)


def test_fields_and_sources_are_there():
    config = Config()
    for stage in STAGES:
        for name in stage.fields:
            reduce(getitem, name.split("."), config.as_dict())
        for name in stage.sources:
            attrgetter(name)(Inputs(config))


def test_a_change_makes_stale_what_depends_on_it_and_nothing_else():
    before = fingerprints(Inputs(Config()), STAGES)

    def changed(config: Config) -> set[str]:
        after = fingerprints(Inputs(config), STAGES)
        return {name for name in before if before[name] != after[name]}

    assert changed(Config()) == set()
    assert changed(replace(Config(), batch_size=7, out="elsewhere", name="other")) == set()
    steering = replace(Config().steering, low_rank=2)
    assert changed(replace(Config(), steering=steering)) == {"evaluate", "certificate"}
    assert changed(replace(Config(), tracing=replace(Config().tracing, candidates=3))) == with_what_follows(
        STAGES, "trace"
    )
    assert changed(replace(Config(), dtype="bfloat16")) == {*before}


def test_a_stage_that_does_something_else_is_done_again_with_all_that_waits_for_it():
    inputs = Inputs(Config())
    before = fingerprints(inputs, STAGES)
    newer = [replace(s, edition=s.edition + 1) if s.name == "trace" else s for s in STAGES]
    after = fingerprints(inputs, newer)
    assert {name for name in before if before[name] != after[name]} == with_what_follows(STAGES, "trace")


def test_every_file_of_the_schema_is_declared_by_the_stage_that_makes_it():
    outputs = {stage.name: stage.outputs for stage in STAGES}
    for file in FILES.values():
        assert not file.stage or {file.name, file.name.split("/")[0]}.intersection(outputs[file.stage]), file.name
    made = {file.name.split("/")[0] for file in FILES.values()}
    assert {name for names in outputs.values() for name in names if not name.startswith("units/")} <= made


def test_costs_are_declared_where_they_arise():
    work = Workload(Config(), Speeds(1.0, 1.0, 1.0), 2, 10, 10, 10)
    found = costs(STAGES, work)
    assert found["capture"] == 30
    assert found["features"] == 120
    assert {"trace", "steer", "evaluate"} <= {*found}
