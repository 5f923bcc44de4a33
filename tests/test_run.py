"""Whole runs on a tiny random model saved to disk: files, resuming, staleness, the command line and its refusals."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from conftest import FAMILIES, WORDS, build_model, build_sae, save_stack
from safetensors import safe_open
from safetensors.numpy import load_file

from interp import UserError
from interp.errors import InterpWarning
from interp.files.folder import RunFolder
from interp.files.units import Units
from interp.run import pipeline, tables
from interp.run.config import load_config
from interp.run.session import Session
from interp.run.steerings import causal_features, remembered
from interp.steering.steering import Steering

LABELS = ["anger", "fear", "joy"]
COMMANDS = ["run", "trace", "steer", "plot", "inspect", "generate", "export", "compare", "models", "check", "fetch"]
COMMANDS += ["findings"]
UNITS = {"baselines", "steer", "evaluate", "side_effects"}
"""Stages that keep the units of their work (causes and learning too, but this world has no causes and no curve)."""
AFTER_STEERING = ["evaluate", "learning", "side_effects"]


@pytest.fixture(scope="module")
def world(tmp_path_factory, tokenizer) -> Path:
    """A model folder, an SAE folder, a corpus and a config, as a user would have them."""
    folder = tmp_path_factory.mktemp("world")
    model = build_model("llama", tokenizer)
    model.hf.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    save_stack(folder / "saes")
    rng = np.random.default_rng(0)
    words = WORDS.split()
    rows = [
        {"words": " ".join(rng.choice(words, rng.integers(3, 12))), "feeling": LABELS[i % 3], "split": part}
        for part, n in (("discover", 45), ("fit", 24), ("test", 30))
        for i in range(n)
    ]
    pd.DataFrame(rows).to_csv(folder / "corpus.csv", index=False)
    (folder / "plain.txt").write_text("The dog ran down the street.\n<|endoftext|>\nA letter came in the morning.\n")
    source = {"name": "local", "path": str(folder / "corpus.csv"), "text_column": "words", "label_column": "feeling"}
    config = {
        "name": "small",
        "model": str(folder / "model"),
        "saes": {"name": str(folder / "saes"), "force": True},
        "labels": LABELS,
        "corpora": {
            "discover": {**source, "split": "discover"},
            "fit": {**source, "split": "fit"},
            "test": [{**source, "split": "test"}],
        },
        "tracing": {"candidates": 4},
        "fluency": {"path": str(folder / "plain.txt")},
        "resamples": 100,
        "out": str(folder / "runs"),
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(config))
    return folder


def start(world: Path, out: Path, **overrides: str) -> pipeline.Outcome:
    return pipeline.run(load_config(world / "small.yaml", {"out": str(out), **overrides}))


def contents(folder: Path) -> dict[str, str]:
    """Hash of every file's bytes; of run.json, without its timings."""
    found = {}
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            data = file.read_bytes()
            if file.name == "run.json":
                record = json.loads(data)
                record["config"].pop("out")
                record["stages"] = {k: v["fingerprint"] for k, v in record["stages"].items()}
                data = json.dumps(record).encode()
            found[str(file.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


@pytest.fixture(scope="module")
def finished(world, tmp_path_factory) -> Path:
    return start(world, tmp_path_factory.mktemp("finished")).folder


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
    assert not list(finished.rglob("*.part")) and not list(finished.rglob("shard_*"))


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
    from interp import capture, load_model, load_saes
    from interp.engine import ablate
    from interp.texts.prompts import build_prompts

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
        assert row.effect == pytest.approx(effect.mean().item(), abs=1e-4) and row.n == len(mine)


def test_tracing_at_all_positions(world, tmp_path):
    folder = start(world, tmp_path, **{"tracing.position": "all"}).folder
    effects = pd.read_parquet(folder / "effects.parquet")
    assert effects["effect"].abs().max() > 0 and effects["n_active"].max() > 0


def test_the_same_run_gives_the_same_bytes(world, finished, tmp_path):
    assert contents(start(world, tmp_path).folder) == contents(finished)


def test_a_second_run_skips_everything(world, finished):
    again = start(world, finished.parent)
    assert again.ran == [] and len(again.skipped) == len(pipeline.STAGES)


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
            assert killed_at[-1][0] == stage.name and killed_at[-1][1].exists()
    units = [path for _, path in killed_at if "units" in path.parts]
    assert len(set(units)) == len(units) and {path.parent.name for path in units} >= UNITS
    resumed = start(world, tmp_path)
    assert resumed.ran == [pipeline.STAGES[-1].name] and resumed.stale == []
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
    assert len(made) == 1 and torch.equal(first.vectors[1], again.vectors[1]) and first.method == again.method
    (units.path("steering vector, 10 steps") / "steering.json").unlink()  # killed between its two files
    remembered(units, "vector, 10 steps", make)
    assert len(made) == 2


def test_a_changed_config_redoes_only_what_depends_on_it(world, tmp_path):
    start(world, tmp_path, resamples="100")
    changed = start(world, tmp_path, **{"steering.features": "3"})
    assert changed.stale == changed.ran == ["steer", *AFTER_STEERING]
    changed = start(world, tmp_path, **{"steering.features": "3", "tracing.candidates": "5"})
    assert changed.ran == ["trace", "causes", "steer", "cards", *AFTER_STEERING, "why"]
    changed = start(world, tmp_path, **{"prompt.template": "question"})
    assert changed.ran[0] == "capture" and len(changed.ran) == len(pipeline.STAGES)


def test_steering_begins_at_the_layer_asked_for(world, tmp_path, monkeypatch):
    effects = pd.DataFrame(
        {"layer": [0, 1, 2, 3], "feature": [5, 6, 7, 8], "emotion": LABELS[0], "role": "discover"}
        | {"effect": [0.4, 0.3, 0.2, 0.1], "causal": True, "control": False}
    )
    monkeypatch.setattr("interp.run.steerings.tables.read", lambda path: effects)
    for first, layers in (("null", [0, 1, 2, 3]), ("2", [2, 3])):
        config = load_config(world / "small.yaml", {"steering.first_layer": first})
        assert [f.layer for f in causal_features(SimpleNamespace(folder=tmp_path, config=config))] == layers
    with pytest.raises(UserError, match="first_layer 4 leaves no feature to steer"):
        start(world, tmp_path, **{"steering.first_layer": "4"})


def test_a_folder_of_another_experiment_is_refused(world, finished, tmp_path):
    with pytest.raises(UserError, match="belongs to experiment 'small', not 'other'"):
        RunFolder.open(finished, "other")
    (tmp_path / "small").mkdir()
    (tmp_path / "small" / "thesis.doc").touch()
    with pytest.raises(UserError, match="no run folder"):
        start(world, tmp_path)


# ---------------------------------------------------------------------------------------- command line


def interp(*words: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "interp.cli", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        timeout=300,
    )


def test_the_command_prints_the_report_last(world, tmp_path):
    done = interp("run", str(world / "small.yaml"), "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.strip() == "here/small/report.html" and (tmp_path / "here/small/report.html").stat().st_size > 1e5
    )
    assert "macro-F1" in done.stderr
    again = interp("plot", "here/small", cwd=tmp_path)
    assert again.returncode == 0 and again.stdout == done.stdout


REFUSALS = {
    "no such config": (["run", "nowhere.yaml"], "No config file 'nowhere.yaml'"),
    "unknown option": (
        ["run", "{c}", "--tracing.candidate", "3"],
        "unknown key 'tracing.candidate'; did you mean 'candidates'",
    ),
    "unknown top-level option": (["run", "{c}", "--modell", "x"], "--modell; did you mean 'model'"),
    "value missing": (["run", "{c}", "--seed"], "--seed needs a value"),
    "value of the wrong kind": (["run", "{c}", "--tracing.candidates", "many"], "tracing.candidates"),
    "value out of range": (["run", "{c}", "--tracing.candidates", "0"], "candidates must be at least 1"),
    "unknown corpus": (["run", "{c}", "--corpora.discover.name", "goemotion"], "did you mean 'goemotions'"),
    "unknown split": (["run", "{c}", "--corpora.discover.split", "discovr"], "did you mean 'discover'"),
    "missing corpus file": (["run", "{c}", "--corpora.discover.path", "gone.csv"], "gone.csv"),
    "missing column": (["run", "{c}", "--corpora.discover.text_column", "wordz"], "did you mean 'words'"),
    "unknown label": (["run", "{c}", "--labels", "[anger, fear, boredom]"], "boredom"),
    "one label": (["run", "{c}", "--labels", "[anger]"], "at least two"),
    "unknown model": (["run", "{c}", "--model", "tinny"], "did you mean 'tiny'"),
    "empty model folder": (["run", "{c}", "--model", "{w}/saes"], "config.json"),
    "missing SAE folder": (["run", "{c}", "--saes", "{w}/gone"], "gone"),
    "SAE folder without SAEs": (["run", "{c}", "--saes", "{w}/model"], "folder per layer"),
    "unknown template": (["run", "{c}", "--prompt.template", "defalt"], "did you mean 'default'"),
    "template without text": (["run", "{c}", "--prompt.template", "Say {labels}"], "{text}"),
    "unknown device": (["run", "{c}", "--device", "gpu0"], "device"),
    "unknown dtype": (["run", "{c}", "--dtype", "float23"], "dtype"),
    "missing plain text": (["run", "{c}", "--fluency.path", "gone.txt"], "gone.txt"),
    "no run folder to plot": (["plot", "."], "no run folder"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_clear_line_and_exit_code_two(world, tmp_path, case, capfd, monkeypatch):
    from interp.cli import main as cli

    words, expected = REFUSALS[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "interp",
            *(
                w.format(c=world / "small.yaml", w=world) if "{text}" not in w and "{labels}" not in w else w
                for w in words
            ),
        ],
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    err = capfd.readouterr().err
    assert stopped.value.code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("interp:")]
    assert len(lines) == 1 and expected in lines[0] and "Traceback" not in err


def test_an_unwritable_folder_is_refused(world, tmp_path):
    (tmp_path / "file").touch()
    done = interp("run", str(world / "small.yaml"), "--out", "file", cwd=tmp_path)
    assert done.returncode == 2 and "Cannot write to file" in done.stderr


def test_a_full_disk_is_one_line_and_loses_nothing(world, tmp_path, monkeypatch, capfd):
    import errno

    from interp.cli import main as cli
    from interp.run.stages import trace

    def full(path, table):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(trace, "tables", SimpleNamespace(write=full))
    monkeypatch.setattr(sys, "argv", ["interp", "run", str(world / "small.yaml"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and "No space left on device" in capfd.readouterr().err
    monkeypatch.undo()
    resumed = start(world, tmp_path)
    assert "capture" in resumed.skipped
    assert resumed.ran[:6] == [
        "trace",
        "causes",
        "selectivity",
        "steer",
        "baselines",
        "cards",
    ]


def test_our_own_faults_exit_with_one(world, tmp_path, monkeypatch, capfd):
    from interp.cli import main as cli

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["interp", "run", str(world / "small.yaml")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1 and "our fault (ZeroDivisionError" in capfd.readouterr().err
    assert "1 / 0" in (tmp_path / "interp-error.log").read_text()


def test_interruption_is_one_line(world, monkeypatch, capfd):
    from interp.cli import main as cli

    def interrupted(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["interp", "run", str(world / "small.yaml")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2 and "goes on from there" in capfd.readouterr().err


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_written_in_parts_are_a_safetensors_file(tmp_path, dtype):
    from safetensors import safe_open

    from interp.files.folder import write_rows

    whole = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    write_rows(tmp_path / "x.safetensors", "rows", iter(whole.split(4)), (10, 3), {"ids": "a\nb"})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("rows"), whole) and file.metadata() == {"ids": "a\nb"}
    with pytest.raises(ValueError, match="for shape"):
        write_rows(tmp_path / "y.safetensors", "rows", iter(whole.split(4)), (11, 3), {})
    assert not (tmp_path / "y.safetensors").exists()


@pytest.mark.parametrize("family", [f for f in FAMILIES if f != "llama"])
def test_a_run_with_few_saes_and_answers_scored_whole(tmp_path, tokenizer, world, family):
    """SAEs for two of four layers, one in memory at a time, and labels that no first token tells apart."""
    model = build_model(family, tokenizer)
    model.hf.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    for layer in (1, 3):
        build_sae("jumprelu", seed=layer).save_model(str(tmp_path / "saes" / f"layer_{layer:02d}"))
    labels = ["sad", "sadness", "sadly lost"]
    table = pd.read_csv(world / "corpus.csv")
    table["feeling"] = table["feeling"].map(dict(zip(LABELS, labels, strict=True)))
    table.to_csv(tmp_path / "corpus.csv", index=False)
    tree = yaml.safe_load((world / "small.yaml").read_text())
    for part in (tree["corpora"]["discover"], tree["corpora"]["fit"], tree["corpora"]["test"][0]):
        part["path"] = str(tmp_path / "corpus.csv")
    tree |= {"labels": labels, "model": str(tmp_path / "model"), "out": str(tmp_path / "runs")}
    tree["saes"] = {"name": str(tmp_path / "saes"), "force": True, "resident": 1}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    with pytest.warns(InterpWarning, match="covers layers 1, 3 of 4"):
        outcome = pipeline.run(load_config(tmp_path / "config.yaml"))
    record = json.loads((outcome.folder / "run.json").read_text())
    assert record["model"]["answers_scored_by"] == "whole words"
    effects = pd.read_parquet(outcome.folder / "effects.parquet")
    assert set(effects["layer"]) <= {1, 3} and effects["effect"].abs().max() > 0
    assert set(pd.read_parquet(outcome.folder / "signals.parquet")["layer"]) == {1, 3}
    assert outcome.report.stat().st_size > 100_000


def test_tables_come_as_json(world, finished, tmp_path):
    done = interp("run", str(world / "small.yaml"), "--out", str(finished.parent), "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.stderr.count("note:") == len(done.stderr.splitlines())  # no progress beside it
    assert found["report"].endswith("report.html") and found["ran"] == []
    gains = [r for r in found["evaluation"] if r["metric"] == "macro_f1_gain" and r["method"] == "steered"]
    assert gains and gains[0]["corpus"] == "local"
    checked = json.loads(interp("check", str(world / "small.yaml"), "--json", cwd=tmp_path).stdout)
    assert checked["downloads"] == [] and checked["peak_bytes"] > 0 and checked["stages"]


def test_completion_for_the_shell_is_written(tmp_path):
    done = interp("--install-completion", "--shell", "bash", "--output", "interp.sh", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0 and "interp" in (tmp_path / "interp.sh").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    from interp.cli.main import app

    app.help_print([command])
    assert "For example:" in capsys.readouterr().out
