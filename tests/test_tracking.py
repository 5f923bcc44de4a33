"""Runs in trackers of experiments: what is sent, to clients as they are, and that no run is lost to one."""

import json
import sys
from pathlib import Path

import pandas as pd
import plotly.graph_objects as go
import pyarrow.parquet as pq
import pytest
from fake_runs import make_run
from worlds import shell

from interp.cli import main as cli
from interp.cli import running
from interp.errors import InterpWarning, UserError
from interp.run import pipeline
from interp.tracking import TRACKERS
from interp.tracking.tracked import Tracked, tracked
from interp.tracking.trackers import send, send_after, tracker

SECRET = "xyzzy plugh"
"""Stands for the text of a corpus that may not be passed on."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("tracked") / "demo", text=SECRET)


class Kept:
    """A client that keeps what it is sent, or fails as it is told."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.sent: list[Tracked] = []
        self.files: list[str] = []
        self.failure = failure

    def check(self) -> None:
        """Always ready."""

    def send(self, entry: Tracked) -> str:
        print("clients print")
        if self.failure is not None:
            raise self.failure
        self.sent.append(entry)
        self.files = sorted(p.name for p in entry.files.iterdir())
        return "https://tracker.example/1"


def test_numbers_are_those_of_the_tables(folder):
    scores = pd.read_parquet(folder / "evaluation.parquet").set_index(["corpus", "method", "metric"])
    with tracked(folder) as entry:
        row = scores.loc[("mine", "steered", "macro_f1_gain")]
        assert entry.numbers["mine/steered/macro_f1_gain"] == row["value"]
        assert entry.numbers["mine/steered/macro_f1_gain_low"] == row["ci_low"]
        assert entry.numbers["language/steered/perplexity_ratio"] == 1.0
        assert entry.numbers["found/causal_features"] == 2
        assert entry.numbers["found/phases"] == 1
        assert entry.config["labels"] == ["anger", "fear"]
        assert {"ladder", "gains"} <= {*entry.figures}
        assert all(isinstance(figure, go.Figure) for figure in entry.figures.values())
        assert {"evaluation.parquet", "effects.parquet", "run.json"} <= {p.name for p in entry.files.iterdir()}
        kept = entry.files
    assert not kept.exists()


def test_no_text_of_a_corpus_is_sent(folder):
    assert SECRET in "".join(pd.read_parquet(folder / "examples.parquet")["text"])
    assert SECRET.split()[0] in (folder / "cards.json").read_text()
    with tracked(folder) as entry:
        said = [entry.notes, json.dumps(dict(entry.config)), *(f.to_json() for f in entry.figures.values())]
        for file in entry.files.iterdir():
            said.append(pd.read_parquet(file).to_csv() if file.suffix == ".parquet" else file.read_text())
        assert "gold" in pq.read_schema(entry.files / "examples.parquet").names
    assert not [text[:80] for text in said for word in SECRET.split() if word in text]


def test_a_run_before_its_evaluation_has_the_numbers_that_are_there(tmp_path):
    early = make_run(tmp_path / "early")
    (early / "evaluation.parquet").unlink()
    examples = pd.read_parquet(early / "examples.parquet").assign(role="discover")
    examples.to_parquet(early / "examples.parquet")
    with tracked(early) as entry:
        right = (examples["gold"] == examples["predicted"]).mean()
        assert entry.numbers["mine/unsteered/accuracy"] == right
        assert not [name for name in entry.numbers if "steered/macro" in name]


