"""Damaged, missing, linked and hostile files, two processes at once, full disks: noticed, said in a line, mended."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from rich.table import Table
from safetensors import SafetensorError, safe_open
from worlds import contents, start

from interp import UserError
from interp.cli import main as cli
from interp.errors import CONTROL, nearest
from interp.files.folder import RunFolder, claimed, out_of_space, write_json, write_rows, writing
from interp.files.stored import as_recorded, read_record
from interp.report import write_report
from interp.report.comparing import compare
from interp.run import pipeline
from interp.run.config import load_config
from interp.terminal import Screen

READ_BY_THE_REPORT = ["why.parquet", "signals.parquet", "phases.json", "effects.parquet", "steering.json", "cards.json"]


def halved(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def told(words: list[str], monkeypatch, capfd) -> tuple[int, str]:
    """Exit code and standard error of the command."""
    monkeypatch.setattr(sys, "argv", ["interp", *words])
    try:
        cli.main()
    except SystemExit as stopped:
        return int(stopped.code or 0), capfd.readouterr().err
    return 0, capfd.readouterr().err


# ------------------------------------------------------------------------------------------ F1


def test_f1_a_folder_is_written_by_one_process(tmp_path):
    with claimed(tmp_path / "run"):
        with (
            pytest.raises(UserError, match=rf"written by process {os.getpid()} on .* since 20"),
            claimed(tmp_path / "run"),
        ):
            pass
        code = "import sys, pathlib, interp.files.folder as f; f.claimed(pathlib.Path(sys.argv[1])).__enter__()"
        words = [sys.executable, "-c", code, str(tmp_path / "run")]
        other = subprocess.run(words, capture_output=True, text=True, check=False)
        assert other.returncode
        assert f"process {os.getpid()} on" in other.stderr
    with claimed(tmp_path / "run"):
        pass
    assert (tmp_path / "run" / ".lock").read_bytes() == b""


def test_f1_a_second_run_of_other_seed_is_refused_while_the_first_goes_on(world, run):
    before = contents(run)
    with claimed(run), pytest.raises(UserError, match="is being written by"):
        start(world, run.parent, seed="1")
    assert contents(run).keys() - {".lock"} == before.keys() - {".lock"}


def test_f1_residuals_of_other_examples_are_not_taken(world, run):
    """A layer's file that an unfinished stage left, of other texts: captured again."""
    whole = contents(run)
    folder = RunFolder(run)
    folder.record["stages"]["capture"] |= {"finished": False}
    folder.note()
    path = run / "activations" / "layer_01.safetensors"
    data = path.read_bytes()
    path.write_bytes(
        data.replace(b"local/", b"LOCAL/") if b"local/" in data else data.replace(b'"ids":"', b'"ids":"X', 1)
    )
    start(world, run.parent)
    assert contents(run)["activations/layer_01.safetensors"] == whole["activations/layer_01.safetensors"]


# ------------------------------------------------------------------------------------------ F2, F3


@pytest.mark.parametrize("harm", ["deleted, halved", "other bytes of equal size", "added"])
def test_f2_a_finished_run_mends_what_is_not_as_it_wrote_it(world, run, harm):
    whole = contents(run)
    if harm == "deleted, halved":
        (run / "why.parquet").unlink()
        (run / "features/layer_00.npz").unlink()
        halved(run / "features/layer_01.npz")
    elif harm == "added":
        (run / "features/layer_99.npz").write_bytes(b"x")
        shutil.copytree(run / "steerings", run / "steerings" / "strange")
    else:
        for name in ("why.parquet", "features/layer_01.npz"):
            data = bytearray((run / name).read_bytes())
            data[len(data) // 2] ^= 1
            (run / name).write_bytes(data)
    said: list[str] = []
    outcome = pipeline.run(load_config(world / "small.yaml", {"out": str(run.parent)}), say=said.append)
    expected = ["features", "steer"] if harm == "added" else ["features", "why"]
    assert outcome.mended == outcome.ran == expected
    assert any("missing or damaged" in line for line in said)
    assert contents(run) == whole
    assert start(world, run.parent).ran == []


def test_f3_what_a_stage_reads_is_checked(world, run):
    """A quarter of effects.parquet's rows: steering is not fitted on them."""
    whole = contents(run)
    table = pd.read_parquet(run / "effects.parquet")
    table.head(len(table) // 4).to_parquet(run / "effects.parquet", index=False)
    outcome = start(world, run.parent, **{"steering.features": "3"})
    assert outcome.mended == ["trace"]
    assert "steer" in outcome.ran
    assert contents(run)["effects.parquet"] == whole["effects.parquet"]


def test_f3_a_stage_that_comes_out_otherwise_is_followed_by_what_reads_it(world, run):
    """Where the mended files are not the recorded ones (another library, a GPU), their readers run again."""
    record = json.loads((run / "run.json").read_text())
    outputs = record["stages"]["phases"]["outputs"]
    outputs["phases.json"][1] = "0" * 64
    write_json(run / "run.json", record)
    outcome = start(world, run.parent)
    assert outcome.mended == ["phases"]
    after = ["trace", "steer", "causes", "evaluate", "parts", "side_effects", "cards", "certificate", "learning"]
    after += ["ratings", "why"]
    assert outcome.ran == ["phases", *after]


# ------------------------------------------------------------------------------------------ F4


@pytest.mark.parametrize("name", READ_BY_THE_REPORT)
def test_f4_plot_names_the_damaged_file(run, name, monkeypatch, capfd):
    halved(run / name)
    code, said = told(["plot", str(run)], monkeypatch, capfd)
    assert code == 2
    assert f"{name} is damaged" in said
    assert "makes it again" in said


@pytest.mark.parametrize("name", ["why.parquet", "phases.json"])
def test_f4_a_file_that_no_stage_recorded_is_damaged_all_the_same(run, name):
    record = json.loads((run / "run.json").read_text())
    for entry in record["stages"].values():
        entry.pop("outputs", None)
    write_json(run / "run.json", record)
    halved(run / name)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        write_report(run)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "{}", '{"config": 3}', '{"stages": 1}', "[" * 100_000, "9" * 5000]
)
def test_f4_a_damaged_record_is_one_line(world, run, finished, text, monkeypatch, capfd):
    (run / "run.json").write_text(text)
    for words in (
        ["plot", str(run)],
        ["compare", str(finished), str(run), "--out", str(run.parent / "both")],
        ["inspect", str(run), "--text", "Rain."],
        ["export", str(run), "--to", "hf"],
        ["run", str(world / "small.yaml"), "--out", str(run.parent)],
    ):
        if text == "{}" and words[0] == "run":  # a record in which nothing is written yet
            continue
        code, said = told(words, monkeypatch, capfd)
        lines = [line for line in said.splitlines() if line.startswith("interp:")]
        assert code == 2 and len(lines) == 1 and "run.json is damaged" in lines[0], (words, said)


