"""Sweeps: which runs there are, what is refused, what they share; the same bytes as runs alone."""

import json
from pathlib import Path

import commands_here
import pandas as pd
import pytest
import yaml
from worlds import contents, shell, start

from interp import UserError
from interp.models.sources import packaged_models
from interp.run import pipeline, sweeping
from interp.run.computed import LETTERS, RATE
from interp.run.config import Config, load_config
from interp.run.inputs import Inputs
from interp.run.pipeline import STAGES
from interp.run.scaling import SHAPES
from interp.run.session import Session
from interp.run.shared import Shared, shared_keys
from interp.run.sweep import load_sweep
from interp.run.sweeping import plan, run_sweep

GRID = {"seed": [0, 1], "steering.method": ["best", "prior"]}


def write(folder: Path, **sweep) -> Path:
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({"out": str(folder / "out"), **sweep}, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def swept(world, tmp_path_factory):
    """A finished sweep of the world, to be read."""
    folder = tmp_path_factory.mktemp("swept")
    sweep = load_sweep(write(folder, base=str(world / "small.yaml"), grid=GRID, name="{steering.method}-{seed}"))
    return sweep, run_sweep(sweep)


def test_a_grid_crosses_its_axes_and_a_list_does_not(tmp_path):
    sweep = load_sweep(
        write(tmp_path, base={"name": "b"}, grid={"seed": [0, 1], "prompt.template": ["default", "question"]})
    )
    assert [run.name for run in sweep.runs] == [
        "b_seed-0_template-default",
        "b_seed-0_template-question",
        "b_seed-1_template-default",
        "b_seed-1_template-question",
    ]
    assert [(r.config.seed, r.config.prompt.template) for r in sweep.runs][1] == (0, "question")
    assert {r.config.out for r in sweep.runs} == {str(tmp_path / "out")}
    listed = load_sweep(
        write(tmp_path, list=[{"seed": 3}, {"tracing.candidates": 8, "steering.labels": "none"}], name="r{number}")
    )
    assert [r.name for r in listed.runs] == ["r001", "r002"]
    assert listed.runs[0].config.seed == 3
    assert (listed.runs[1].config.tracing.candidates, listed.runs[1].config.steering.labels) == (8, None)


def test_settings_that_belong_together_are_an_axis_of_their_own(tmp_path):
    corpora = {
        "vignettes": {"corpora.discover": {"name": "vignettes", "split": "fit"}, "labels": "ekman6"},
        "few": {"corpora.discover.limit": 12, "corpora.test": [{"name": "vignettes", "limit": 24}]},
    }
    sweep = load_sweep(write(tmp_path, grid={"corpus": corpora, "seed": [5]}, name="{corpus}-{seed}"))
    one, other = (run.config for run in sweep.runs)
    assert (one.name, one.corpora.discover.split, one.corpora.discover.limit) == ("vignettes-5", "fit", None)
    assert (other.name, other.corpora.discover.limit, other.corpora.test[0].limit) == ("few-5", 12, 24)


def test_runs_of_one_model_and_of_one_stack_follow_each_other(tmp_path):
    models, stacks = ["one", "two"], ["a", "b"]
    grid = {"seed": [0, 1], "saes.name": stacks, "model": models}
    sweep = load_sweep(write(tmp_path, grid=grid))
    order = [(run.config.model, run.config.saes.name, run.config.seed) for run in sweep.runs]
    assert order == [(m, s, seed) for m in models for s in stacks for seed in (0, 1)]


BAD = [
    ({"grid": {"sed": [0]}}, "unknown key 'sed'; did you mean 'seed'"),
    ({"grid": {"steering.metod": ["best"]}}, "did you mean 'method'"),
    ({"grid": {"seed": ["one"]}}, "seed: input should be a valid integer"),
    ({"grid": {"steering.method": ["best", "bets"]}}, "run 'tiny_method-bets'"),
    ({"grid": {"seed": [0, 0]}}, "names '0' twice"),
    ({"grid": {"seed": 3}}, "must be a list of values"),
    ({"grid": {"seed": []}}, "must be a list of values"),
    ({"grid": {"both": {"a": {}}}}, "must be a mapping of fields"),
    ({"grid": {"name": ["a"]}}, "name cannot be swept"),
    ({"grid": {"seed": [0, 1]}, "name": "x"}, "two runs would be called 'x'"),
    ({"grid": {"model": ["a/tiny", "b/tiny"]}}, "names 'tiny' twice"),
    ({"grid": {"labels": {"UP": {"seed": 1}, "up": {"seed": 2}}}}, "two runs would be called"),
    ({"grid": {"seed": [0, 1]}, "name": "{sede}"}, "nothing that is swept; did you mean 'seed'"),
    ({"grid": {"a": {"x": {"seed": 1}}, "seed": [1]}}, "seed is set by two axes"),
    ({"grid": {"seed": [0]}, "list": [{"seed": 1}]}, "either a grid"),
    ({}, "either a grid"),
    ({"list": [3]}, "list of mappings"),
    ({"gird": {"seed": [0]}}, "unknown key 'gird' of a sweep; did you mean 'grid'"),
    ({"grid": {"seed": [0]}, "base": "nowhere.yaml"}, "is no file"),
    ({"grid": {"seed": [0]}, "base": [1]}, "base must be"),
    ({"grid": {"seed": [0]}, "store_gb": "much"}, "store_gb must be a number"),
    ({"grid": {"seed": [0]}, "command": "express"}, "command must be one of"),
    ({"grid": {f"{part}": [str(i) for i in range(30)] for part in ("a", "b", "c")}}, "stands for 27,000 runs"),
    ({"grid": {"seed": [0]}, "name": "a/b"}, "folder name"),
]


@pytest.mark.parametrize(("sweep", "words"), BAD, ids=[words for _, words in BAD])
def test_bad_sweeps_are_refused_in_one_line(tmp_path, sweep, words):
    with pytest.raises(UserError) as refused:
        load_sweep(write(tmp_path, **sweep))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_what_is_swept_cannot_be_given_beside_it_and_other_fields_can(tmp_path):
    path = write(tmp_path, grid={"steering.method": ["best", "prior"]})
    assert {run.config.seed for run in load_sweep(path, {"seed": "7"}).runs} == {7}
    for fields in ({"steering.method": "best"}, {"steering": "{method: best}"}, {"out": "x"}):
        with pytest.raises(UserError, match="--"):
            load_sweep(path, fields)


def test_a_mistake_in_the_last_run_is_refused_before_the_first(world, tmp_path):
    grid = {"corpora.discover.path": [str(world / "corpus.csv"), str(tmp_path / "absent.csv")]}
    sweep = load_sweep(write(tmp_path, base=str(world / "small.yaml"), grid=grid))
    with pytest.raises(UserError, match=r"absent\.csv"):
        run_sweep(sweep)
    assert not (tmp_path / "out").exists()


def test_a_folder_of_other_settings_is_refused(swept, tmp_path):
    sweep, _ = swept
    assert load_sweep(sweep.path).runs == sweep.runs  # its own folders are none
    with pytest.raises(UserError, match=r"belongs to other settings \(resamples is 100, not 200\)"):
        load_sweep(sweep.path, {"resamples": "200"})


def test_runs_of_a_sweep_are_to_the_last_byte_those_that_run_alone(swept, world, tmp_path):
    sweep, outcome = swept
    assert any(one.taken for one in outcome.outcomes.values())
    for run in sweep.runs:
        if run.config.steering.method == "best":  # their files are among those that the others have taken over
            continue
        fields = {"name": run.name, "seed": str(run.config.seed), "steering.method": run.config.steering.method}
        alone = start(world, tmp_path, **fields).folder
        assert contents(run.folder) == contents(alone), run.name
        records = [json.loads((folder / "run.json").read_text())["stages"] for folder in (run.folder, alone)]
        hashes = [{stage: entry["outputs"] for stage, entry in record.items()} for record in records]
        assert hashes[0] == hashes[1]


def test_stages_that_do_not_depend_on_what_is_swept_run_once(swept):
    sweep, outcome = swept
    taken = {name: set(one.taken) for name, one in outcome.outcomes.items()}
    assert taken["best-0"] == set()
    before = {"capture", "features", "attribution", "signals", "phases", "trace", "causes", "selectivity", "trees"}
    assert before <= taken["prior-0"]
    assert taken["best-1"] == {"capture", "features", "attribution"}  # another seed draws the same texts
    assert not {"steer", "evaluate"} & taken["prior-0"]
    for name, one in outcome.outcomes.items():
        assert {*one.ran, *one.taken} == {stage.name for stage in STAGES}, name
    folders = {run.name: run.folder for run in sweep.runs}
    first, second = (folders[name] / "features/layer_00.npz" for name in ("best-0", "best-1"))
    assert first.stat().st_ino == second.stat().st_ino


def test_the_table_and_the_page_tell_of_every_run(swept):
    sweep, outcome = swept
    table = pd.read_parquet(sweep.out / "sweep.parquet")
    assert table["run"].tolist() == [run.name for run in sweep.runs]
    assert {"seed", "steering.method", "accuracy", "gain", "gain_low", "causal_features"} <= {*table.columns}
    written = pd.read_csv(sweep.out / "sweep.csv", dtype=dict.fromkeys(sweep.axes, str))
    pd.testing.assert_frame_equal(written, table, check_dtype=False)
    for run, line in zip(sweep.runs, table.itertuples(), strict=True):
        scores = pd.read_parquet(run.folder / "evaluation.parquet").set_index(["corpus", "method", "metric"])["value"]
        assert line.accuracy == scores["local", "unsteered", "accuracy"]
        assert line.gain == scores["local", "steered", "macro_f1_gain"]
    page = outcome.page.read_text()
    assert all(run.name in page for run in sweep.runs)


def test_a_second_sweep_skips_everything(swept):
    sweep, _ = swept
    again = run_sweep(sweep)
    assert all(not one.ran and not one.taken for one in again.outcomes.values())
    assert [one.seconds for one in plan(sweep)] == [0.0] * 4
    assert all(len(one.done) == len(STAGES) for one in plan(sweep, measure=False))


def test_a_dry_run_says_what_will_be_taken_over_and_writes_nothing(world, swept, tmp_path):
    _, outcome = swept
    sweep = load_sweep(write(tmp_path, base=str(world / "small.yaml"), grid=GRID, name="{steering.method}-{seed}"))
    planned = plan(sweep)
    assert not sweep.out.exists()
    for one in planned:
        done = outcome.outcomes[one.run.name]
        assert set(one.taken) == set(done.taken), one.run.name
        assert set(one.to_run) == set(done.ran)
    assert planned[0].seconds > planned[1].seconds > 0
    assert planned[0].where == "cpu, float32"


def test_a_damaged_file_is_not_taken_over(world, tmp_path):
    """Neither one that was changed in the run that made it, nor one whose record was lost."""
    fields = {"out": str(tmp_path / "out"), "name": "one"}
    config = load_config(world / "small.yaml", fields)
    pipeline.run(config, command="trees", shared=Shared(tmp_path / "out/.shared", budget=10**8))
    features = tmp_path / "out/one/features/layer_01.npz"
    whole = features.read_bytes()
    features.write_bytes(whole[:-1] + b"x")
    for record in (tmp_path / "out/.shared/stages").glob("*/*"):
        if json.loads(record.read_text())["stage"] == "selectivity":
            record.write_text("{}")
    other = load_config(world / "small.yaml", {**fields, "name": "two"})
    done = pipeline.run(other, command="trees", shared=Shared(tmp_path / "out/.shared", budget=10**8))
    assert "features" in done.ran
    assert "selectivity" in done.ran
    assert set(done.taken) == {"capture", "trees"}
    assert (tmp_path / "out/two/features/layer_01.npz").read_bytes() == whole


def test_every_source_of_a_difference_changes_the_key(world):
    """What no file shows: two runs may not share a stage that reads a field it does not declare."""
    base = load_config(world / "small.yaml")

    def keys(**fields: str) -> dict[str, str]:
        return shared_keys(Inputs(load_config(world / "small.yaml", fields)), STAGES)

    first = shared_keys(Inputs(base), STAGES)
    assert keys(name="other", out="elsewhere") == first
    everything = {stage.name for stage in STAGES}

    def changed(**fields: str) -> set[str]:
        return {name for name, key in keys(**fields).items() if key != first[name]}

    assert changed(batch_size="64") == changed(**{"prompt.template": "question"}) == everything
    assert changed(**{"corpora.discover.limit": "30"}) == everything
    assert everything - changed(seed="1") == {"capture", "features", "attribution"}
    assert everything - changed(seed="1", **{"prompt.shots": "1"}) == set()
    assert "capture" not in changed(**{"saes.layers": "[0, 1]"})
    assert changed(**{"saes.layers": "[0, 1]"}) >= everything - {"capture", "baselines"}
    assert changed(**{"steering.harm_budget": "0.5"}) >= {"steer", "evaluate", "side_effects", "certificate"}
    assert not changed(**{"steering.harm_budget": "0.5"}) & {"capture", "features", "trace", "causes", "cards"}


class Watched:
    """A configuration that notes which of its fields are asked for."""

    def __init__(self, part: object, prefix: str, noted: set[str]) -> None:
        vars(self).update(part=part, prefix=prefix, noted=noted)

    def __getattr__(self, name: str) -> object:
        value = getattr(self.part, name)
        inner = f"{self.prefix}{name}"
        if name == "as_dict":
            return value
        if name in ("tracing", "steering", "fluency"):
            return Watched(value, f"{inner}.", self.noted)
        self.noted.add(inner)
        return value


GROUND = {"labels", "prompt", "corpora", "model", "saes", "device", "dtype", "device_map", "quantization", "batch_size"}
"""Fields that every key depends on, or on what was made of them: texts, identities."""


def test_every_stage_declares_the_fields_it_reads(world, tmp_path):
    """Brute force: every stage runs on a configuration that notes what is asked of it."""
    noted: set[str] = set()
    read: dict[str, set[str]] = {}
    shared = Shared()

    class Noting(Session):
        @property
        def config(self) -> Config:
            return Watched(self._config, "", noted)

        @config.setter
        def config(self, value: Config) -> None:
            self._config = getattr(value, "part", value)

    with pytest.MonkeyPatch.context() as patch:

        def run_one(session, stage, print_, say) -> None:
            fresh = Noting(session.config, session.folder, session.progress, shared=shared)
            noted.clear()
            _ = fresh.shots, fresh.examples, fresh.anchors, fresh.rated, fresh.plain_documents  # in sources
            noted.clear()
            stage.run(fresh)
            read[stage.name] = {*noted}

        patch.setattr(pipeline, "_run_one", run_one)
        start(world, tmp_path, **{"steering.learning_curve": "1", "tracing.candidates": "8"})
    shared.close()
    assert len(read) == len(STAGES)
    through = {stage.name: {*stage.fields, *stage.inherits} for stage in STAGES}
    for stage in STAGES:
        for before in STAGES:
            if {*before.outputs} & {*stage.reads}:
                through[stage.name] |= through[before.name] - {*before.draws}
    for name, fields in read.items():
        declared = through[name] | GROUND
        undeclared = {f for f in fields if f not in declared and f.partition(".")[0] not in declared}
        assert not undeclared, (name, undeclared)
    assert "seed" in read["selectivity"]
    assert "tracing.candidates" in read["trace"]


def test_a_killed_sweep_goes_on_and_ends_with_the_same_bytes(swept, world, tmp_path):
    sweep, _ = swept
    path = write(tmp_path, base=str(world / "small.yaml"), grid={**GRID, "seed": [0]}, name="{steering.method}-{seed}")
    out = tmp_path / "out"
    for wanted in ("best-0/phases.json", "prior-0/trials.parquet"):
        commands_here.killed(("sweep", str(path), "--quiet"), tmp_path, out / wanted)
    half = out / ".shared/stages/4a/.4aed.e7f9.part.part"  # as a kill in the middle of a record leaves it
    half.parent.mkdir(parents=True, exist_ok=True)
    half.write_text("{")
    done = shell("sweep", str(path), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    runs = [run for run in sweep.runs if run.config.seed == 0]
    assert [run["run"] for run in found["runs"]] == [run.name for run in runs]
    for run in runs:
        own, beside = contents(out / run.name), contents(run.folder)
        assert {k: v for k, v in own.items() if k not in ("run.json", "report.html")} == {
            k: v for k, v in beside.items() if k not in ("run.json", "report.html")
        }
    assert not list(out.rglob("*.part"))
    assert not list(out.rglob("scratch_*"))


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    path = write(tmp_path, grid={"seed": [0, 1]}, name="x")
    done = shell("sweep", str(path), cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") <= 2
    assert "two runs would be called 'x'" in " ".join(done.stderr.split())


def test_what_shapes_tell_of_a_model_that_is_not_here(tmp_path, monkeypatch):
    """At least the products with all weights for all letters, at most a few hundred times as much; more of more."""
    monkeypatch.setattr(sweeping, "_lacking", lambda run: "not here")
    grid = {
        "of": {
            "small": {"model": "openai-community/gpt2", "saes": "none"},
            "large": {"model": "google/gemma-2-2b", "saes": "none"},
            "saes": {"model": "google/gemma-2-2b", "saes": {"name": "gemma-scope-2b-pt-res-canonical", "width": "16k"}},
            "few": {"model": "google/gemma-2-2b", "saes": "none", "corpora.discover.limit": 30},
            "unknown": {"model": "someone/something", "saes": "none"},
        }
    }
    planned = {one.run.point["of"]: one for one in plan(load_sweep(write(tmp_path, grid=grid, name="{of}")))}
    assert planned["unknown"].computed is None
    assert planned["small"].computed < planned["few"].computed < planned["large"].computed < planned["saes"].computed
    texts = [example.text for _, example in Inputs(planned["large"].run.config).examples]
    least = 2 * SHAPES["google/gemma-2-2b"].block_weights * 26 * sum(map(len, texts)) / LETTERS / RATE
    assert least < planned["large"].computed < 300 * least
    assert all((one.seconds, one.where.split(",")[0]) == (None, "cpu") for one in planned.values())


@pytest.mark.parametrize("name", ["smollm2-135m-instruct", "gemma-3-270m"])
def test_shapes_add_up_to_the_parameters_that_are_published(name):
    model = packaged_models()[name]
    assert SHAPES[model.original].weights == pytest.approx(model.parameters, rel=1e-3)  # norms have the rest
    assert SHAPES[model.original].n_layers == model.layers


def test_a_dry_run_says_by_what_runs_are_computed(tmp_path):
    grid = {"resources.workers": ["none", "2"]}
    fields = {"engine": "auto", "resources.gpus": "0.5"}
    planned = plan(load_sweep(write(tmp_path, grid=grid), fields), measure=False)
    each = "1 CPUs and 0.5 GPUs each; here cpu, float32"
    assert [one.where for one in planned] == [
        f"auto: workers, as many as there is room for, {each}",
        f"auto: 2 workers, {each}",
    ]


def test_a_dry_run_of_models_that_are_not_here_says_what_is_not_known(tmp_path):
    path = write(
        tmp_path,
        base={"model": "google/gemma-2-2b", "saes": {"name": "gemma-scope-2b-pt-res-canonical", "width": "16k"}},
        grid={"seed": [0, 1]},
    )
    done = shell("sweep", str(path), "--dry-run", cwd=tmp_path, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "hub"))
    assert done.returncode == 0, done.stderr
    assert "google/gemma-2-2b" in done.stdout
    assert "26 SAEs of gemma-scope-2b-pt-res-canonical" in done.stdout
    assert "2 runs of which it is not known" in done.stdout
    assert "a run at 100 TFLOP/s" in " ".join(done.stdout.split())
    assert not (tmp_path / "out").exists()