def test_surveys_have_their_scores(tmp_path):
    express, reliability = tmp_path / "express", tmp_path / "reliability"
    for made in (express, reliability):
        made.mkdir()
    (express / "express.json").write_text('{"model": "m"}')
    with pytest.raises(UserError, match="no finished run of interp express"), tracked(express):
        pass
    rows = [["scores", "AccL", 0.25, 0.2, 0.3, 9], ["scores/by_count/1", "AccL", 0.5, 0.4, 0.6, 4]]
    frame = pd.DataFrame(rows, columns=["section", "score", "value", "ci_low", "ci_high", "n"])
    frame.to_csv(express / "scores.csv", index=False)
    (express / "answers.csv").write_text(SECRET)
    with tracked(express) as entry:
        assert (entry.kind, entry.config) == ("express", {"model": "m"})
        assert entry.numbers == {"scores/AccL": 0.25, "scores/AccL_low": 0.2, "scores/AccL_high": 0.3}
        assert not (entry.files / "answers.csv").exists()
    (reliability / "run.json").write_text('{"name": "reliability", "made_by": {"model": "m"}, "stages": {}}')
    rows = [["questionnaire", "all", "consistency", 0.9, 0.8, 1.0], ["questionnaire", "factor", "consistency", 0, 0, 0]]
    columns = ["part", "level", "measure", "value", "low", "high"]
    pd.DataFrame(rows, columns=columns).to_parquet(reliability / "scores.parquet")
    with tracked(reliability) as entry:
        assert entry.kind == "reliability"
        assert entry.numbers["questionnaire/consistency"] == 0.9
        assert len(entry.numbers) == 3


def test_a_client_is_sent_everything_and_prints_nothing(folder, capsys):
    client = Kept()
    assert send("wandb", client, folder) == "https://tracker.example/1"
    assert client.sent[0].name == "demo"
    assert "evaluation.parquet" in client.files
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("failure", [ConnectionError("no route\nto host"), KeyError("x"), OSError(28, "No space left")])
def test_what_goes_wrong_after_a_run_is_one_warning(folder, failure):
    with pytest.warns(InterpWarning, match="interp log .*demo --to mlflow") as said:
        assert send_after("mlflow", Kept(failure), folder) is None
    assert len(said) == 1
    assert "\n" not in str(said[0].message)


def outcome(monkeypatch, capfd, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["interp", *words])
    try:
        cli.main()
        code = 0
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    return code, *capfd.readouterr()


def test_the_flag_sends_a_run_when_it_is_done(folder, monkeypatch, capfd):
    client = Kept()
    done = pipeline.Outcome(folder, folder / "report.html", [], [], [], 1.0, [])
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: done)
    monkeypatch.setattr("interp.tracking.trackers.tracker", lambda name: client)
    monkeypatch.setattr(running, "_summary", lambda *_: None)
    code, out, err = outcome(monkeypatch, capfd, "run", "--seed", "1", "--log", "wandb")
    assert (code, out.strip(), len(client.sent)) == (0, str(folder / "report.html"), 1)
    assert "Sent to wandb: https://tracker.example/1" in err
    client.failure = ConnectionError("no route to host")
    code, out, err = outcome(monkeypatch, capfd, "run", "--log", "wandb", "--seed", "1")
    assert (code, out.strip()) == (0, str(folder / "report.html"))
    assert err.count("note: ") == 1
    assert "no route to host" in err


@pytest.mark.parametrize("name", TRACKERS)
def test_a_client_that_is_not_there_is_refused_before_anything_is_begun(folder, name, monkeypatch, capfd):
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: pytest.fail("it was begun"))
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, f"interp.tracking.to_{name}", raising=False)
    for words in (("run", "--log", name), ("log", str(folder), "--to", name), ("express", "run", "--model", "tiny")):
        words = (*words, "--log", name) if words[0] == "express" else words
        code, out, err = outcome(monkeypatch, capfd, *words)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert f"{name} is not installed: pip install {name}" in err


def test_another_name_is_refused(folder, monkeypatch, capfd):
    with pytest.raises(UserError, match="did you mean 'wandb'"):
        tracker("wandbb")
    assert outcome(monkeypatch, capfd, "run", "--log", "wandbb")[0] == 2
    assert outcome(monkeypatch, capfd, "log", str(folder / "gone"), "--to", "wandbb")[0] == 2
    assert outcome(monkeypatch, capfd, "log", "--to", "wandb")[0] == 2


