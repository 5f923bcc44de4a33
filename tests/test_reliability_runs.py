"""Reliability of a model: answers with shared prefixes, runs that are resumed, pages and the command."""

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from reliability_items import LABELS, items, values

from interp import UserError
from interp.cli import main as cli
from interp.engine.prefixes import grow, next_tokens
from interp.models.language_model import LanguageModel
from interp.surveys.reliability import collecting
from interp.surveys.reliability.answering import Answered, answer, chat, generated_answer, option_tokens, parse_reply
from interp.surveys.reliability.collecting import collect, questionnaire_table
from interp.surveys.reliability.comparing import load_runs, write_page
from interp.surveys.reliability.emotion_variations import (
    emotion_variations,
    expand_emotions,
    label_orders,
)
from interp.surveys.reliability.running import Emotions, Questions, Settings, run
from interp.surveys.reliability.variations import VariedPrompt, expand, one_at_a_time, resolve_personas
from interp.texts.examples import Example
from interp.texts.prompts import Prompt

# ------------------------------------------------------------------------------------- answering


def log_probabilities(model: LanguageModel, ids: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model.hf(input_ids=torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)


def sequences() -> list[list[int]]:
    """Shared beginnings of several depths, one that begins another, one twice, one alone."""
    rng = np.random.default_rng(0)
    draw = lambda n: rng.integers(2, 400, n).tolist()  # noqa: E731
    long, middle = draw(20), draw(12)
    several = [long + middle + draw(int(n)) for n in (3, 1, 9)] + [long + draw(5), long, draw(7), draw(30)]
    return [*several, several[0], long + middle]


def test_shared_prefixes_change_nothing(any_model):
    asked = sequences()
    wanted = [torch.arange(400)] * len(asked)
    shared, top = next_tokens(any_model, asked, wanted)
    alone, top_alone = next_tokens(any_model, asked, wanted, share_prefixes=False)
    few, _ = next_tokens(any_model, asked, wanted, tokens_per_batch=40)
    for ids, a, b, c in zip(asked, shared, alone, few, strict=True):
        brute = log_probabilities(any_model, ids)
        for found in (a, b, c):
            assert (found - brute).abs().max() < 1e-5 * max(1, brute.abs().max())
    assert torch.equal(top, top_alone)


def test_the_tree_computes_what_is_shared_once():
    asked = sequences()
    branches = grow(asked)
    assert sum(len(b.tokens) for b in branches) < sum(map(len, asked)) - 3 * 20 - 12
    assert sorted(end for b in branches for end in b.ends) == list(range(len(asked)))
    for branch in branches:
        path, at = [], branch
        while at is not None:
            path, at = at.tokens + path, at.parent
        assert all(asked[end] == path for end in branch.ends)


def test_an_option_is_its_likeliest_spelling(llama):
    asked = [VariedPrompt(f"The dog ran down the {w}. Emotion:", ("fear", "joy"), {}) for w in ("street", "rain")]
    tokens = option_tokens(llama, ("fear", "joy"))
    assert tokens.distinct and not set(tokens.first[0]) & set(tokens.first[1])
    found = answer(llama, asked)
    assert found.method == ["first token"] * 2
    for a, p in zip(asked, found.probabilities, strict=True):
        brute = log_probabilities(llama, llama.tokenizer(a.prompt)["input_ids"]).exp()
        assert torch.allclose(p, torch.stack([brute[list(own)].max() for own in tokens.first]), rtol=1e-4)


def test_options_that_begin_alike_are_scored_whole(llama):
    options = ("rainstorm", "rainfall")
    assert not option_tokens(llama, options).distinct
    asked = [
        VariedPrompt("The letter came in the morning, with", options, {}),
        VariedPrompt("A dog. Emotion:", ("fear", "joy"), {}),
    ]
    found = answer(llama, asked)
    assert found.method == ["whole answer", "first token"]
    prompt = llama.tokenizer(asked[0].prompt)["input_ids"]
    for option, p in zip(options, found.probabilities[0], strict=True):
        totals = []
        for spelling in (option, option.capitalize(), option.upper()):
            ids = llama.tokenizer(f" {spelling}", add_special_tokens=False)["input_ids"]
            steps = [log_probabilities(llama, prompt + ids[:i])[t] for i, t in enumerate(ids)]
            totals.append(float(sum(steps)))
        assert float(p.log()) == pytest.approx(max(totals), abs=1e-4)


def test_long_texts_are_cut_and_counted(llama):
    asked = [VariedPrompt(Prompt("Text: ", "rain and rain " * 200, "\nEmotion:"), ("joy", "fear"), {})]
    assert answer(llama, asked).cut[0] > 0


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        ("True", "true"),
        (" **False**, since ...", "false"),
        ("'true'.", "true"),
        ("I would say it is false.", "false"),
        ("True. It is not false.", "true"),
        ("It may be true or false.", None),
        ("Untrue", None),
        ("", None),
    ],
)
def test_replies_are_read(reply, expected):
    assert parse_reply(reply, ("true", "false")) == expected