@pytest.mark.parametrize("name", ["why.parquet", "effects.parquet", "phases.json", "examples.parquet"])
def test_f4_compare_names_the_damaged_file(finished, run, name, tmp_path):
    halved(run / name)
    with pytest.raises(UserError, match=f"{name} is damaged"):
        compare([finished, run], tmp_path / "both")


@pytest.mark.parametrize("name", ["steering.safetensors", "steering.json"])
def test_f4_a_damaged_steering_is_not_exported(run, name, monkeypatch, capfd):
    halved(run / name)
    code, said = told(["export", str(run), "--to", "hf"], monkeypatch, capfd)
    assert code == 2
    assert f"{name} is damaged" in said


def test_f4_a_killed_stage_whose_leavings_are_damaged_begins_anew(world, run):
    whole = contents(run)
    record = json.loads((run / "run.json").read_text())
    record["stages"]["trace"] = {"fingerprint": record["stages"]["trace"]["fingerprint"], "finished": False}
    write_json(run / "run.json", record)
    (run / "units" / "trace").mkdir(parents=True)
    (run / "units" / "trace" / "discover_00000.npz").write_bytes(b"PK half")
    start(world, run.parent)
    assert contents(run) == whole


# ------------------------------------------------------------------------------------------ F8, F9


def test_f8_a_full_disk_is_an_os_error_whoever_noticed(tmp_path):
    with pytest.raises(OSError, match="No space left") as raised, writing(tmp_path / "x"):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")
    assert raised.value.errno == errno.ENOSPC
    assert out_of_space(raised.value)
    assert not list(tmp_path.iterdir())
    assert out_of_space(OSError(errno.EDQUOT, "quota"))
    assert not out_of_space(ValueError("x"))


def test_f9_an_internal_error_without_a_log_is_a_line(monkeypatch, capfd):
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: 1 / 0)
    monkeypatch.setattr("interp.files.folder.writing", _refused)
    code, said = told(["run"], monkeypatch, capfd)
    assert code == 1
    assert "ZeroDivisionError" in said
    assert "no log" in said
    assert len(said.splitlines()) == 1


def _refused(path: Path):
    raise PermissionError(errno.EACCES, "Permission denied", str(path))


# ------------------------------------------------------------------------------------------ F10 to F13


def test_f10_and_f11_nothing_from_a_file_is_obeyed_by_the_terminal(capfd):
    hostile = "[/red]\x1b[31m[bold]x\x07\r\u202e"
    table = Table(title=hostile, caption=hostile)
    table.add_column(hostile)
    table.add_row(hostile)
    screen = Screen(width=200)
    screen.print(hostile)
    screen.print(table)
    shown = capfd.readouterr().out
    assert not CONTROL.search(shown)
    assert shown.count("[/red]") == 5
    assert shown.count("[bold]") == 5


def test_f10_a_model_path_with_markup_is_shown_as_it_is(monkeypatch, capfd, world, tmp_path):
    code, said = told(
        ["run", str(world / "small.yaml"), "--model", "[/red]x", "--out", str(tmp_path)], monkeypatch, capfd
    )
    assert code == 2
    assert "[/red]x" in said


