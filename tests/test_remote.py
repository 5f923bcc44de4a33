"""Run folders behind a URL: the same bytes, what a lost machine leaves to go on from, and what is refused."""

import json
import shutil
import sys
from pathlib import Path

import commands_here
import fsspec
import pandas as pd
import pytest
import yaml
from worlds import contents, shell

from interp import UserError
from interp.files.folder import claimed
from interp.files.remote import Remote, RemoteRunFolder, fetch, is_url
from interp.report.opened import open_run
from interp.run import pipeline
from interp.run.config import load_config
from interp.run.places import here, known_folder, run_path, run_url
from interp.run.sweep import load_sweep
from interp.run.sweeping import plan, run_sweep


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """Working copies of each test lie in a place of its own."""
    monkeypatch.setenv("INTERP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def visible(folder: Path) -> dict[str, str]:
    """Contents of a run folder without locks and marks."""
    return {name: found for name, found in contents(folder).items() if not name.startswith(".")}


def downloaded(url: str, folder: Path) -> Path:
    """What is at a URL, fetched by fsspec alone."""
    files, root = fsspec.core.url_to_fs(url)
    for name in files.find(root):
        path = folder / name[len(root) :].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(files.cat_file(name))
    return folder


@pytest.fixture(scope="module")
def memory(world, tmp_path_factory) -> str:
    """The URL of a finished run in the memory of this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INTERP_CACHE", str(tmp_path_factory.mktemp("cache")))
        pipeline.run(load_config(world / "small.yaml", {"out": "memory://bucket/runs"}))
    return "memory://bucket/runs/small"


def test_what_is_a_url():
    for url in ("s3://bucket/runs", "gs://b", "memory://x", "file:///tmp/x", "dir::file:///tmp/x", "abfs://c/r"):
        assert is_url(url), url
    for path in ("runs", "/runs/a:b", "~/runs", "runs/x::y", "C:/runs", "./s3:/x"):
        assert not is_url(path), path


def test_a_run_behind_a_url_has_the_bytes_of_one_in_a_folder(memory, finished, tmp_path):
    assert visible(downloaded(memory, tmp_path / "there")) == visible(finished)


def test_a_machine_without_a_copy_skips_what_is_finished_and_reads_what_is_there(memory, world, finished, cache):
    config = load_config(world / "small.yaml", {"out": memory.rpartition("/")[0]})
    assert run_url(config) == memory
    assert known_folder(config).record["name"] == "small"
    assert not cache.exists()
    done = pipeline.run(config)
    assert not done.ran and set(done.skipped) == {stage.name for stage in pipeline.STAGES}
    assert done.folder == run_path(config)
    assert done.folder.is_relative_to(cache)
    shutil.rmtree(cache)
    run = open_run(memory)
    pd.testing.assert_frame_equal(run.files.table("effects"), open_run(finished).files.table("effects"))
    with pytest.raises(UserError, match=r"is no run folder \(it holds no run\.json\)"):
        here("memory://bucket/runs/other")


def test_a_file_damaged_at_the_url_is_made_again_and_put_there(memory, world, finished, cache, tmp_path):
    files = fsspec.filesystem("memory")
    copy = "memory://mended/runs"
    for name in files.find("/bucket/runs/small"):
        files.pipe_file(name.replace("/bucket/", "/mended/"), files.cat_file(name))
    files.pipe_file("/mended/runs/small/features/layer_01.npz", b"x")
    files.rm_file("/mended/runs/small/phases.json")
    done = pipeline.run(load_config(world / "small.yaml", {"out": copy}))
    assert set(done.mended) == {"features", "phases"}
    assert visible(downloaded(f"{copy}/small", tmp_path / "there")) == visible(finished)


def test_a_lost_file_is_put_again_though_the_record_says_the_same_as_before(tmp_path):
    """Where a stage takes as long as the first time, to the hundredth of a second, its entry is the same."""
    remote = Remote("memory://lost/run")
    for copy in ("first", "second"):
        with claimed(tmp_path / copy, "run"):
            folder = RemoteRunFolder.fetched(tmp_path / copy, "run", remote)
            (folder.path / "phases.json").write_text("{}", encoding="utf-8")
            folder.finish("phases", "as it was", 0.01, ["phases.json"])
        assert remote.read("phases.json") == b"{}"
        remote.remove(["phases.json"])


def test_what_another_machine_changed_is_fetched_and_what_was_removed_goes(memory, tmp_path):
    remote, folder = Remote("memory://moved/run"), tmp_path / "copy"
    files = fsspec.filesystem("memory")
    for name in files.find("/bucket/runs/small"):
        files.pipe_file(name.replace("/bucket/runs/small", "/moved/run"), files.cat_file(name))
    assert fetch(remote, folder) == set()
    (folder / "units").mkdir()
    (folder / "units/half.npz").write_bytes(b"of a stage under way here")
    kept = (folder / "effects.parquet").stat().st_mtime_ns
    assert fetch(remote, folder) == set()
    assert (folder / "units/half.npz").exists()
    record = json.loads(remote.read("run.json"))
    del record["stages"]["phases"]
    remote.write("run.json", json.dumps(record).encode())
    remote.remove(["phases.json"])
    assert fetch(remote, folder) == set()
    assert not (folder / "units/half.npz").exists() and not (folder / "phases.json").exists()
    assert (folder / "effects.parquet").stat().st_mtime_ns == kept  # what is the same does not travel
    remote.remove(remote.names())
    assert fetch(remote, folder) == set()
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_a_killed_run_goes_on_from_its_url_on_a_machine_that_has_nothing(world, finished, tmp_path, cache):
    out = tmp_path / "bucket"
    words = ("run", str(world / "small.yaml"), "--out", f"file://{out}", "--quiet")
    commands_here.killed(words, tmp_path, out / "small/effects.parquet")
    shutil.rmtree(cache)
    seen: list[str] = []
    done = pipeline.run(load_config(world / "small.yaml", {"out": f"file://{out}"}), say=seen.append)
    assert "capture" in done.skipped and "evaluate" in done.ran
    assert visible(out / "small") == visible(finished)
    assert f"file://{out}/small" in seen[0]
    assert not list(out.rglob("*.part")) and not list(out.rglob(".*"))
    assert shell("plot", f"file://{out}/small", cwd=tmp_path).returncode == 0


def test_two_runs_at_a_time_in_one_url_are_told_apart(world, cache):
    config = load_config(world / "small.yaml", {"out": "memory://twice"})

    def say(line: str) -> None:
        if line.startswith("features"):
            Remote("memory://twice/small").write("run.json", b"{}")

    with pytest.raises(UserError, match="was changed by another process while this run was at work"):
        pipeline.run(config, command="trees", say=say)


def test_a_sweep_behind_a_url_goes_on_without_its_working_copy(world, tmp_path, cache):
    out = tmp_path / "bucket"
    tree = {"base": str(world / "small.yaml"), "grid": {"seed": [0, 1]}, "command": "trees", "out": f"file://{out}"}
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(tree))
    sweep = load_sweep(tmp_path / "sweep.yaml")
    first = run_sweep(sweep)
    assert any(one.taken for one in first.outcomes.values())
    made = {"sweep.json", "sweep.csv", "sweep.parquet", "small_seed-0", "small_seed-1"}
    assert {path.name for path in out.iterdir()} == made
    before = {run.name: visible(out / run.name) for run in sweep.runs}
    shutil.rmtree(cache)
    assert all(not one.to_run for one in plan(load_sweep(tmp_path / "sweep.yaml"), measure=False))
    again = run_sweep(load_sweep(tmp_path / "sweep.yaml"))
    assert all(not one.ran for one in again.outcomes.values())
    assert {run.name: visible(out / run.name) for run in sweep.runs} == before
    with pytest.raises(UserError, match="belongs to other settings"):
        load_sweep(tmp_path / "sweep.yaml", {"resamples": "200"})


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("s4://bucket/runs", "no protocol 's4' is known; did you mean 's3'"),
        ("gs://bucket/runs", r"needs a package that is not installed .*pip install gcsfs"),
        ("file:///proc/runs", r"cannot be written to \(.*look at your permissions"),
        ("dir::file:///tmp/runs", "chained with :: are not taken"),
    ],
)
def test_what_cannot_be_reached_is_one_line_before_anything_is_loaded(world, out, said, monkeypatch, cache):
    monkeypatch.setattr(pipeline, "_session", lambda *_: pytest.fail("a model was loaded"))
    if out.startswith("gs"):
        monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(UserError, match=said) as refused:
        pipeline.run(load_config(world / "small.yaml", {"out": out}))
    assert "\n" not in str(refused.value)
