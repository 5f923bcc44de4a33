"""Whole runs on a tiny random model saved to disk: their files, resuming, staleness."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file
from worlds import LABELS, contents, start

from interp import UserError, capture, load_model, load_saes
from interp.engine import ablate, ablate_everywhere
from interp.files.folder import RunFolder
from interp.files.units import Units
from interp.run import pipeline, tables
from interp.run.additive import towards
from interp.run.certifying import certify
from interp.run.config import config_of, load_config
from interp.run.inspecting import inspect
from interp.run.reading import RunFiles
from interp.run.session import Session
from interp.run.steerings import causal_features, remembered
from interp.steering.steering import Steering
from interp.texts.prompts import build_prompts

UNITS = {"baselines", "steer", "evaluate", "side_effects"}
"""Stages that keep the units of their work (causes and learning too, but this world has no causes and no curve)."""
AFTER_STEERING = ["evaluate", "parts", "side_effects", "certificate", "learning"]


def test_a_run_leaves_the_documented_files(finished):
    expected = {
        "run.json",
        "examples.parquet",
        "signals.parquet",
        "phases.json",
        "selectivity.parquet",
        "effects.parquet",
        "steering.safetensors",
        "steering.json",
        "evaluation.parquet",
        "report.html",
        "activations/layer_03.safetensors",
        "features/layer_00.npz",
    }
    assert expected <= set(contents(finished))
    assert not list(finished.rglob("*.part"))
    assert not list(finished.rglob("shard_*"))


def test_tables_have_the_documented_columns(finished):
    columns = {
        "examples": "id corpus split text gold predicted logp_anger logp_fear logp_joy",
        "signals": "layer signal value ci_low ci_high n",
        "selectivity": "layer feature emotion auroc mean_difference p q n kind",
        "effects": "layer phase feature emotion role n effect ci_low ci_high flip_rate attribution control",
        "evaluation": "corpus split method metric value ci_low ci_high n seed",
    }
    for name, wanted in columns.items():
        table = pd.read_parquet(finished / f"{name}.parquet")
        assert set(wanted.split()) <= set(table.columns), name
        assert len(table)
    examples = pd.read_parquet(finished / "examples.parquet")
    assert np.exp(examples[[f"logp_{x}" for x in LABELS]]).sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-5)
    with safe_open(finished / "activations/layer_02.safetensors", "pt") as file:
        assert file.metadata()["ids"].split("\n") == examples["id"].tolist()
        assert file.get_tensor("residuals").shape == (99, 32)


def test_every_file_is_as_its_schema_says(finished):
    suffixes = {".parquet", ".npz", ".safetensors", ".json"}
    paths = [p for p in finished.rglob("*") if p.suffix in suffixes]
    assert len(paths) > 30
    for path in paths:
        schema = tables.schema_of(path.relative_to(finished).as_posix())
        if path.suffix == ".parquet":
            table = pd.read_parquet(path)
            assert list(tables.checked(schema, table)) == list(table)
        elif path.suffix == ".json":
            tables.check_json(schema, json.loads(path.read_text()))
        else:
            arrays = load_file(path) if path.suffix == ".safetensors" else dict(np.load(path))
            tables.check_arrays(schema, arrays)


def test_effects_in_the_table_are_those_of_the_engine(world, finished):
    """One row of effects.parquet, computed anew from the public functions."""
    model = load_model(str(world / "model"))
    saes = load_saes(str(world / "saes"), model, force=True)
    examples = pd.read_parquet(finished / "examples.parquet")
    effects = pd.read_parquet(finished / "effects.parquet")
    for row in effects.iloc[[0, 5, -1]].itertuples():
        mine = examples[(examples["role"] == row.role) & (examples["gold"] == row.emotion)]
        captured = capture(model, build_prompts(mine["text"].tolist(), LABELS), answers=LABELS, keep_cache=True)
        logits = ablate(model, saes, captured, layer=row.layer, features=[row.feature])[:, 0]
        target = LABELS.index(row.emotion)
        effect = captured.answer_log_probabilities[:, target] - logits.log_softmax(-1)[:, target]
        assert row.effect == pytest.approx(effect.mean().item(), abs=1e-4)
        assert row.n == len(mine)


def test_tracing_at_all_positions(world, finished, tmp_path):
    folder = start(world, tmp_path, **{"tracing.position": "all"}).folder
    effects = pd.read_parquet(folder / "effects.parquet")
    assert effects["n_active"].max() > 0
    model = load_model(str(world / "model"))
    saes = load_saes(str(world / "saes"), model, force=True)
    examples = pd.read_parquet(folder / "examples.parquet")
    strongest = effects.sort_values("effect", key=abs, ascending=False).head(3)
    assert strongest["effect"].abs().min() > 1e-3
    for row in strongest.itertuples():
        texts = examples.loc[(examples["role"] == row.role) & (examples["gold"] == row.emotion), "text"].tolist()
        prompts = build_prompts(texts, LABELS)
        captured = capture(model, prompts, answers=LABELS, keep_cache=True, everywhere=[row.layer])
        each, feature = torch.arange(len(texts)), torch.full((len(texts),), row.feature)
        logits = ablate_everywhere(model, saes, captured, layer=row.layer, example=each, feature=feature)
        target = LABELS.index(row.emotion)
        falls = captured.answer_log_probabilities[:, target] - logits.log_softmax(-1)[:, target]
        assert row.effect == pytest.approx(falls.mean().item(), abs=1e-4)
    keys = ["layer", "feature", "emotion", "role"]
    both = effects.merge(pd.read_parquet(finished / "effects.parquet"), on=keys, suffixes=("", "_at_the_answer"))
    assert (both["effect"] - both["effect_at_the_answer"]).abs().max() > 1e-3


def test_the_same_run_gives_the_same_bytes(world, finished, tmp_path):
    assert contents(start(world, tmp_path).folder) == contents(finished)


@pytest.fixture(scope="module")
def bare(world, tmp_path_factory):
    """A run of the same model without SAEs."""
    return start(world, tmp_path_factory.mktemp("bare"), saes="none")


def test_without_saes_a_run_does_all_that_needs_none(world, bare, finished):
    made = contents(bare.folder)
    assert {"signals.parquet", "phases.json", "baselines.parquet", "evaluation.parquet", "certificate.json"} <= set(
        made
    )
    assert not any(name.startswith("features/") or name in ("effects.parquet", "cards.json") for name in made)
    run = RunFiles(bare.folder)
    assert run.missing == []
    assert run.record["saes"] == {"name": "none", "identity": "none", "layers": [], "neuronpedia": {}, "d_sae": []}
    for name in ("baselines", "examples"):  # what needs no features is what it is beside them
        assert made[f"{name}.parquet"] == contents(finished)[f"{name}.parquet"]
    both = ["probe_residuals", "probe_shuffled", "probe_control", "neighbour_agreement", "direct_evidence"]
    signals = [pd.read_parquet(folder / "signals.parquet") for folder in (bare.folder, finished)]
    assert set(signals[0]["signal"]) == {*both}
    keys = ["signal", "layer"]
    beside = signals[0].merge(signals[1], on=keys, suffixes=("", "_beside"))
    assert len(beside) == len(signals[0])
    assert np.allclose(beside["value"], beside["value_beside"])
    trials = pd.read_parquet(bare.folder / "trials.parquet")
    assert {"prior", "coupled"} <= {*trials["method"]}
    page = (bare.folder / "report.html").read_text()
    assert "What the answer takes from it" not in page
    assert "without SAEs" in page
    again = start(world, bare.folder.parent, saes="none")
    assert again.ran == []


def test_a_run_without_saes_can_be_looked_into_certified_and_pushed(bare):
    assert all(figure.same for figure in certify(bare.folder))
    found = inspect(bare.folder, "The dog ran down the street.")
    assert found.features == []
    assert found.evidence.shape[0] == 4
    config = config_of(bare.folder)
    model = load_model(config.model)
    push = towards(bare.folder, load_saes("none", model), "joy", 2.0)
    (layer,) = push.layers
    table = pd.read_parquet(bare.folder / "baselines.parquet")
    own = table[(table["emotion"] == "joy") & (table["method"] == "mean difference direction")]
    assert layer == own.loc[own["effect"].idxmax(), "layer"]
    with push.applied(model):
        pass


def test_saes_that_are_named_later_do_the_rest_and_leaving_them_out_removes_it(world, bare, tmp_path):
    folder = shutil.copytree(bare.folder, tmp_path / "small")
    more = start(world, tmp_path)
    assert "capture" in more.skipped
    assert {"features", "trace", "parts"} <= {*more.ran}
    assert "signals" in more.stale
    less = start(world, tmp_path, saes="none")
    assert "capture" in less.skipped
    assert contents(folder) == contents(bare.folder)
    assert {"features", "trace"} & {*RunFiles(folder).record["stages"]} == set()


def test_a_second_run_skips_everything(world, finished):
    again = start(world, finished.parent)
    assert again.ran == []
    assert len(again.skipped) == len(pipeline.STAGES)


def test_a_finished_run_learns_from_files_alone_that_nothing_is_to_be_done(world, finished):
    """Neither the model nor the SAEs are loaded, nor what would load or draw them."""
    code = """
