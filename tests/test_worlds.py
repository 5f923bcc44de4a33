"""Runs of worlds unlike the usual one: other families, few SAEs, few examples, only wrong answers."""

import json

import pandas as pd
import pytest
import yaml
from tiny_models import FAMILIES, build_model, build_sae
from worlds import LABELS

from interp.errors import InterpWarning
from interp.run import pipeline
from interp.run.config import load_config


@pytest.fixture
def scarce(world, tmp_path):
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
    assert (why["recall"].fillna(0) == 0).all()
    assert (why["n_traced"] == 0).all()
    assert (why["n_causal"] == 0).all()
    assert "none was found to be causal" in outcome.report.read_text()


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
    assert set(effects["layer"]) <= {1, 3}
    assert effects["effect"].abs().max() > 0
    assert set(pd.read_parquet(outcome.folder / "signals.parquet")["layer"]) == {1, 3}
    assert outcome.report.stat().st_size > 100_000
