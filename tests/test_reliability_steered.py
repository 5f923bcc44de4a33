"""A steered model is asked the same questions, and compared question by question."""

import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from reliability_items import items
from tiny_models import LABELS, build_sae

from interp import capture
from interp.cli import main as cli
from interp.engine import answers_under
from interp.engine.prefixes import last_residuals
from interp.errors import UserError
from interp.saes.stack import SaeStack
from interp.steering import Gains, Steering
from interp.surveys.reliability.running import Settings, emotions, questions, run
from interp.surveys.reliability.steered import write_changes
from interp.surveys.reliability.variations import expand, one_at_a_time
from interp.surveys.steered_twin import steered_twin
from interp.texts.examples import Example
from interp.texts.prompts import build_prompts


def steering(model, positions="answer") -> Steering:
    gains = Gains(torch.tensor([3, 8, 21]), torch.tensor([3.0, 0.0, 4.0]))
    vector = 2 * torch.randn(32, generator=torch.Generator().manual_seed(1))
    provenance = {"model": {"identity": model.identity}}
    return Steering("test", {2: gains}, {1: vector}, positions=positions, provenance=provenance)


def test_edits_at_the_end_are_those_of_the_engine(any_model, stack):
    """With and without shared prefixes, and where one sequence begins another."""
    texts = ["The dog ran.", "The dog ran down the street.", "Rain.", "The dog"]
    prompts = build_prompts(texts, LABELS)
    captured = capture(any_model, prompts, answers=LABELS, keep_cache=True)
    edits = steering(any_model).edits(stack)
    expected = answers_under(any_model, captured, edits)
    for share in (True, False):
        found = torch.empty_like(expected)
        sequences = [e.ids for e in any_model.encode(prompts)]
        for at, residuals in last_residuals(any_model, sequences, share_prefixes=share, edits=edits):
            found[at] = any_model.unembed(residuals, captured.answers.first)
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def texts() -> list[Example]:
    return [Example(f"t/{i}", "t", "test", f"The dog ran {i} times.", LABELS[i % 6], f"t/{i}") for i in range(6)]


def test_changes_are_paired_by_question(llama, stack, tmp_path):
    asked, emotional = questions(limit=4), emotions("t", texts(), LABELS)
    plain = Settings(resamples=100)
    before = run(llama, tmp_path, asked=asked, emotional=emotional, settings=plain)
    push = Settings(resamples=100, state="pushed", edits=steering(llama).edits(stack))
    after = run(llama, tmp_path / "steered", asked=asked, emotional=emotional, settings=push)
    changes = write_changes(before.folder, after.folder, resamples=100).set_index("measure")
    for measure, share in before.emotions.measures.items():
        if measure in ("accuracy", "flip_rate"):
            assert changes.loc[measure, "before"] == pytest.approx(share.value)
            assert changes.loc[measure, "after"] == pytest.approx(after.emotions.measures[measure].value)
    assert changes.loc["order", "before"] == pytest.approx(before.questionnaire.measures["order"].value)
    assert ((changes["ci_low"] <= changes["change"] + 1e-9) & (changes["change"] <= changes["ci_high"] + 1e-9)).all()
    assert (tmp_path / "changes.parquet").exists()
    p = [pd.read_parquet(f / "emotion_answers.parquet").filter(like="p_") for f in (tmp_path, tmp_path / "steered")]
    assert (p[0] - p[1]).abs().to_numpy().max() > 1e-3


def test_changes_by_hand(tmp_path):
    """Blind to negation before; afterwards half of the questions are not, one of which only one table holds."""

    def save(folder: Path, agrees, asked) -> Path:
        rows = [(a.facts, agrees(int(a.facts["question"][2:]), a.facts)) for a in asked]
        folder.mkdir()
        table = pd.DataFrame([{**facts, "p_agree": p, "p_disagree": 0.98 - p, "top": True} for facts, p in rows])
        table.to_parquet(folder / "answers.parquet")
        return folder

    asked = list(expand(items(8), one_at_a_time()))
    blind = save(tmp_path / "blind", lambda i, facts: 0.9 if i % 2 else 0.08, asked)
    half = save(
        tmp_path / "half",
        lambda i, facts: 0.9 if (i % 2 == 1) == (facts["negation"] == "none" or i >= 4) else 0.08,
        [a for a in asked if a.facts["question"] != "q:7"],
    )
    changes = write_changes(blind, half, resamples=100).set_index("measure")
    negation, order = changes.loc["negation_direct"], changes.loc["order"]
    assert negation["change"] == pytest.approx(4 / 7) and negation["n"] == 7 and negation["ci_low"] > 0
    assert order["change"] == order["ci_high"] == 0


def test_no_steering_changes_nothing(llama, tmp_path):
    asked = questions(limit=3)
    plain = Settings(resamples=100)
    before = run(llama, tmp_path, asked=asked, settings=plain)
    after = run(llama, tmp_path / "again", asked=asked, settings=plain)
    changes = write_changes(before.folder, after.folder, resamples=100)
    assert (changes["change"] == 0).all() and (changes["n"] > 0).all()


def test_a_steering_that_is_none_or_of_another_model_is_one_line(llama, tmp_path):
    Steering("none").save(tmp_path / "none")
    with pytest.raises(UserError, match="leaves the model alone"):
        steered_twin(tmp_path / "none", lambda: llama)
    foreign = Steering("x", vectors={0: torch.ones(32)}, provenance={"model": {"identity": "sha256:other"}})
    foreign.save(tmp_path / "foreign")
    with pytest.raises(UserError, match="made for model"):
        steered_twin(tmp_path / "foreign", lambda: llama)


def test_the_command(tmp_path, capsys, monkeypatch):
    from interp import load_model

    model = load_model("tiny")
    push = Steering("push", vectors={5: torch.ones(model.d_model)}, provenance={"model": {"identity": model.identity}})
    push.save(tmp_path / "push")
    arguments = ["--limit", "2", "--resamples", "100", "--steering", str(tmp_path / "push"), "--json"]
    cli.app(["reliability", "run", *arguments, "--out", str(tmp_path / "run")], result_action="return_value")
    found = json.loads(capsys.readouterr().out)
    assert set(found["steered"]["order"]) == {"before", "after", "change", "ci_low", "ci_high", "n"}


def test_saes_are_found_again_by_name(llama, tmp_path):
    saes = SaeStack({k: build_sae(seed=k) for k in range(4)}, "test", "test:saes")
    made = steering(llama)
    made.save(tmp_path)
    with pytest.raises(UserError, match="which SAEs"):
        Steering.load(tmp_path).hooks(llama)
    assert set(Steering.load(tmp_path).hooks(llama, saes)) == {1, 2}