def test_f12_links_under_temporary_names_are_replaced_and_not_followed(tmp_path):
    precious = tmp_path / "thesis.tex"
    precious.write_text("all I have")
    for name in ("report.html.part", "report.html", ".lock"):
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / name).symlink_to(precious)
    with writing(tmp_path / "run" / "report.html") as part:
        part.write_text("page")
    with claimed(tmp_path / "run", None):
        pass
    assert precious.read_text() == "all I have"
    assert not (tmp_path / "run" / "report.html").is_symlink()


def test_f13_a_linked_folder_of_a_run_is_replaced(world, run, tmp_path):
    whole = contents(run)
    elsewhere = tmp_path / "elsewhere"
    (run / "activations").rename(elsewhere)
    (run / "activations").symlink_to(elsewhere)
    assert start(world, run.parent).mended == ["capture"]
    assert not (run / "activations").is_symlink()
    assert len(list(elsewhere.iterdir())) == 4
    assert contents(run) == whole


def test_files_are_readable_by_others(run):
    """safetensors makes files for their owner alone."""
    old = os.umask(0o022)
    os.umask(old)
    modes = {f.stat().st_mode & 0o777 for f in run.rglob("*") if f.is_file() and f.name != ".lock"}
    assert modes == {0o666 & ~old}


# ------------------------------------------------------------------------------------------ F14, F25, F26


def test_f14_too_few_texts_are_refused_before_the_model_is_loaded(world, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("interp.models.loading.load_model", lambda *a, **k: pytest.fail("loaded first"))
    words = ["run", str(world / "small.yaml"), "--out", str(tmp_path), "--corpora.discover.limit", "1"]
    code, said = told(words, monkeypatch, capfd)
    assert code == 2
    assert "corpora.discover holds 1 texts" in said


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # labels without a text
def test_f14_one_text_to_fit_on_and_one_to_score_are_few_and_work(world, tmp_path):
    few = {f"corpora.{part}.limit": n for part, n in (("discover", "4"), ("fit", "1"), ("test.0", "1"))}
    assert start(world, tmp_path, **few, **{"tracing.examples": "correct"}).report.exists()


def test_f25_a_page_that_is_a_folder_is_refused_before_the_work(run, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("interp.run.inspecting.inspect", lambda *a: pytest.fail("worked first"))
    code, said = told(["inspect", str(run), "--text", "Rain.", "--out", str(tmp_path)], monkeypatch, capfd)
    assert code == 2
    assert "is a folder" in said


def test_f25_a_build_of_a_wrong_file_is_refused(tmp_path, monkeypatch, capfd):
    (tmp_path / "posts.csv").write_text("id,text\n,\n,\n")
    words = ["express", "build", str(tmp_path / "posts.csv"), "--out", str(tmp_path / "segments.csv")]
    code, said = told(words, monkeypatch, capfd)
    assert code == 2
    assert "no post that can be used" in said
    assert [p.name for p in tmp_path.iterdir()] == ["posts.csv"]


def test_f26_known_words_are_listed_as_far_as_they_help():
    assert (
        nearest("zzz", [f"release-{i}" for i in range(100)]) == "; known: release-0, release-1, release-2 and 97 more."
    )


# ------------------------------------------------------------------------------------------ records and arrays


def test_a_run_says_what_it_wrote_and_from_where(run):
    record = read_record(run)
    assert record["schema_version"] == 3
    assert record["threads"] >= 1
    assert Path(record["paths"]["model"]).is_dir()
    assert record["stages"]["phases"]["outputs"]["phases.json"][0] == (run / "phases.json").stat().st_size
    as_recorded(run, [name for entry in record["stages"].values() for name in entry["outputs"]], record)


def test_arrays_of_another_kind_are_damage(tmp_path):
    from interp.analysis.features import load_features
    from interp.errors import DamagedError
    from interp.files.stored import read_arrays

    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DamagedError, match="not the features"):
        load_features(tmp_path / "a.npz")
    for data in (b"", b"PK\x03\x04", b"\x93NUMPY", b"x" * 100):
        (tmp_path / "b.npz").write_bytes(data)
        with pytest.raises(DamagedError, match=r"b\.npz is damaged"):
            read_arrays(tmp_path / "b.npz")


def test_a_report_without_texts(run, tmp_path, monkeypatch, capsys):
    text = pd.read_parquet(run / "examples.parquet")["text"]
    longest = max(text, key=len)[:12]
    monkeypatch.setattr(sys, "argv", ["interp", "plot", str(run), "--no-text"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert longest not in (run / "report.html").read_text()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_written_in_parts_are_a_safetensors_file(tmp_path, dtype):
    whole = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
    write_rows(tmp_path / "x.safetensors", "rows", iter(whole.split(4)), (10, 3), {"ids": "a\nb"})
    with safe_open(tmp_path / "x.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("rows"), whole)
        assert file.metadata() == {"ids": "a\nb"}
    with pytest.raises(ValueError, match="for shape"):
        write_rows(tmp_path / "y.safetensors", "rows", iter(whole.split(4)), (11, 3), {})
    assert not (tmp_path / "y.safetensors").exists()
