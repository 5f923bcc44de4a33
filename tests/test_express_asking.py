"""Asking models: words scored in a tree equal words scored one by one; whole commands on tiny models."""

import copy
import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from express_files import command
from tiny_models import SHAPE

from interp import UserError
from interp.engine.words import Continuation, ending_tokens, word_trees
from interp.models.language_model import LanguageModel
from interp.surveys.express import asking
from interp.surveys.express.answers import read_answers
from interp.surveys.express.asking import Question, ask
from interp.surveys.express.lexicon import Lexicon, embedding_neighbours
from interp.surveys.express.prompting import Style, build_prompt, choose_shots, fit
from interp.surveys.express.running import ExpressOptions, run_express
from interp.surveys.express.segments import Segment
from interp.surveys.generating import ListClosed


def brute_force(model: LanguageModel, prompt: str, word: str) -> float:
    """Log-probability of the word's tokens after the prompt, and of an ending after them, one whole pass."""
    start = model.tokenizer(prompt)["input_ids"]
    own = model.tokenizer(word, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logits = model.hf(input_ids=torch.tensor([start + own])).logits[0].float().log_softmax(-1)
    total = sum(logits[len(start) + k - 1, token] for k, token in enumerate(own))
    return float(total + logits[-1, ending_tokens(model)].logsumexp(-1))


@pytest.mark.parametrize("most_nodes", [4, 1000])
def test_tree_equals_one_by_one(any_model, most_nodes):
    prompt = "Nobody had told us that the road was closed until noon. Words:"
    words = [" joy", " joyful", " fear", " fearful", " sadness", " sad", " anger", " lost and found"]
    there = Continuation(any_model, any_model.pad(any_model.encode([prompt])))
    ends = ending_tokens(any_model)
    trees = word_trees(any_model, words, most_nodes=most_nodes)
    assert (len(trees) > 1) == (most_nodes == 4)
    expected = torch.tensor([brute_force(any_model, prompt, word) for word in words])
    torch.testing.assert_close(there.score(trees, ends), expected, rtol=1e-4, atol=1e-4)
    there.go_on(" fear,")
    expected = torch.tensor([brute_force(any_model, prompt + " fear,", word) for word in words])
    torch.testing.assert_close(there.score(trees, ends), expected, rtol=1e-4, atol=1e-4)


def test_what_begins_alike_is_computed_once(llama):
    words = [" fearful", " fear", " fearful fear"]
    (tree,) = word_trees(llama, words)
    paths = [llama.tokenizer(word, add_special_tokens=False)["input_ids"] for word in words]
    assert len(tree.tokens) == len({tuple(p[: k + 1]) for p in paths for k in range(len(p))})
    assert tree.tokens[tree.word].tolist() == [path[-1] for path in paths]
    assert all(parent < node for node, parent in enumerate(tree.parent.tolist()))


# ------------------------------------------------------------------------------------ whole runs

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
TEXTS = [("The dog ran and I felt <mask>.", ("joy",)), ("Rain. I was <mask>, then <mask>.", ("sadness", "fear"))]
SEGMENTS = [Segment(str(i), str(i // 2), f"{TEXTS[i % 2][0]} {i}", TEXTS[i % 2][1]) for i in range(8)]
WORDS = ("joy", "fear", "sadness", "anger")


def long_context(tokenizer, chat: bool) -> LanguageModel:
    """A tiny random model with room for instructions; with a chat template it is an instruction model."""
    torch.manual_seed(0)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.chat_template = CHAT_TEMPLATE if chat else None
    config = tf.LlamaConfig(**{**SHAPE, "max_position_embeddings": 2048}, num_key_value_heads=2)
    return LanguageModel(tf.LlamaForCausalLM(config), tokenizer, "long", "test:long")


@pytest.fixture(scope="module")
def base(tokenizer) -> LanguageModel:
    return long_context(tokenizer, chat=False)


@pytest.fixture(scope="module")
def instruct(tokenizer) -> LanguageModel:
    return long_context(tokenizer, chat=True)


def lines(out: Path) -> dict[str, dict]:
    return {r["index"]: r for r in map(json.loads, (out / "answers.jsonl").read_text().splitlines())}


@pytest.mark.parametrize("mode", ["open", "choose"])
@pytest.mark.parametrize("chat", [False, True])
def test_answers_do_not_depend_on_company_or_interruption(tmp_path, base, instruct, mode, chat, monkeypatch):
    """All at once, one by one, and stopped half-way with a torn last line: the same answers."""
    model = instruct if chat else base
    question = Question(Style(mode, chat=chat), shots=1, words=WORDS if mode == "choose" else ())
    whole = ask(model, SEGMENTS, question, tmp_path / "whole")
    monkeypatch.setattr(asking, "TOKENS_PER_BATCH", 1)
    ask(model, SEGMENTS, question, tmp_path / "single")
    monkeypatch.undo()
    assert lines(tmp_path / "whole") == lines(tmp_path / "single")
    log = tmp_path / "single" / "answers.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:4])[:-5])
    again = ask(model, SEGMENTS, question, tmp_path / "single")
    assert (again.resumed, again.new) == (3, 3)  # one post of two segments gave the solved example
    assert again.answers.read_bytes() == whole.answers.read_bytes()
    assert ask(model, SEGMENTS, question, tmp_path / "single").new == 0


def test_chosen_words_are_the_most_probable(tmp_path, base):
    question = Question(Style("choose"), words=WORDS)
    ask(base, SEGMENTS[1:2], question, tmp_path / "out")
    (found,) = lines(tmp_path / "out").values()
    prompt = str(build_prompt(SEGMENTS[1], [], question.style))
    first = [brute_force(base, prompt, f" {word}") for word in WORDS]
    best = WORDS[max(range(4), key=lambda i: first[i])]
    second = [brute_force(base, f"{prompt} {best},", f" {word}") for word in WORDS]
    assert found["output"] == str([best, WORDS[max(range(4), key=lambda i: second[i])]])
    assert dict(found["top"][0])[best] == pytest.approx(max(first), abs=1e-3)


def test_prompts(base, instruct):
    text = str(build_prompt(SEGMENTS[0], SEGMENTS[1:2], Style()))
    assert text.endswith(f"Text: {SEGMENTS[1].text}\nWords: ['sadness', 'fear']\n\nText: {SEGMENTS[0].text}\nWords: [")
    chat = build_prompt(SEGMENTS[0], SEGMENTS[1:2], Style(chat=True))
    shown = str(instruct.framed(chat, chat=True))
    assert shown.endswith(f"<assistant>['sadness', 'fear']\n<user>Text: {SEGMENTS[0].text}\n<assistant>")
    assert chat.text == SEGMENTS[0].text and shown.count("<assistant>") == 2
    assert instruct.encode([chat], chat=True)[0].ids.count(instruct.tokenizer.bos_token_id) == 1
    reasoned = str(build_prompt(SEGMENTS[0], SEGMENTS[1:2], Style(chain_of_thought=True)))
    assert "step by step" in reasoned and reasoned.endswith("\nReasoning:") and "Answer: ['sadness'" in reasoned


def test_long_texts_keep_their_masks(base):
    long = Segment("1", "1", "The dog ran. " * 900 + "I felt <mask> and <mask>. " + "Rain. " * 900, ("joy", "fear"))
    prompt, cut = fit(base, build_prompt(long, [], Style()), 40)
    assert cut > 1000 and prompt.text.count("<mask>") == 2
    assert len(base.encode([prompt], room=40)[0].ids) <= base.context - 40
    assert base.encode([prompt], room=40)[0].cut == 0


def test_generation_stops_at_the_list(base):
    stop = ListClosed(base, start=3, most_tokens=[90, 90, 90, 2], marker="Answer:")
    encode = base.tokenizer
    rows = [
        encode(t, add_special_tokens=False)["input_ids"] for t in ("a [joy] Answer:", "a Answer: [joy]", "a [joy]", "a")
    ]
    width = max(map(len, rows)) + 3
    ids = torch.tensor([[5, 5, 5, *r, *[1] * (width - 3 - len(r))] for r in rows])
    assert stop(ids, torch.empty(0)).tolist() == [False, True, False, True]


def test_limit_and_shots_are_drawn_with_the_seed(tmp_path, base):
    question = Question(Style("choose"), shots=1, limit=3, seed=5, words=WORDS)
    ask(base, SEGMENTS, question, tmp_path / "a")
    asked = set(lines(tmp_path / "a"))
    shot = choose_shots(SEGMENTS, 1, 5)[0]
    assert len(asked) == 3 and not asked & {s.id for s in SEGMENTS if s.post == shot.post}
    more = ask(base, SEGMENTS, replace(question, limit=5), tmp_path / "a")
    assert (more.resumed, more.new) == (3, 2)
    with pytest.raises(UserError, match=r"holds answers of another run \(seed: 5, now 6\)"):
        ask(base, SEGMENTS, replace(question, seed=6), tmp_path / "a")
    with pytest.raises(UserError, match="leaves nothing to ask"):
        ask(base, SEGMENTS, replace(question, shots=4), tmp_path / "b")
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "x").touch()
    with pytest.raises(UserError, match=r"holds files but no express\.json"):
        ask(base, SEGMENTS, question, tmp_path / "c")


def test_what_is_done_to_the_model_meanwhile(tmp_path, base):
    """The seam for steering: `around` holds while the model is asked, and only then; its name is part of the run."""
    during = []

    @contextmanager
    def around(model):
        with model.edited({1: lambda x: x + 100 * torch.arange(model.d_model)}):
            during.append("on")
            yield
        during.append("off")

    question = Question(Style("choose"), words=WORDS)
    ask(base, SEGMENTS, question, tmp_path / "plain")
    ask(base, SEGMENTS, replace(question, variant="pushed"), tmp_path / "pushed", around=around)
    assert during == ["on", "off"]
    assert lines(tmp_path / "plain")["0"]["top"] != lines(tmp_path / "pushed")["0"]["top"]
    with pytest.raises(UserError, match="variant"):
        ask(base, SEGMENTS, question, tmp_path / "pushed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "choose", "chain_of_thought": True}, "needs --mode open"),
        ({"limit": 0}, "--limit must be at least 1"),
        ({"shots": -1}, "--shots must be at least 0"),
        ({"chat": True}, "has no chat template"),
        ({"words": "words.txt"}, "--words is for --mode choose"),
        ({"segments": "nowhere.csv"}, "No file"),
    ],
)
def test_options_that_are_refused(tmp_path, base, options, message):
    with pytest.raises(UserError, match=message):
        run_express(ExpressOptions(model="long", out=tmp_path / "out", **options), model=base)


def test_embedding_neighbours(base):
    lexicon = Lexicon(("joy", "fear"), np.eye(10)[:2], "two", "two")
    near = embedding_neighbours(base, lexicon)
    assert near(["joy", "fear"]) == ["joy", "fear"]  # a word is nearest to itself
    assert embedding_neighbours(base, lexicon, least=1.1)(["joy"]) == [None]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, instruct) -> Path:
    folder = tmp_path_factory.mktemp("instruct")
    instruct.hf.save_pretrained(folder)
    instruct.tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("options", [{"mode": "choose"}, {"chain_of_thought": True, "shots": 2}])
def test_whole_runs_on_an_instruction_model(tmp_path, saved, options):
    done = run_express(ExpressOptions(model=str(saved), out=tmp_path / "out", limit=4, resamples=50, **options))
    assert json.loads((done.folder / "express.json").read_text())["chat"] is True
    assert done.scores.section("scores").loc["VRate", "n"] == 4


def test_the_whole_command_on_an_instruction_model(tmp_path, saved, capsys):
    out, told = command(capsys, "express", "run", "--model", saved, "--out", tmp_path / "o", "--limit", 4, "--quiet")
    assert out.strip() == str(tmp_path / "o") and not told
    assert json.loads((tmp_path / "o" / "scores.json").read_text())["scores"]["VRate"]["n"] == 4
    assert len(read_answers(tmp_path / "o" / "answers.csv").rows) == 4


def test_the_whole_command_on_the_bundled_model(tmp_path, capsys):
    out, _ = command(capsys, "express", "run", "--model", "tiny", "--limit", 3, "--out", tmp_path / "out")
    assert "AccV-2" in out and (tmp_path / "out" / "answers.csv").is_file()
