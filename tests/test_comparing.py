"""Runs side by side: one table, one page."""

import json
import shutil
from html import unescape
from pathlib import Path

import pandas as pd
import pytest
from worlds import start

from interp import UserError
from interp.cli import looking
from interp.report.comparing import compare
from interp.report.sentences import answer
from interp.run import tables
from interp.run.alike import SAME_SAES, match_runs, shared_rows
from interp.run.reading import RunFiles


@pytest.fixture
def two_runs(world, finished, tmp_path):
    """Two runs of one model on the same texts, under other seeds."""
    one = Path(shutil.copytree(finished, tmp_path / "a" / "small"))
    return one, start(world, tmp_path / "b", seed="1").folder


def test_runs_side_by_side(two_runs, tmp_path):
    one, two = two_runs
    tidy, page, *_ = compare([one, two], tmp_path / "both")
    assert set(tidy["run"]) == {"a/small", "b/small"}
    assert len(tidy) == len(tidy.drop_duplicates(["run", "emotion", "measure"]))
    text = page.read_text()
    assert "Are they the same features?" in text
    assert "phases win" not in text
    for folder in (one, two):
        (where, *_) = answer(RunFiles(folder))
        assert where.head == "Where"
        assert where.words in unescape(text)
    with pytest.raises(UserError, match="at least two"):
        compare([one], tmp_path / "x")
    (two / "why.parquet").unlink()
    with pytest.raises(UserError, match=r"holds no why\.parquet; run `interp trace` there first"):
        compare([one, two], tmp_path / "x")


def test_what_carries_over_is_the_gain_on_every_corpus(two_runs, tmp_path):
    one, two = two_runs
    assert "A steering made here" not in compare([one, two], tmp_path / "both", match=False).page.read_text()
    scores = pd.read_parquet(two / "evaluation.parquet")
    own = RunFiles(two).record["config"]["corpora"]["fit"]["name"]
    elsewhere = scores[scores["corpus"] == own].assign(corpus="elsewhere")
    tables.write(two / "evaluation.parquet", pd.concat([scores, elsewhere], ignore_index=True))
    _as_it_is(two, "evaluation.parquet")
    page = compare([one, two], tmp_path / "both", match=False).page
    found = tables.read(tmp_path / "both/transfer.parquet")
    assert list(zip(found["run"], found["corpus"], found["own"], strict=True)) == [
        ("a/small", own, True),
        ("b/small", own, True),
        ("b/small", "elsewhere", False),
    ]
    gain = scores[(scores["method"] == found["method"].iloc[1]) & (scores["metric"] == "macro_f1_gain")]
    assert found.loc[1:, "gain"].tolist() == pytest.approx([gain["value"].iloc[0]] * 2)
    assert "A steering made here, used there" in page.read_text()


def test_features_of_runs_on_the_same_texts_are_matched(two_runs, tmp_path):
    found = compare(two_runs, tmp_path / "both")
    assert set(found.matched) == {("a/small", "b/small"), ("b/small", "a/small")}
    assert not found.unmatched
    table = tables.read(tmp_path / "both/matches.parquet")
    assert set(table["kind"]) == {SAME_SAES}
    # The same activations: every feature is its own best partner, or is as good as one that fires on the same texts.
    assert (table["correlation"] > 0.999).all()
    own = (table["layer"] == table["layer_beside"]) & (table["feature"] == table["feature_beside"])
    assert own.mean() > 0.8
    layers = tables.read(tmp_path / "both/match_layers.parquet")
    diagonal = layers[layers["layer"] == layers["layer_beside"]]
    assert diagonal["cka"].to_numpy() == pytest.approx(1)
    assert diagonal["correlation"].to_numpy() == pytest.approx(1)
    emotions = tables.read(tmp_path / "both/match_emotions.parquet")
    assert set(emotions["emotion"]) == {"anger", "fear", "joy"}
    assert "What is universal" in found.page.read_text()
    without = compare(two_runs, tmp_path / "without", match=False)
    assert not without.matched
    assert "What is universal" not in without.page.read_text()
    assert not len(tables.read(tmp_path / "without/matches.parquet"))


def test_the_command_tells_what_was_matched_and_what_was_not(two_runs, tmp_path, capsys):
    looking.compare(*two_runs, out=tmp_path / "both", json=True)
    told = json.loads(capsys.readouterr().out)
    assert {"page", "measures", "matched", "unmatched"} == set(told)
    first = told["matched"][0]
    assert (first["run"], first["beside"], first["kind"]) == ("a/small", "b/small", SAME_SAES)
    assert first["texts"] == 45
    assert {line["emotion"] for line in first["emotions"]} == {"anger", "fear", "joy"}
    looking.compare(*two_runs, out=tmp_path / "both", match=False)
    assert "note: Features were not matched" in capsys.readouterr().err


def test_runs_on_other_texts_are_compared_without_matches_and_say_so(two_runs, tmp_path):
    one, two = two_runs
    examples = tables.read(two / "examples.parquet")
    tables.write(two / "examples.parquet", examples.assign(text="other: " + examples["text"]))
    _as_it_is(two, "examples.parquet")
    found = compare(two_runs, tmp_path / "both")
    (sentence,) = found.unmatched
    assert "have no discover text in common" in sentence
    assert "no discover text in common" in unescape(found.page.read_text())
    with pytest.raises(UserError, match="at least 20; trace both on the same corpus"):
        shared_rows(RunFiles(one), RunFiles(two))


def test_what_cannot_be_matched_is_refused_in_a_line(two_runs):
    one, two = two_runs
    with pytest.raises(UserError, match="is matched with itself"):
        match_runs(RunFiles(one), RunFiles(one))
    shutil.rmtree(two / "features")
    with pytest.raises(UserError, match=r"holds no features/layer_\d+\.npz; run `interp trace` there first"):
        match_runs(RunFiles(one), RunFiles(two))


def test_the_same_run_twice_is_refused_however_it_is_written(finished, tmp_path):
    for again in (finished, finished / ".." / finished.name):
        with pytest.raises(UserError, match="is given twice"):
            compare([finished, again], tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_runs_of_one_name_keep_it_with_as_many_parents_as_they_need(tmp_path):
    from interp.report.comparing import _names

    folders = [tmp_path / name for name in ("x/a/small", "y/a/small", "z/other")]
    assert list(_names(folders)) == ["x/a/small", "y/a/small", "other"]


def _as_it_is(folder: Path, name: str) -> None:
    """Lets the record of a run agree with a file that was changed."""
    path = folder / "run.json"
    record = json.loads(path.read_text())
    for entry in record["stages"].values():
        entry.get("outputs", {}).pop(name, None)
    path.write_text(json.dumps(record))