# ------------------------------------------------------------------------------------ the clients as they are


def test_wandb_without_an_account_is_one_line(folder, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    at_home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_MODE": "online", "WANDB_API_KEY": ""}
    done = shell("log", str(folder), "--to", "wandb", cwd=tmp_path, **at_home)
    assert (done.returncode, done.stdout) == (2, "")
    assert "wandb is not signed in" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_wandb_keeps_a_run_offline(folder, tmp_path):
    pytest.importorskip("wandb", reason="wandb is not installed: pip install wandb")
    done = shell("log", str(folder), "--to", "wandb", cwd=tmp_path, WANDB_MODE="offline", HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "wandb sync" in done.stdout
    (kept,) = (tmp_path / "wandb").glob("offline-run-*")
    (log,) = kept.glob("*.wandb")
    written = log.read_bytes()
    for word in (b"mine/steered/macro_f1_gain", b"interp-run", b"evaluation.parquet", b"labels"):
        assert word in written
    drawn = [json.loads(path.read_text()) for path in kept.rglob("*.plotly.json")]
    with tracked(folder) as entry:
        assert len(drawn) == len(entry.figures)
    assert all(figure["data"] for figure in drawn)


@pytest.mark.filterwarnings("ignore")  # of the libraries under its client
def test_mlflow_keeps_a_run_that_its_own_client_reads(folder, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow")
    pytest.importorskip("sqlalchemy", reason="mlflow-skinny alone keeps no local runs: pip install mlflow")
    where = f"sqlite:///{tmp_path / 'runs.db'}"
    done = shell("log", str(folder), "--to", "mlflow", cwd=tmp_path, MLFLOW_TRACKING_URI=where)
    assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(tracking_uri=where)
    (experiment,) = client.search_experiments(filter_string="name = 'interp'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert run.info.run_name == "demo"
    with tracked(folder) as entry:
        assert len(run.data.metrics) == len(entry.numbers)
        assert run.data.metrics["mine/steered/macro_f1_gain"] == entry.numbers["mine/steered/macro_f1_gain"]
        figures = {one.path for one in client.list_artifacts(run.info.run_id, "figures")}
        assert figures == {f"figures/{name}.html" for name in entry.figures}
    assert run.data.params["labels"] == "['anger', 'fear']"
    assert "files/evaluation.parquet" in {one.path for one in client.list_artifacts(run.info.run_id, "files")}


def test_mlflow_whose_server_does_not_answer_is_one_line(folder, tmp_path):
    pytest.importorskip("mlflow", reason="mlflow is not installed: pip install mlflow")
    done = shell("log", str(folder), "--to", "mlflow", cwd=tmp_path, MLFLOW_TRACKING_URI="http://127.0.0.1:9")
    assert (done.returncode, done.stdout) == (2, "")
    assert "mlflow cannot be used" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_trackio_keeps_a_run_that_its_own_client_reads(folder, tmp_path):
    pytest.importorskip("trackio", reason="trackio is not installed: pip install trackio")
    at = {"TRACKIO_DIR": str(tmp_path / "kept"), "HF_HOME": str(tmp_path / "hf")}
    done = shell("log", str(folder), "--to", "trackio", cwd=tmp_path, **at)
    assert done.returncode == 0, done.stderr
    assert "trackio show" in done.stdout
    (database,) = (tmp_path / "kept").rglob("interp*.db")
    assert b"mine/steered/macro_f1_gain" in database.read_bytes()
    assert list((tmp_path / "kept").rglob("*.html"))
    words = {"TRACKIO_SPACE_ID": "me/space", "HF_TOKEN": ""}
    refused = shell("log", str(folder), "--to", "trackio", cwd=tmp_path, **at, **words)
    assert refused.returncode == 2
    assert "hf auth login" in refused.stderr
