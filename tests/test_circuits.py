"""Circuits: planted ones are found, all and alone; a world without any has none; sizes, shares, files and the page."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from planted import CUES, LABELS, Planted, build_planted, planted_run

from interp.analysis import circuits as analysis
from interp.analysis.labelled import LabelledExamples
from interp.cli import main as cli
from interp.engine.components import Component
from interp.report import write_report
from interp.report.graph_files import write_graph_files
from interp.run import circuits as run_circuits
from interp.run.circuits import CircuitOptions, circuit
from interp.texts.word_spans import word_spans

FEW = {"discover": (250, 1), "fit": (150, 2), "test": (20, 3)}
OPTIONS = CircuitOptions(examples=50, nodes=12, neurons=4)
BRINGS, CONVERTS = Component(6, "head", 0), Component(7, "neuron", 0)
"""The head that brings all causes from cue words, and the neuron that turns the first cause of anger into another."""


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Planted:
    return build_planted(tmp_path_factory.mktemp("planted"))


@pytest.fixture(scope="module")
def traced(planted):
    return planted_run(planted, "circuits", command="trace", splits=FEW)


@pytest.fixture(scope="module")
def found(traced) -> dict[str, pd.DataFrame]:
    return dict(circuit(traced, OPTIONS).tables)


def causal(nodes: pd.DataFrame, kind: str) -> set[tuple[Component, str]]:
    own = nodes[nodes["causal"] & (nodes["kind"] == kind)]
    return {(analysis.component_of(row), row["emotion"]) for _, row in own.iterrows()}


def ends(edges: pd.DataFrame) -> list[tuple[Component, Component | None]]:
    return [(analysis.component_of(row, "source_"), run_circuits._end(row, "target_")) for _, row in edges.iterrows()]


# ------------------------------------------------------------------------------------------ planted and null worlds


def test_planted_heads_and_neurons_are_found_all_and_alone(found):
    nodes = found["circuit_nodes.parquet"]
    assert causal(nodes, "head") == {(BRINGS, label) for label in LABELS}
    assert causal(nodes, "neuron") == {(CONVERTS, "anger")}
    assert causal(nodes, "mlp") == {(Component(7, "mlp"), "anger")}


def test_the_planted_chain_is_the_circuit(planted, found):
    """Head, first cause, neuron, second cause, answer; all else that carries much is a shortcut of these."""
    place = {(f.layer, f.name): f.index for f in planted.features}
    first, second = (Component(k, "feature", place[k, name]) for k, name in ((6, "anger_a"), (7, "anger_b")))
    edges = found["circuit_edges.parquet"]
    own = edges[edges["emotion"] == "anger"]
    kept = ends(own[own["in_circuit"]])
    for edge in ((BRINGS, first), (first, CONVERTS), (CONVERTS, second)):
        assert edge in kept
    strong = ends(own[own["effect"].abs() > 0.05])
    others = {Component(7, "mlp")} | {c for pair in strong for c in pair if c and c.kind == "feature"}
    assert {c for pair in strong for c in pair if c} <= {BRINGS, CONVERTS} | others
    named = {(f.layer, f.index): f.name for f in planted.features}
    assert all(named[c.layer, c.number] in ("anger_a", "anger_b") for c in others if c.kind == "feature")


def test_few_edges_keep_what_all_keep_and_random_ones_do_not(found):
    curve, summary = found["faithfulness.parquet"], found["circuits.parquet"].set_index("emotion")
    for label in LABELS:
        own = curve[curve["emotion"] == label].set_index(["ranking", "k"])["value"]
        size = int(summary.loc[label, "edges"])
        assert 0 < size < summary.loc[label, "candidate_edges"]
        assert own["exact", size] >= analysis.SHARE * own["exact"].iloc[-1]
        assert own["exact", size] > own["random", size] + 0.2
        assert summary.loc[label, "kept"] == pytest.approx(own["exact", size])


def test_circuits_knocked_out_and_put_in_do_what_random_ones_do_not(found):
    summary = found["circuits.parquet"]
    assert (summary["knocked_out_low"] > summary["knocked_out_control_high"]).all()
    assert (summary["follows"] > summary["follows_control"] + 0.3).all()
    overlap = found["circuit_overlap.parquet"]
    pair = overlap.set_index(["emotion", "other"])
    assert pair.loc[("anger", "joy"), "shared_nodes"] >= 1  # the head that brings both
    assert pair["nodes"].between(0, 1).all()
    assert pair.loc[("anger", "joy"), "edges"] == pair.loc[("joy", "anger"), "edges"]


def test_words_behind_an_answer_are_its_cues(found):
    words = found["circuit_words.parquet"]
    for label in LABELS:
        own = words[(words["emotion"] == label) & (words["layer"] == BRINGS.layer) & (words["number"] == BRINGS.number)]
        best = own.sort_values("effect", ascending=False).head(3)
        assert set(best["word"]) == {c.lower() for c in CUES[label]}
        assert (best["ci_low"] > 0).all()
        every = words[(words["emotion"] == label) & (words["layer"] == -1)].set_index("word")["effect"]
        for row in best.itertuples():
            assert row.effect == pytest.approx(every[row.word], abs=0.02)  # no other head brings anything of them


def test_a_world_without_emotions_has_no_circuit(planted):
    folder = planted_run(planted, "circuits-null", shuffled=True, command="trace", splits=FEW)
    nodes = circuit(folder, OPTIONS).tables["circuit_nodes.parquet"]
    assert not nodes["causal"].any()


# ---------------------------------------------------------------------------------------------------- without SAEs


@pytest.fixture(scope="module")
def bare(planted) -> Path:
    return planted_run(planted, "circuits-bare", command="trace", splits=FEW, saes=False)


def test_without_saes_the_planted_heads_and_neurons_are_found(bare, found, capsys, monkeypatch):
    """The same effects as beside features, and a chain of head and neuron, on the page and in the graph files."""
    options = ["--examples", str(OPTIONS.examples), "--nodes", str(OPTIONS.nodes), "--neurons", str(OPTIONS.neurons)]
    monkeypatch.setattr("sys.argv", ["interp", "circuit", str(bare), *options, "--json"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    told = json.loads(capsys.readouterr().out)
    tables = circuit(bare, OPTIONS).tables
    nodes = tables["circuit_nodes.parquet"]
    assert set(nodes["kind"]) == {"head", "mlp", "neuron"}
    assert causal(nodes, "head") == {(BRINGS, label) for label in LABELS}
    assert causal(nodes, "neuron") == {(CONVERTS, "anger")}
    beside = found["circuit_nodes.parquet"]
    keys = ["emotion", "kind", "layer", "number"]
    both = nodes.merge(beside[beside["kind"] != "feature"], on=keys)
    assert len(both) == len(nodes)
    np.testing.assert_allclose(both["effect_x"], both["effect_y"], atol=1e-6)
    edges = tables["circuit_edges.parquet"]
    own = edges[(edges["emotion"] == "anger") & edges["in_circuit"]]
    assert (BRINGS, CONVERTS) in ends(own)
    assert [Path(path).stem for path in told["graphs"]] == list(LABELS)
    assert 'id="figure-circuit-0"' in Path(told["page"]).read_text()


# ------------------------------------------------------------------------------------------ going on, stale, pages


def test_a_killed_search_goes_on_and_finds_the_same(traced, tmp_path, monkeypatch):
    """Killed at its first graph and again at its last step; and nothing is done twice once it is finished."""
    few = CircuitOptions(examples=6, nodes=6, neurons=1)
    whole = circuit(Path(shutil.copytree(traced, tmp_path / "whole")), few).tables
    folder = Path(shutil.copytree(traced, tmp_path / "killed"))

    def killed(*_, **__):
        raise KeyboardInterrupt

    for name in ("graph_answers", "without_words", "component_values"):
        with monkeypatch.context() as patched:
            patched.setattr(run_circuits, name, killed)
            with pytest.raises(KeyboardInterrupt):
                circuit(folder, few)
        assert list((folder / "units" / "circuit").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr(run_circuits, "cut_edges", killed)  # done, and kept
        again = circuit(folder, few).tables
    for name, table in again.items():
        pd.testing.assert_frame_equal(table, whole[name])
    assert not (folder / "units").exists()
    with monkeypatch.context() as patched:
        patched.setattr(run_circuits, "_Search", killed)
        assert circuit(folder, few).tables.keys() == whole.keys()


def test_the_page_draws_the_circuits_and_says_when_they_are_stale(traced, found):
    page = write_report(traced).read_text()
    for label in range(len(LABELS)):
        assert f'id="figure-circuit-{label}"' in page
    assert 'id="figure-kept"' in page
    record = json.loads((traced / "run.json").read_text())
    try:
        (traced / "run.json").write_text(json.dumps(record | {"circuit": {"of": "another"}}))
        page = write_report(traced).read_text()
        assert 'id="figure-circuit-0"' not in page
        assert "`interp circuit` was run before this run was changed" in page
    finally:
        (traced / "run.json").write_text(json.dumps(record))


def test_graph_files_hold_what_viewers_ask_for(traced, found):
    """Required keys and kinds of circuit-tracer's graph models and of Neuronpedia's schema."""
    paths = write_graph_files(traced)
    assert [path.stem for path in paths] == list(LABELS)
    for path in paths:
        graph = json.loads(path.read_text())
        metadata = graph["metadata"]
        assert {"slug", "scan", "transcoder_list", "prompt_tokens", "prompt"} <= metadata.keys()
        assert set(graph["qParams"]) == {"pinnedIds", "supernodes", "linkType", "clickedId", "sg_pos"}
        ids = [node["node_id"] for node in graph["nodes"]]
        assert len(ids) == len(set(ids)) == len({node["jsNodeId"] for node in graph["nodes"]})
        for node in graph["nodes"]:
            assert isinstance(node["feature"], int)
            assert isinstance(node["layer"], str)
            assert node["feature_type"] in ("cross layer transcoder", "embedding", "logit")
            assert 0 <= node["ctx_idx"] < len(metadata["prompt_tokens"])
            assert isinstance(node["clerp"], str)
        assert [n["is_target_logit"] for n in graph["nodes"]].count(True) == 1
        assert graph["links"]
        assert all(link["source"] in ids and link["target"] in ids for link in graph["links"])
        assert all(isinstance(link["weight"], float) for link in graph["links"])
        features = [n for n in graph["nodes"] if n["clerp"].startswith("feature")]
        for node in features:  # the index by which dashboards find them, out of Cantor's pairing
            w = int((np.sqrt(8 * node["feature"] + 1) - 1) / 2)
            y = node["feature"] - w * (w + 1) // 2
            assert node["clerp"].startswith(f"feature {w - y}.{y}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["circuit", "{here}"], "is no run folder"),
        (["circuit", "{run}", "--nodes", "1"], "--nodes must be 2 to 128; got 1."),
        (["circuit", "{run}", "--examples", "3"], "--examples must be at least 4"),
        (["circuit", "{run}", "--neurons", "0"], "neurons"),
        (["patch", "{here}"], "is no run folder"),
        (["patch", "{run}", "--positions", "2"], "--positions takes whole numbers below zero"),
        (["patch", "{run}", "--positions", "-1,x"], "--positions takes whole numbers below zero"),
        (["patch", "{run}", "--positions=-1,-4000"], "outside a prompt of"),
        (["patch", "{run}", "--span", "99"], "--span must be 1 to 9 layers; got 99."),
    ],
)
def test_bad_input_is_one_line(traced, tmp_path, words, said, capsys, monkeypatch):
    given = [word.format(here=tmp_path, run=traced) for word in words]
    monkeypatch.setattr("sys.argv", ["interp", *given])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    err = " ".join(capsys.readouterr().err.split())
    assert said in err
    assert not list(tmp_path.iterdir())


def test_a_run_that_is_not_traced_is_refused(traced, tmp_path, capsys, monkeypatch):
    (tmp_path / "run.json").write_text((traced / "run.json").read_text())
    monkeypatch.setattr("sys.argv", ["interp", "circuit", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.main()
    assert "has not been traced" in " ".join(capsys.readouterr().err.split())


# ------------------------------------------------------------------------------------------ pieces


def test_sizes_are_powers_and_end_with_all():
    assert analysis.sizes(0) == []
    assert analysis.sizes(1) == [1]
    assert analysis.sizes(50) == [1, 2, 4, 8, 16, 24, 32, 48, 50]


def test_the_circuit_is_the_smallest_that_keeps_enough():
    curve = pd.DataFrame({"ranking": "exact", "k": [1, 2, 4, 8], "value": [0.2, 0.7, 0.75, 0.8]})
    assert analysis.circuit_size(curve) == 2
    assert analysis.circuit_size(curve.assign(value=np.nan)) == 0
    assert analysis.circuit_size(curve.assign(value=-1.0)) == 0


def test_faithfulness_is_a_ratio_of_sums_and_missing_where_nothing_differs():
    examples = LabelledExamples(["a", "b"], np.zeros(40, int), np.arange(40), resamples=200)
    rng = np.random.default_rng(0)
    whole, empty = rng.normal(3, 0.5, 40), rng.normal(1, 0.1, 40)
    half = {("exact", 4): ((whole + empty) / 2)[None]}
    line = analysis.faithfulness(half, empty, whole, np.arange(40), "a", examples).iloc[0]
    assert line["value"] == pytest.approx(0.5)
    assert line["ci_low"] == pytest.approx(0.5)
    nothing = analysis.faithfulness(half, empty, empty + rng.normal(0, 1, 40), np.arange(40), "a", examples)
    assert nothing["value"].isna().all()


def test_controls_are_others_of_the_same_kinds():
    everything = [Component(k, kind, i) for k in range(3) for kind in ("head", "neuron") for i in range(4)]
    own = [Component(0, "head", 1), Component(2, "head", 3), Component(1, "neuron", 0)]
    drawn = analysis.like(own, everything, seed=1)
    assert not {*own} & {*drawn}
    assert [c.kind for c in drawn].count("head") == 2
    assert len(drawn) == 3


def test_what_lowers_another_answer_alone_is_not_causal():
    """What pushes `a` in texts of a: at its mean, b gains by the fall of a, and texts of b lose by its rise."""
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], 30)
    examples = LabelledExamples(["a", "b", "c"], gold, np.arange(90), resamples=300)
    clean = rng.normal(0, 0.3, (90, 3))
    clean[gold == 0, 0] += 2
    without = clean.copy()[:, None]
    without[:, 0, 0] -= np.where(gold == 0, 1.3, -0.7) + rng.normal(0, 0.05, 90)
    table = analysis.component_effects(clean, without, [Component(1, "head", 0)], examples, {"head": 8})
    row = table.set_index("emotion")
    assert (row["ci_low"] > 0).all()
    assert row["causal"].to_dict() == {"a": True, "b": False, "c": False}
    assert (row["moves_most"] == "a").all()


@pytest.mark.parametrize(
    ("pieces", "text", "expected"),
    [
        (
            ["<s>", "Text:", " The", " cat", "'s", " gone", ".", "\n", "Emotion:"],
            "The cat's gone.",
            [("the", [2]), ("cat's", [3, 4]), ("gone", [5, 6])],
        ),
        (["A", "b c", " d"], "Ab c d", [("ab", [0, 1]), ("d", [2])]),
        (["x", " y"], "not in it", [("x", [0]), ("y", [1])]),
        (["so", " ", "--", " ", "on"], "so -- on", [("so", [0]), ("on", [4])]),
    ],
)
def test_words_of_a_prompt(pieces, text, expected):
    assert [tuple(span) for span in word_spans(pieces, text)] == expected
