"""A steered model is asked the same questions, and compared question by question."""

import json

import pandas as pd
import pytest
import torch
from conftest import build_sae
from test_engine import LABELS

from interp import capture
from interp.cli import main as cli
from interp.engine import answers_under
from interp.engine.prefixes import last_residuals
from interp.errors import UserError
from interp.saes.stack import SaeStack
from interp.steering import Gains, Steering
from interp.surveys.reliability.running import Settings, emotions, questions, run
from interp.surveys.reliability.steered import settings_of, write_changes
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
    changes = write_changes(before, after, plain).set_index("measure")
    for measure, share in before.emotions.measures.items():
        if measure in ("accuracy", "flip_rate"):
            assert changes.loc[measure, "before"] == pytest.approx(share.value)
            assert changes.loc[measure, "after"] == pytest.approx(after.emotions.measures[measure].value)
    assert changes.loc["order", "before"] == pytest.approx(before.questionnaire.measures["order"].value)
    assert ((changes["ci_low"] <= changes["change"] + 1e-9) & (changes["change"] <= changes["ci_high"] + 1e-9)).all()
    assert (tmp_path / "changes.parquet").exists()
    p = [pd.read_parquet(f / "emotion_answers.parquet").filter(like="p_") for f in (tmp_path, tmp_path / "steered")]
    assert (p[0] - p[1]).abs().to_numpy().max() > 1e-3


def test_no_steering_changes_nothing(llama, tmp_path):
    asked = questions(limit=3)
    plain = Settings(resamples=100)
    before = run(llama, tmp_path, asked=asked, settings=plain)
    after = run(llama, tmp_path / "again", asked=asked, settings=plain)
    changes = write_changes(before, after, plain)
    assert (changes["change"] == 0).all() and (changes["n"] > 0).all()


def test_a_steering_that_is_none_or_of_another_model_is_one_line(llama, tmp_path):
    Steering("none").save(tmp_path / "none")
    with pytest.raises(UserError, match="leaves the model alone"):
        settings_of(tmp_path / "none", llama, Settings())
    foreign = Steering("x", vectors={0: torch.ones(32)}, provenance={"model": {"identity": "sha256:other"}})
    foreign.save(tmp_path / "foreign")
    with pytest.raises(UserError, match="made for model"):
        settings_of(tmp_path / "foreign", llama, Settings())


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