def test_disagree_is_not_read_as_agree():
    assert parse_reply("I disagree", ("agree", "disagree")) == "disagree"


def test_generated_answers(llama):
    asked = [VariedPrompt("Is it?", ("true", "false"), {}), VariedPrompt("Well?", ("true", "false"), {})]
    found = generated_answer(lambda prompts: ["False" if p == "Is it?" else "Hm" for p in prompts], asked)
    assert [p.tolist() for p in found.probabilities] == [[0, 1], [0, 0]] and found.top.tolist() == [True, False]
    with pytest.raises(UserError, match="2 prompts got 1"):
        generated_answer(lambda prompts: ["True"], asked)
    replies = chat(llama, reply_tokens=4)(["A dog", "The letter came in the"])
    alone = chat(llama, reply_tokens=4)(["A dog"])
    assert len(replies) == 2 and replies[0] == alone[0]


# ------------------------------------------------------------------------------------- runs


@pytest.fixture
def small(monkeypatch) -> Questions:
    monkeypatch.setattr(collecting, "AT_ONCE", 8)
    people = resolve_personas(["nurse"])
    return Questions("small", list(expand(items(3), one_at_a_time(personas=people), people)))


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(llama, small, tmp_path):
    settings = Settings(resamples=100)
    whole = run(llama, tmp_path / "whole", asked=small, settings=settings)
    asked_for = []

    def dying(some) -> Answered:
        if len(asked_for) == 2:
            raise KeyboardInterrupt
        asked_for.append(len(some))
        return answer(llama, some)

    log = tmp_path / "killed" / collecting.LOG
    with pytest.raises(KeyboardInterrupt):
        collect(small.asked, dying, log)
    with log.open("a") as file:
        file.write('["half a li')
    assert len(log.read_text().splitlines()) == 16 + 1
    (log.parent / "run.json").write_bytes((tmp_path / "whole" / "run.json").read_bytes())
    again = run(llama, log.parent, asked=small, settings=settings)
    for name in ("answers.parquet", "scores.parquet", "scores.json", collecting.LOG):
        assert (log.parent / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert values(again.questionnaire) == values(whole.questionnaire)
    collect(small.asked, lambda some: pytest.fail("asked again"), log)


def test_runs_of_other_models_do_not_mix(llama, models_by_family, small, tmp_path):
    run(llama, tmp_path / "r", asked=small, settings=Settings(resamples=100))
    with pytest.raises(UserError, match="answers of another run"):
        run(models_by_family["gpt2"], tmp_path / "r", asked=small)
    with pytest.raises(UserError, match=r"state: 'unsteered', now 'steered'"):
        run(llama, tmp_path / "r", asked=small, settings=Settings(state="steered"))
    with pytest.raises(UserError, match="Nothing to ask"):
        run(llama, tmp_path / "s")


def test_a_model_changed_around_its_answers_gives_other_answers(llama, small, tmp_path):
    """What a steering does to every position, shared prefixes see as well."""
    push = torch.randn(llama.d_model, generator=torch.Generator().manual_seed(0))
    around = lambda: llama.edited({1: lambda x: x + push})  # noqa: E731
    plain = collect(small.asked, lambda some: answer(llama, some), tmp_path / "plain.jsonl")
    edited = collect(small.asked, lambda some: answer(llama, some), tmp_path / "edited.jsonl", around=around)
    alone = collect(
        small.asked, lambda some: answer(llama, some, share_prefixes=False), tmp_path / "alone.jsonl", around=around
    )
    p, q, r = (np.array([row.probabilities for row in rows]) for rows in (plain, edited, alone))
    assert np.abs(p / q - 1).max() > 0.01 and np.allclose(q, r, rtol=1e-4)


def test_the_table_of_a_run_is_tidy(llama, small, tmp_path):
    outcome = run(llama, tmp_path / "r", asked=small, settings=Settings(resamples=100))
    table = pd.read_parquet(tmp_path / "r" / "answers.parquet")
    # the reference, order, two wordings, two negations and eight formats; all but the formats again with a persona
    assert len(table) == len(small.asked) == 3 * (6 + 8 + 6)
    assert not table.duplicated(["question", "wording", "order", "negation", "format", "persona"]).any()
    scores = json.loads((tmp_path / "r" / "scores.json").read_text())
    assert scores["agree"] == outcome.questionnaire.measures["agree"].value
    assert set(questionnaire_table(small.asked[:1], [collecting.AnswerRow([0.5, 0.2], True, "x", 0)])) == set(table)


def test_emotions_and_comparison_on_a_page(llama, models_by_family, small, tmp_path):
    examples = [Example(f"t/{i}", "t", "test", f"rain {i}", LABELS[i % 4], f"t/{i}") for i in range(4)]
    orders = label_orders(4)
    asked = list(expand_emotions(examples, LABELS, emotion_variations(orders), orders))
    emotional = Emotions("t", asked, LABELS, orders)
    settings = Settings(resamples=100)
    run(llama, tmp_path / "a", asked=small, emotional=emotional, settings=settings)
    run(models_by_family["gpt2"], tmp_path / "b", emotional=emotional, settings=settings)
    runs = load_runs([tmp_path / "a", tmp_path / "b"])
    assert [r.name for r in runs] == ["llama", "gpt2"]
    assert ("emotions", "flip_rate") in runs[1].measures and ("questionnaire", "order") not in runs[1].measures
    page = write_page(runs, tmp_path / "page.html").read_text()
    assert "<script src" not in page and "<link" not in page and "gpt2" in page and "flip rate" in page
    with pytest.raises(UserError, match="no finished reliability run"):
        load_runs([tmp_path])
    with pytest.raises(UserError, match="Nothing to compare"):
        load_runs([])


def test_the_command_runs_the_bundled_model_and_says_what_was_wrong(tmp_path, monkeypatch, capsys):
    def interp(*words: str) -> tuple[int | None, str, str]:
        monkeypatch.setattr("sys.argv", ["interp", "reliability", *words])
        with warnings.catch_warnings(), pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, *capsys.readouterr()

    monkeypatch.chdir(tmp_path)
    code, out, _ = interp("run", "--limit", "2", "--variations", "order", "wording", "--resamples", "100", "--json")
    found = json.loads(out)
    assert not code and found["measures"]["order"]["n"] == 2 and found["negation_direct"] is None
    assert Path(found["folder"]) == Path("runs/reliability-tiny") and (tmp_path / found["folder"] / "run.json").exists()
    assert json.loads((tmp_path / found["folder"] / "run.json").read_text())["chat"] is False
    code, _, err = interp("run", "--variations", "ordr")
    assert code == 2 and "did you mean 'order'" in err
    code, _, err = interp("run", "--limit", "1", "--chat", "true")
    assert code == 2 and "has no chat template" in err and "--chat false" in err
