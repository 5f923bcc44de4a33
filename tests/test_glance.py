"""What a report says first: what was run, how well emotions are recognised, and the answer in sentences."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_runs import make_run
from safetensors.numpy import save_file

from interp.report import write_report
from interp.report.glance import facts, heading, recognised
from interp.report.onset import half_way, onset
from interp.report.sections import _gains
from interp.report.sentences import answer
from interp.report.steered import said, steered
from interp.report.tables import tables
from interp.report.words import layer_list, number
from interp.run.reading import RunFiles

SIX = ("anger", "disgust", "fear", "joy", "sadness", "surprise")


def sentences(folder: Path) -> dict[str, str]:
    return {s.head: s.words for s in answer(RunFiles(folder))}


def changed(folder: Path, name: str, **entries) -> None:
    record = json.loads((folder / f"{name}.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps(record | entries))


def score(folder: Path, method: str, metric: str, value: float, low: float, high: float, corpus: str = "mine") -> None:
    """A line more in evaluation.parquet, in place of one that is there."""
    path = folder / "evaluation.parquet"
    table = pd.read_parquet(path)
    same = (table["corpus"] == corpus) & (table["method"] == method) & (table["metric"] == metric)
    line = {"corpus": corpus, "split": "test", "method": method, "metric": metric, "value": value}
    new = pd.DataFrame([line | {"ci_low": low, "ci_high": high, "n": 20}])
    pd.concat([table[~same], new], ignore_index=True).to_parquet(path)


def planted(folder: Path, layers: list[int], probe: list[float], n_layers: int = 30) -> Path:
    """A run with SAEs at some layers only, where a probe is right this often; shuffled labels give 0.2."""
    lines = [
        {"layer": k, "signal": name, "value": v, "ci_low": v - 0.02, "ci_high": v + 0.02, "n": 1200}
        for name, values in (("probe_residuals", probe), ("probe_shuffled", [0.2] * len(layers)))
        for k, v in zip(layers, values, strict=True)
    ]
    pd.DataFrame(lines).to_parquet(folder / "signals.parquet")
    record = json.loads((folder / "run.json").read_text())
    record["saes"]["layers"], record["model"]["n_layers"] = layers, n_layers
    (folder / "run.json").write_text(json.dumps(record))
    draws = {f"probe_residuals/{k}": np.full(50, v) for k, v in zip(layers, probe, strict=True)}
    np.savez(folder / "signals_draws.npz", **draws)
    return folder


def test_the_head_names_model_corpus_sizes_and_the_day(tmp_path):
    make_run(tmp_path)
    changed(tmp_path, "run", date="2026-01-31")
    run = RunFiles(tmp_path)
    assert heading(run) == "How m recognises emotions: mine"
    assert facts(run)[:3] == ["run demo", "2026-01-31", "m, 4 layers of width 8"]
    assert {"SAEs s at all 4 layers", "20 texts to test", "emotions: anger, fear"} <= set(facts(run))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.index("2026-01-31") < page.index("the model's answers are right") < page.index("<figure")


def test_a_folder_is_named_by_its_last_part(tmp_path):
    make_run(tmp_path)
    changed(tmp_path, "run", model=json.loads((tmp_path / "run.json").read_text())["model"] | {"name": "/a/b/smollm2"})
    assert heading(RunFiles(tmp_path)).startswith("How smollm2 recognises")


def test_recognition_has_intervals_and_chance(tmp_path):
    (own,) = recognised(RunFiles(make_run(tmp_path, labels=SIX, examples=60)))
    assert own.accuracy == (0.5, 0.4, 0.6, 60)
    assert own.macro_f1 is not None
    assert own.probe is None
    assert own.chance == pytest.approx(1 / 6)
    assert own.commonest == pytest.approx(1 / 6)
    assert own.verdict == ""


@pytest.mark.parametrize(("low", "knows"), [(0.3, True), (-0.01, False)])
def test_a_model_that_knows_more_than_it_says_is_said_to(tmp_path, low, knows):
    make_run(tmp_path)
    score(tmp_path, "probe", "accuracy", 0.75, 0.7, 0.8)
    score(tmp_path, "probe", "macro_f1_gain", 0.3, low, 0.6)
    (own,) = recognised(RunFiles(tmp_path))
    assert own.knows is knows
    assert ("knows more than it says" in own.verdict) is knows
    assert "75 %" in own.verdict


def test_before_anything_is_tested_recognition_is_that_of_the_discover_texts(tmp_path):
    make_run(tmp_path)
    (tmp_path / "evaluation.parquet").unlink()
    assert recognised(RunFiles(tmp_path)) == []
    examples = pd.read_parquet(tmp_path / "examples.parquet").assign(role="discover", predicted="fear")
    examples.to_parquet(tmp_path / "examples.parquet")
    planted(tmp_path, [0, 1, 2], [0.5, 0.7, 0.9], 3)
    (own,) = recognised(RunFiles(tmp_path))
    assert own.accuracy.value == 0.5
    assert own.accuracy.low < 0.5 < own.accuracy.high < 0.88
    assert own.accuracy.n == 20
    assert own.probe is not None
    assert own.probe.value == 0.9
    assert own.knows


def test_many_corpora_do_not_push_the_answer_off_the_first_screen(tmp_path):
    make_run(tmp_path)
    for corpus in ("b", "c", "d"):
        score(tmp_path, "unsteered", "accuracy", 0.25, 0.2, 0.3, corpus)
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert page.count('<section class="glance">') == 1
    assert page.index('<section class="answer">') < page.index('id="table-recognition"') < page.index("<figure")
    found = json.loads(re.search(r'id="table-recognition">.*?json">(.*?)</script>', page, re.DOTALL)[1])
    assert [row[:3] for row in found["rows"]] == [
        ["mine", 20, [0.5, 0.4, 0.6]],
        *([corpus, 20, [0.25, 0.2, 0.3]] for corpus in ("b", "c", "d")),
    ]
    assert found["rows"][1][3] is None
    examples = pd.read_parquet(tmp_path / "examples.parquet")
    parts = [examples.assign(corpus=corpus) for corpus in ("mine", "b", "c", "d")]
    pd.concat(parts, ignore_index=True).to_parquet(tmp_path / "examples.parquet")
    assert heading(RunFiles(tmp_path)) == "How m recognises emotions: mine and 3 other corpora"


def test_where_the_emotion_is_first_held_is_found_among_the_layers_measured(tmp_path):
    planted(make_run(tmp_path), [3, 8, 13, 17, 20], [0.22, 0.25, 0.62, 0.8, 0.7])
    assert onset(RunFiles(tmp_path)) == (13, 13, 13)
    where = sentences(tmp_path)["Where"]
    assert where.startswith(
        "The residual stream holds the emotion from layer 13 on (95 % interval 13; the layer measured before it is 8)"
    )
    assert "layer 17 of 0 to 29: a linear probe there is right on 80 % [78, 82] of n = 1,200 texts" in where


def test_no_onset_where_nothing_is_above_chance_and_no_interval_without_draws(tmp_path):
    planted(make_run(tmp_path), [0, 1], [0.2, 0.21], 2)
    assert sentences(tmp_path)["Where"].startswith("No layer holds the emotion beyond what shuffled labels give")
    planted(tmp_path, [0, 1], [0.2, 0.8], 2)
    (tmp_path / "signals_draws.npz").write_bytes(b"damaged")
    assert onset(RunFiles(tmp_path)) == (1, None, None)


def test_half_way_is_counted_back_from_the_best():
    assert half_way(np.array([0.9, 0.3, 0.7, 1.0, 0.2]), 0.2) == 2
    assert half_way(np.array([0.7, 0.8]), 0.2) == 0
    assert half_way(np.array([0.5]), 0.2) == 0


def test_phases_are_told_by_the_layers_that_were_measured(tmp_path):
    planted(make_run(tmp_path), [3, 8, 13, 17], [0.3, 0.4, 0.6, 0.8])
    spans = [{"phase": 1, "first": 3, "last": 12}, {"phase": 2, "first": 13, "last": 17}]
    changed(tmp_path, "phases", phases=spans, boundaries=[13], intervals=[[8, 17]], support=0.8, n_phases=2)
    where = sentences(tmp_path)["Where"]
    assert "2 phases that each behave alike, 3 to 8 and 13 to 17 (change at layer 13, 95 % interval 8 to 17" in where
    assert "4 of 30 layers (3, 8, 13, 17)" in where
    assert "do not win" not in where
    assert "uncertain" not in where
    changed(tmp_path, "phases", support=0.16)
    assert "uncertain: only 16 % of resamples agree on their number" in sentences(tmp_path)["Where"]


def test_nothing_chosen_is_said_and_has_no_row(tmp_path):
    make_run(tmp_path)
    changed(tmp_path, "steering", method="none")
    changed(
        tmp_path,
        "run",
        config=json.loads((tmp_path / "run.json").read_text())["config"] | {"steering": {"perplexity_budget": 1.05}},
    )
    score(tmp_path, "vector", "accuracy", 0.6, 0.5, 0.7)
    score(tmp_path, "vector", "macro_f1_gain", 0.05, 0.01, 0.1)
    score(tmp_path, "vector", "perplexity_ratio", 1.44, 1.4, 1.5, "plain text")
    said_so = sentences(tmp_path)["Steering"]
    assert said_so.startswith("none was chosen.")
    assert "vector +0.050 [+0.010, +0.100] on mine" in said_so
    assert "perplexity times 1.44; allowed: 1.05" in said_so
    assert "chosen by nobody" in said_so
    shown = tables(RunFiles(tmp_path))
    for name in ("methods", "side_effects", "language"):
        assert "steered" not in {row[0] for row in shown[name].rows}
        assert shown[name].rows
    assert shown["methods"].rows[1][6] == 1.44
    (gains,) = _gains(RunFiles(tmp_path))
    assert [list(t.y) for t in gains.figure.data] == [["vector"], ["vector"]]
    assert "none is marked" in gains.caption
    assert any("price" in a.text for a in gains.figure.layout.annotations)


def test_what_is_steered_is_said_feature_by_feature(tmp_path):
    make_run(tmp_path)
    (tmp_path / "parts.parquet").unlink()  # as in runs of before
    arrays = {"features": np.array([0, 9], np.int64), "gains": np.array([1.5, 2.0], np.float32)}
    save_file({f"gains.0.{k}": v for k, v in arrays.items()}, tmp_path / "steering.safetensors")
    run = RunFiles(tmp_path)
    first, second = steered(run).features
    assert (first.layer, first.feature, first.gain, first.emotions) == (0, 0, 1.5, ["anger", "fear"])
    assert second.emotions == []
    assert said(run) == (
        "2 features (causal for anger 1, fear 1) at 1 of 4 layers (0) act 1.50 to 2.00 times as strongly"
        " (amplify, gain 2)."
    )
    assert [row[1:] for row in tables(run)["steered"].rows] == [[2.0, "-"], [1.5, "anger, fear"]]


def test_words_for_layers_and_numbers():
    assert layer_list([3, 8, 9, 13, 20, 21, 22], 30) == "7 of 30 layers (3, 8, 9, 13, 20 to 22)"
    assert layer_list(range(8), 8) == "all 8 layers"
    assert layer_list([0], 1) == "1 layer"
    assert [number(v) for v in (0.05112, 1.444, 32.61, 1204.4)] == ["0.051", "1.44", "32.6", "1,204"]