import sys
from interp.run import pipeline
from interp.run.config import load_config

outcome = pipeline.run(load_config(sys.argv[1], {"out": sys.argv[2]}))
assert outcome.ran == [] and outcome.report.is_file(), outcome
assert not {"torch", "transformers", "sae_lens", "plotly", "sklearn"} & {*sys.modules}
"""
    subprocess.run([sys.executable, "-c", code, world / "small.yaml", finished.parent], check=True)


def test_the_report_is_made_again_where_it_is_not_what_the_run_wrote(world, finished):
    report = (finished / "report.html").read_bytes()
    (finished / "report.html").write_text("another")
    start(world, finished.parent)
    assert (finished / "report.html").read_bytes() == report


def test_a_run_killed_in_every_stage_ends_with_the_same_bytes(world, finished, tmp_path, monkeypatch):
    """Killed in the middle of each stage in turn, after its first atomic write, and started again."""
    from contextlib import contextmanager

    import interp.files.folder as folder_module

    class Kill(BaseException):
        pass

    original = folder_module.writing
    killed_at: list[tuple[str, Path]] = []

    def killing(stage: pipeline.Stage) -> pipeline.Stage:
        @contextmanager
        def writing_once(path):
            with original(path) as part:
                yield part
            if path.name != "run.json":
                killed_at.append((stage.name, path))
                raise Kill

        def run(session):
            with monkeypatch.context() as patched:
                for module in list(sys.modules.values()):
                    if getattr(module, "writing", None) is original:
                        patched.setattr(module, "writing", writing_once)
                stage.run(session)

        return replace(stage, run=run)

    for stage in pipeline.STAGES:
        # Where a stage keeps the units of its work, it is killed again after the next of them.
        for _ in range(1 + any(output.startswith("units/") for output in stage.outputs)):
            with monkeypatch.context() as patched:
                patched.setattr(pipeline, "STAGES", tuple(killing(s) if s is stage else s for s in pipeline.STAGES))
                with pytest.raises(Kill):
                    start(world, tmp_path)
            assert killed_at[-1][0] == stage.name
            assert killed_at[-1][1].exists()
    units = [path for _, path in killed_at if "units" in path.parts]
    assert len(set(units)) == len(units)
    assert {path.parent.name for path in units} >= UNITS
    resumed = start(world, tmp_path)
    assert resumed.ran == [pipeline.STAGES[-1].name]
    assert resumed.stale == []
    assert contents(resumed.folder) == contents(finished)


def test_finished_batches_are_not_computed_again(world, tmp_path):
    """What causes, evaluation, side effects and learning curve are computed with, interrupted in its third batch."""
    config = load_config(world / "small.yaml", {"out": str(tmp_path), "batch_size": "64"})
    (tmp_path / "small").mkdir()
    session = Session(config, RunFolder.open(tmp_path / "small", "small"))
    texts = [e.text for _, e in session.examples][:20]
    assert len(session.chunks(texts)) >= 4
    seen: list[int] = []

    def edit(x: torch.Tensor) -> torch.Tensor:
        seen.append(len(x))
        if len(seen) == stop_at:
            raise KeyboardInterrupt
        return x * 1.5

    edits = {"plain": {}, "moved": {1: edit}}
    stop_at = 3
    with pytest.raises(KeyboardInterrupt):
        session.logits_under(texts, edits, "test", units=session.units("causes"))
    stop_at = 0
    resumed = session.logits_under(texts, edits, "test", units=session.units("causes"))
    n_batches = len(session.chunks(texts))
    assert len(seen) == 3 + n_batches - 2
    whole = session.logits_under(texts, edits, "test")
    assert all(np.array_equal(resumed[name], whole[name]) for name in edits)
    assert np.abs(whole["moved"] - whole["plain"]).max() > 1e-3
    session.units("causes").clear()
    assert not (session.folder / "units").exists()


def test_a_fitted_steering_is_kept_whole_or_not_at_all(tmp_path):
    made: list[Steering] = []

    def make() -> Steering:
        made.append(Steering("vector", vectors={1: torch.randn(4)}))
        return made[-1]

    units = Units(tmp_path, "steer")
    first = remembered(units, "vector, 10 steps", make)
    again = remembered(units, "vector, 10 steps", make)
    assert len(made) == 1
    assert torch.equal(first.vectors[1], again.vectors[1])
    assert first.method == again.method
    (units.path("steering vector, 10 steps") / "steering.json").unlink()  # killed between its two files
    remembered(units, "vector, 10 steps", make)
    assert len(made) == 2


def test_a_changed_config_redoes_only_what_depends_on_it(world, run):
    changed = start(world, run.parent, **{"steering.features": "3"})
    assert changed.stale == changed.ran == ["steer", *AFTER_STEERING]
    changed = start(world, run.parent, **{"steering.features": "3", "tracing.candidates": "5"})
    after = ["evaluate", "parts", "side_effects", "cards", "certificate", "learning", "ratings"]
    assert changed.ran == ["trace", "steer", "causes", *after, "why"]
    changed = start(world, run.parent, **{"prompt.template": "question"})
    assert changed.ran[0] == "capture"
    assert len(changed.ran) == len(pipeline.STAGES)


def test_steering_begins_at_the_layer_asked_for(world, tmp_path, monkeypatch):
    effects = pd.DataFrame(
        {"layer": [0, 1, 2, 3], "feature": [5, 6, 7, 8], "emotion": LABELS[0], "role": "discover"}
        | {"effect": [0.4, 0.3, 0.2, 0.1], "causal": True, "control": False}
    )
    monkeypatch.setattr("interp.run.steerings.tables.read", lambda path: effects)
    for first, layers in (("null", [0, 1, 2, 3]), ("2", [2, 3])):
        config = load_config(world / "small.yaml", {"steering.first_layer": first})
        session = SimpleNamespace(folder=tmp_path, config=config, has_saes=True)
        assert [f.layer for f in causal_features(session)] == layers
    with pytest.raises(UserError, match="first_layer 4 leaves no feature to steer"):
        start(world, tmp_path, **{"steering.first_layer": "4"})


def test_a_folder_of_another_experiment_is_refused(world, finished, tmp_path):
    with pytest.raises(UserError, match="belongs to experiment 'small', not 'other'"):
        RunFolder.open(finished, "other")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.doc").touch()
    with pytest.raises(UserError, match="no run folder"):
        start(world, tmp_path)
