"""Profiles of selective features, control tasks, comparisons, and runs in which there is little to be found."""

from html import unescape

import numpy as np
import pandas as pd
import pytest
import yaml
from scipy.sparse import csr_array
from test_run import LABELS, start, world  # noqa: F401

from interp import UserError
from interp.analysis.profiles import with_profiles
from interp.analysis.selectivity import selectivity
from interp.analysis.signals import control_labels, neighbour_agreement, probe_right
from interp.report.comparing import compare
from interp.report.sentences import answer
from interp.run import pipeline
from interp.run.config import load_config
from interp.run.reading import RunFiles


def profiled(acts, gold, keyword_free=None):
    table = selectivity(csr_array(acts), gold, LABELS)
    return with_profiles(table, csr_array(acts), gold, LABELS, keyword_free, 0).set_index(["feature", "emotion"])


def test_a_feature_that_belongs_to_two_emotions_names_the_nearest():
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], 60)
    acts = np.zeros((180, 2))
    acts[gold == 0, 0] = rng.random(60) + 1
    acts[gold == 1, 0] = rng.random(60) + 2  # stronger for fear than for anger
    acts[gold == 2, 1] = rng.random(60) + 1
    table = profiled(acts, gold)
    anger = table.loc[(0, "anger")] if table.loc[(0, "anger"), "kind"] != "none" else None
    fear, joy = table.loc[(0, "fear")], table.loc[(1, "joy")]
    assert fear["nearest"] == "anger" and fear["auroc_nearest"] == 1.0 and fear["stable"]
    assert joy["auroc_nearest"] == 1.0 and joy["p_nearest"] < 1e-6
    if anger is not None:
        assert anger["nearest"] == "fear" and anger["auroc_nearest"] == 0.0


def test_a_feature_that_dies_without_the_word_is_lexical():
    rng = np.random.default_rng(1)
    gold = np.tile([0, 1, 2], 60)
    free = np.repeat([True, False], 90)
    acts = rng.random((180, 2)) * (rng.random((180, 2)) < 0.1)
    acts[(gold == 0) & ~free, 0] = rng.random(30) + 1  # only where the word stands
    acts[gold == 1, 1] = rng.random(60) + 1  # with and without
    table = profiled(acts, gold, free)
    word, meaning = table.loc[(0, "anger")], table.loc[(1, "fear")]
    assert word["lexical"] and word["auroc_with_word"] > 0.95 and word["auroc_without_word"] < 0.65
    assert not meaning["lexical"] and meaning["auroc_without_word"] > 0.95
    assert profiled(acts, gold)["lexical"].isna().all()


def test_a_control_task_can_be_solved_by_reading_the_first_word():
    rng = np.random.default_rng(0)
    words = ["I", "The", "My", "When", "She", "It"]
    first = rng.integers(6, size=300)
    labels = control_labels([f"{words[i]} went on." for i in first], 3, seed=0)
    assert all(len(set(labels[first == i])) == 1 for i in range(6))
    assert np.array_equal(labels, control_labels([f"{words[i].lower()} else" for i in first], 3, seed=0))
    assert probe_right(np.eye(6)[first], labels, 0).mean() == 1.0
    assert probe_right(rng.normal(size=(300, 6)), labels, 0).mean() < 0.6


def test_agreement_of_equal_and_of_unrelated_layers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 16))
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    np.testing.assert_allclose(neighbour_agreement(x, 3 * x @ rotation), 1, atol=1e-9)
    assert abs(neighbour_agreement(x, rng.normal(size=(80, 16))).mean()) < 0.1


@pytest.fixture
def scarce(world, tmp_path):  # noqa: F811
    """A corpus in which one emotion has four examples."""
    table = pd.read_csv(world / "corpus.csv")
    few = table[table["feeling"] == "joy"].groupby("split").head(4)
    pd.concat([table[table["feeling"] != "joy"], few]).to_csv(tmp_path / "corpus.csv", index=False)
    tree = yaml.safe_load((world / "small.yaml").read_text())
    for part in (tree["corpora"]["discover"], tree["corpora"]["fit"], tree["corpora"]["test"][0]):
        part["path"] = str(tmp_path / "corpus.csv")
    tree["out"] = str(tmp_path / "runs")
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(tree))
    return tmp_path


def test_an_emotion_with_few_examples_is_reported_as_such(scarce):
    outcome = pipeline.run(load_config(scarce / "config.yaml"))
    why = pd.read_parquet(outcome.folder / "why.parquet").set_index("emotion")
    assert why.loc["joy", "n"] == 4
    page = outcome.report.read_text()
    assert "NaN" not in page.split("Plotly.newPlot", 1)[1]


@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # labels without a text
def test_where_all_answers_are_wrong_nothing_is_traced_and_it_is_said(scarce):
    config = load_config(scarce / "config.yaml", {"tracing.examples": "correct"})
    table = pd.read_csv(scarce / "corpus.csv")
    first = pipeline.run(config, command="trace")
    examples = pd.read_parquet(first.folder / "examples.parquet")
    wrong = dict(zip(examples["text"], examples["predicted"], strict=True))
    other = {"anger": "fear", "fear": "joy", "joy": "anger"}
    table["feeling"] = [
        other[wrong[t]] if t in wrong else f for t, f in zip(table["words"], table["feeling"], strict=True)
    ]
    table.to_csv(scarce / "corpus.csv", index=False)
    outcome = pipeline.run(load_config(scarce / "config.yaml", {"tracing.examples": "correct", "name": "wrong"}))
    why = pd.read_parquet(outcome.folder / "why.parquet")
    assert (why["recall"].fillna(0) == 0).all() and (why["n_traced"] == 0).all() and (why["n_causal"] == 0).all()
    assert "no causal feature was found" in outcome.report.read_text()


def test_runs_side_by_side(world, tmp_path):  # noqa: F811
    one = start(world, tmp_path / "a").folder
    two = start(world, tmp_path / "b", seed="1").folder
    tidy, page = compare([one, two], tmp_path / "both")
    assert set(tidy["run"]) == {"a/small", "b/small"} and len(tidy) == len(
        tidy.drop_duplicates(["run", "emotion", "measure"])
    )
    text = page.read_text()
    assert "Are they the same features?" in text and "phases win" not in text
    for folder in (one, two):
        (where, *_) = answer(RunFiles(folder))
        assert where.head == "Where" and where.words in unescape(text)
    with pytest.raises(UserError, match="at least two"):
        compare([one], tmp_path / "x")
    (two / "why.parquet").unlink()
    with pytest.raises(UserError, match=r"holds no why\.parquet; run `interp trace` there first"):
        compare([one, two], tmp_path / "x")
