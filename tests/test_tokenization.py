"""How words become token ids: base and instruction models, templates of every kind, tokenizers with habits."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
import transformers as tf
from tiny_models import SENTENCES, WORDS, build_model
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from interp import UserError, capture, load_model
from interp.engine.words import Continuation, Trees, ending_tokens
from interp.errors import InterpWarning
from interp.models.answers import Answers
from interp.models.language_model import LanguageModel, token_pieces
from interp.steering import Steering
from interp.steering.generating import stream
from interp.surveys.express.prompting import Style, build_prompt
from interp.surveys.express.segments import Segment
from interp.surveys.reliability.answering import answer, chat, option_tokens
from interp.surveys.reliability.questionnaires import Item
from interp.surveys.reliability.variations import Variation, VariedPrompt, expand
from interp.texts.prompts import Prompt, Turn, build_prompts

LABELS = ["anger", "fear", "joy", "sadness"]
TURNS = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
GENERATION = "{% if add_generation_prompt %}<assistant>\n{% endif %}"
TEMPLATES = {
    "plain": TURNS + GENERATION,
    "with BOS": "{{ bos_token }}" + TURNS + GENERATION,
    "with a system turn of its own": (
        "{% if messages[0]['role'] != 'system' %}<system>You help.\n{% endif %}" + TURNS + GENERATION
    ),
    "trims": "{{ bos_token }}" + TURNS.replace("m['content']", "m['content'] | trim") + GENERATION,
    "thinks": TURNS + GENERATION.replace("\n{% endif", "\n<think>\n{% endif"),
    "thinks if asked": (
        TURNS + "{% if add_generation_prompt %}<assistant>\n{% if enable_thinking is not defined or enable_thinking %}"
        "<think>\n{% else %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
    ),
    "says the date": "Today: {{ strftime_now('%Y') }}\n" + TURNS + GENERATION,
}
PROMPTS = build_prompts(SENTENCES[:3], LABELS)


@pytest.fixture(scope="module")
def saved(tmp_path_factory, tokenizer) -> Path:
    folder = tmp_path_factory.mktemp("saved")
    build_model("llama", tokenizer).hf.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"max_position_embeddings": 512}))
    return folder


@pytest.fixture
def folder(tmp_path, saved) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "model-instruct"))


def with_template(folder: Path, template, **files) -> Path:
    own = tf.AutoTokenizer.from_pretrained(folder)
    own.chat_template = template
    own.save_pretrained(folder)
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def without_bos(folder: Path) -> Path:
    """The tokenizer adds nothing by itself, as SmolLM2's and Qwen's."""
    return change_tokenizer(folder, post_processor=None)


def change_tokenizer(folder: Path, **parts) -> Path:
    file = folder / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))
    return folder


def rendered_ids(model: LanguageModel, *turns: tuple[str, str]) -> list[int]:
    """As transformers itself tokenises a conversation."""
    messages = [{"role": role, "content": content} for role, content in turns]
    return list(
        model.tokenizer.apply_chat_template(messages, add_generation_prompt=True, enable_thinking=False)["input_ids"]
    )


# ------------------------------------------------------------------------------------ base and instruction models


def test_a_base_model_sees_the_words_alone(saved):
    model = load_model(str(saved))
    assert not model.chat and model.frame is None
    for prompt in PROMPTS:
        expected = model.tokenizer(str(prompt))["input_ids"]
        assert model.encode([prompt])[0].ids == model.encode([str(prompt)])[0].ids == expected == model.ids(prompt)


@pytest.mark.parametrize("adds_bos", [True, False])
@pytest.mark.parametrize("name", [name for name in TEMPLATES if name != "thinks"])
def test_an_instruction_model_sees_the_template_once(folder, name, adds_bos):
    """Recognition, questionnaires, EXPRESS and generated answers: the ids that transformers gives the conversation."""
    with_template(folder if adds_bos else without_bos(folder), TEMPLATES[name])
    model = load_model(str(folder), chat=True)
    for prompt in PROMPTS:
        expected = rendered_ids(model, ("user", str(prompt)))
        assert model.encode([prompt])[0].ids == model.encode([str(prompt)])[0].ids == expected
        plain = model.encode([prompt], chat=False)[0].ids
        assert plain == model.tokenizer(str(prompt))["input_ids"]
    item = Item("q", "t", "axis", "It rained.", {}, 1.0)
    (asked,) = expand([item], [Variation()])
    assert seen_by(model, lambda: answer(model, [asked])) == rendered_ids(model, ("user", str(asked.prompt)))
    assert seen_by(model, lambda: chat(model, reply_tokens=1)(["Well?"])) == rendered_ids(model, ("user", "Well?"))
    assert seen_by(model, lambda: list(stream(model, "Well?", Steering("none"), tokens=1))) == rendered_ids(
        model, ("user", "Well?")
    )


def seen_by(model: LanguageModel, call) -> list[int]:
    """Token ids of the first pass inside a call."""
    seen = []
    handle = model.hf.get_input_embeddings().register_forward_hook(lambda m, i, o: seen.append(i[0][0].tolist()))
    call()
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("loaded_to_chat", [True, False])
def test_express_asks_in_turns_and_frames_once(folder, loaded_to_chat):
    model = load_model(str(with_template(folder, TEMPLATES["with BOS"])), chat=loaded_to_chat)
    segment, shot = (Segment(str(i), str(i), f"{SENTENCES[i]} I felt <mask>.", ("joy",)) for i in range(2))
    style = Style(chat=True)
    prompt = build_prompt(segment, [shot], style)
    turns = [
        ("user", f"{style.instruction}\n\nText: {shot.text}"),
        ("assistant", "['joy']"),
        ("user", f"Text: {segment.text}"),
    ]
    assert model.ids(prompt, chat=True) == rendered_ids(model, *turns)
    bare = build_prompt(segment, [shot], Style())
    assert model.ids(bare, chat=False) == model.tokenizer(str(bare))["input_ids"]
    assert "<user>" not in str(model.framed(bare, chat=False))


def test_earlier_turns_are_paragraphs_for_a_base_model(saved):
    prompt = Prompt("Now: ", "rain", "", (Turn("user", "The dog?"), Turn("assistant", "joy")))
    assert str(load_model(str(saved)).framed(prompt)) == "The dog?\n\njoy\n\nNow: rain"


def test_a_long_text_in_a_chat_is_cut_and_nothing_else(folder):
    model = load_model(str(with_template(folder, TEMPLATES["with BOS"])), chat=True)
    (encoded,) = model.encode(build_prompts(["rain " * 700], LABELS))
    text = model.tokenizer.decode(encoded.ids)
    assert encoded.cut > 0 and len(encoded.ids) <= model.context
    assert text.startswith("<|endoftext|><user>Text:") and text.endswith("Emotion:\n<assistant>\n")


# ------------------------------------------------------------------------------------ templates that misbehave


def test_a_template_that_refuses_is_told_in_its_own_words(folder):
    template = "{{ raise_exception('A system message is required') }}"
    with pytest.raises(UserError, match=r"\(A system message is required\).*--prompt\.chat false") as caught:
        load_model(str(with_template(folder, template)), chat=True)
    assert "\n" not in str(caught.value)
    assert load_model(str(folder), chat=False).encode(["Rain."])[0].ids


@pytest.mark.parametrize("template", ["{{ messages[7].content }}", "{{ 1 / 0 }}", "{% if %}"])
def test_a_template_that_breaks_is_one_line(folder, template):
    with pytest.raises(UserError, match=r"refuses a question.*--no-chat") as caught:
        load_model(str(with_template(folder, template)), chat=True)
    assert "\n" not in str(caught.value)


def test_several_templates_without_a_default_are_one_line(folder):
    with_template(folder, {"tool_use": TEMPLATES["plain"], "rag": TEMPLATES["plain"]})
    with pytest.raises(UserError, match=r"multiple chat templates.*--prompt\.chat false") as caught:
        load_model(str(folder), chat=True)
    assert "\n" not in str(caught.value)
    with_template(folder, {"tool_use": TEMPLATES["thinks"], "default": TEMPLATES["plain"]})
    assert load_model(str(folder), chat=True).frame == "<user>[[words]]\n<assistant>\n"


@pytest.mark.parametrize(("template", "words"), [("<user>\n", "0 times"), (TURNS + TURNS, "2 times")])
def test_a_template_that_loses_or_doubles_the_words_is_refused(folder, template, words):
    with pytest.raises(UserError, match=words):
        load_model(str(with_template(folder, template)), chat=True)


def test_a_template_that_changes_the_words_is_refused(folder):
    template = TURNS.replace("m['content']", "m['content'] | replace('dog', 'cat')") + GENERATION
    model = load_model(str(with_template(folder, template)), chat=True)
    assert model.encode(["Rain."])
    with pytest.raises(UserError, match="changes the words"):
        model.encode(["The dog ran."])


def test_a_template_that_opens_a_thought_gets_it_closed(folder):
    with pytest.warns(InterpWarning, match=r"opens <think>; it is closed at once \(</think>\)"):
        model = load_model(str(with_template(folder, TEMPLATES["thinks"])), chat=True)
    shown = str(model.framed(PROMPTS[0]))
    assert shown.endswith("<assistant>\n<think>\n\n</think>\n\n") and shown.count("<think>") == 1
    assert model.encode([PROMPTS[0]])[0].ids == model.tokenization.bare_ids(shown)


def test_the_frame_has_the_date_and_stays_the_same_in_a_process(folder, monkeypatch):
    model = load_model(str(with_template(folder, TEMPLATES["says the date"])), chat=True)
    year = model.frame.split("\n")[0]
    assert year.startswith("Today: 2") and model.frame.endswith("<user>[[words]]\n<assistant>\n")
    monkeypatch.setattr(model.tokenizer, "chat_template", TEMPLATES["says the date"].replace("%Y", "1815"))
    assert str(model.framed(PROMPTS[0])).startswith(year)
    assert load_model(str(folder), chat=True).frame == model.frame


@pytest.mark.parametrize(("words", "chats"), [("Emotion: ", False), ("Emotion:  \t", False), ("Emotion: ", True)])
def test_a_blank_at_the_end_is_left_to_the_answer_and_said(folder, words, chats):
    model = load_model(str(with_template(folder, TEMPLATES["plain"])), chat=chats)
    (blank,) = build_prompts(["Rain."], LABELS, template="{text}\n" + words)
    (plain,) = build_prompts(["Rain."], LABELS, template="{text}\nEmotion:")
    with pytest.warns(InterpWarning, match=r"ends in a blank, for .* the token '(Ġ|ĉ)'"):
        found = capture(model, [blank], answers=LABELS)
    expected = capture(model, [plain], answers=LABELS)
    assert torch.equal(found.answer_logits, expected.answer_logits)
    assert found.answers.tokens == expected.answers.tokens
    assert len(model.encode([blank], as_is=True)[0].ids) > found.n_tokens[0]


def test_a_template_that_ends_in_a_blank_is_said(folder):
    template = TURNS + "{% if add_generation_prompt %}ASSISTANT: {% endif %}"
    with pytest.warns(InterpWarning, match="chat template ends in a blank, for .* the token 'Ġ'"):
        model = load_model(str(with_template(folder, template)), chat=True)
    captured = capture(model, PROMPTS, answers=LABELS)
    assert captured.answers.words == tuple(f" {label}" for label in LABELS)
    whole = model.tokenization.bare_ids(f"{model.framed(PROMPTS[0])} joy")
    assert model.encode([PROMPTS[0]])[0].ids + list(captured.answers.tokens[2]) == whole


# ------------------------------------------------------------------------------------ tokenizers with habits


def test_what_a_tokenizer_puts_behind_every_text_is_cut_off(folder):
    processor = processors.TemplateProcessing(
        single="<|endoftext|> $A <|endoftext|> <|pad|>", special_tokens=[("<|endoftext|>", 0), ("<|pad|>", 1)]
    )
    plain = load_model(str(folder))
    change_tokenizer(folder, post_processor=json.loads(processor.__getstate__()))
    model = load_model(str(folder))
    assert model.tokenizer("Rain.")["input_ids"][-2:] == [0, 1] and model.tokenization.appended == [0, 1]
    for text in ["Rain.", "Rain.<|endoftext|>", ""]:
        assert model.ids(text) == plain.ids(text)
    found, expected = (capture(m, PROMPTS, answers=LABELS) for m in (model, plain))
    assert torch.equal(found.answer_logits, expected.answer_logits) and found.n_tokens == expected.n_tokens


def sentencepiece(kind: str) -> tf.PreTrainedTokenizerFast:
    """A tokenizer that puts a blank before every text: Llama-2's normaliser, or Metaspace in the fast class."""
    raw = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    if kind == "normaliser":
        words = [f"▁{w}" for w in (*WORDS.split(), "Text:", "Emotion:", "Answer:", "Words:")]
    else:
        raw.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
        words = ["Text: Emotion: Answer: Words: " + WORDS]
    raw.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    alphabet = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.,:;!?'\"[]<>()\n▁"]
    special = ["<s>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=390, special_tokens=special, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    raw.train_from_iterator(words * 3, trainer)
    if kind == "normaliser":
        raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=raw, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )


@pytest.fixture(scope="module", params=["normaliser", "metaspace"])
def prefixing(request, tmp_path_factory, saved) -> LanguageModel:
    folder = Path(shutil.copytree(saved, tmp_path_factory.mktemp("prefixing") / "model"))
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    sentencepiece(request.param).save_pretrained(folder)
    return load_model(str(folder))


def behind(model: LanguageModel, prompt: str, word: str) -> list[int]:
    """The word's tokens, by writing prompt and word in one."""
    start, whole = (model.tokenizer(text)["input_ids"] for text in (prompt, prompt + word))
    assert whole[: len(start)] == start
    return whole[len(start) :]


@pytest.mark.parametrize("template", ["Text: {text}\nEmotion:", "Text: {text}\nEmotion:\n"])
def test_labels_are_the_tokens_they_have_in_the_prompt(prefixing, template):
    """Tokenised alone they would begin with a blank of their own, and be other tokens."""
    prompts = build_prompts(["rain", "the lost dog"], LABELS, template=template)
    captured = capture(prefixing, prompts, answers=LABELS)
    words = LABELS if template.endswith("\n") else [f" {label}" for label in LABELS]
    expected = [tuple(behind(prefixing, str(prompts[0]), word)) for word in words]
    assert list(captured.answers.tokens) == expected
    alone = [tuple(prefixing.tokenizer(word, add_special_tokens=False)["input_ids"]) for word in words]
    if template.endswith("\n"):
        assert all(a != b for a, b in zip(alone, expected, strict=True))
    for prompt, found in zip(prompts, captured.answer_log_probabilities, strict=True):
        whole = torch.tensor([log_probability(prefixing, str(prompt), word) for word in words])
        if not captured.answers.whole:
            ids = torch.tensor([prefixing.tokenizer(str(prompt))["input_ids"]])
            with torch.no_grad():
                logits = prefixing.hf(ids).logits[0, -1]
            whole = logits[[own[0] for own in expected]]
        torch.testing.assert_close(found, whole.log_softmax(-1), atol=1e-4, rtol=0)


@torch.no_grad()
def log_probability(model: LanguageModel, prompt: str, word: str, ends: torch.Tensor | None = None) -> float:
    start, own = model.tokenizer(prompt)["input_ids"], behind(model, prompt, word)
    log_probs = model.hf(torch.tensor([start + own])).logits[0].float().log_softmax(-1)
    total = sum(float(log_probs[len(start) + k - 1, token]) for k, token in enumerate(own))
    return total if ends is None else total + float(log_probs[-1, ends].logsumexp(-1))


@pytest.mark.parametrize("prompt", ["Text: rain\nWords:", "Text: rain\nWords:\n"])
def test_words_to_choose_from_and_their_endings_are_those_of_the_prompt(prefixing, prompt):
    model, words = prefixing, ["joy", "fear", "sadness", "lost"]
    lead = "" if prompt.endswith("\n") else " "
    ends = ending_tokens(model)
    marks = {behind(model, "Words: joy", mark)[0] for mark in [",", ".", ";", "\n", "]", "'"]}
    assert set(ends.tolist()) == marks | set(model.end_ids)
    trees = Trees(model, words)
    there = Continuation(model, model.pad(model.encode([prompt])), prompt)
    found = there.score(trees.behind(there.text, lead), ends)
    expected = [log_probability(model, prompt, lead + word, ends) for word in words]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)
    there.go_on(f"{lead}fear,")
    found = there.score(trees.behind(there.text, " "), ends)
    expected = [log_probability(model, f"{prompt}{lead}fear,", f" {word}", ends) for word in words]
    torch.testing.assert_close(found, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_options_are_the_tokens_they_have_in_the_prompt(prefixing):
    prompt = "Text: rain\nAnswer:"
    found = option_tokens(prefixing, ("joy", "fear"), prompt)
    assert found.distinct
    for option, own in zip(("joy", "fear"), found.first, strict=True):
        spelled = [behind(prefixing, prompt, f"{b}{c}") for c in (option, option.capitalize()) for b in ("", " ")]
        assert set(own) >= {ids[0] for ids in spelled if len(ids) == 1}
        assert behind(prefixing, prompt, f" {option}")[0] in own
    (p,) = answer(prefixing, [VariedPrompt(prompt, ("joy", "fear"), {})]).probabilities
    with torch.no_grad():
        ids = torch.tensor([prefixing.tokenizer(prompt)["input_ids"]])
        whole = prefixing.hf(ids).logits[0, -1].float().softmax(-1)
    torch.testing.assert_close(p, torch.stack([whole[list(own)].max() for own in found.first]), rtol=1e-4, atol=0)


def test_a_prompt_whose_last_token_changes_is_said(llama):
    """`...down the str` + `eet`: the prompt's own last token would be another."""
    prompt, word = "The dog ran down the str", "eet"
    (found,) = llama.tokenization.continuations(prompt, [word])
    assert found.joined
    with pytest.warns(InterpWarning, match="last token of the prompt changes"):
        answers = Answers.of(llama, [word, " joy"], prompt=Prompt("", prompt, ""))
    assert answers.tokens[0] == tuple(llama.tokenization.bare_ids(word))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Answers.of(llama, [" joy", " fear"], prompt=Prompt("", prompt, ""))


def test_prompts_that_end_otherwise_are_said_where_it_matters(prefixing):
    """Behind a special token a word begins with a blank of its own, behind a line feed it does not."""
    with pytest.warns(InterpWarning, match=r"do not end alike, and behind 'Rain<s>' the labels"):
        capture(prefixing, ["Emotion:\n", "Rain<s>"], answers=LABELS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        capture(prefixing, ["Text: rain", "Text: the dog"], answers=LABELS)


def test_a_long_prompt_is_continued_as_a_whole_one(prefixing, llama):
    for model in (prefixing, llama):
        prompt = "Text: " + "the lost dog, " * 60 + "rain\nEmotion:"
        for word in ("joy", " joy", " lost and found", ","):
            (found,) = model.tokenization.continuations(prompt, [word])
            assert list(found.ids) == behind(model, prompt, word)


# ------------------------------------------------------------------------------------ ends of what is generated


def test_generation_stops_at_every_end_of_the_generation_settings(folder):
    """A list, as Gemma 3 has it: none of them is the tokenizer's own."""
    model = load_model(str(folder))
    ids = torch.tensor([model.ids(SENTENCES[0])])
    free = model.hf.generate(ids, max_new_tokens=8, do_sample=False, eos_token_id=None, pad_token_id=1)
    new = free[0, ids.shape[1] :].tolist()
    end = next(token for token in new if token != new[0])
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [399, end]}))
    model = load_model(str(folder))
    assert model.end_ids == sorted({0, 399, end})
    stopped = list(stream(model, SENTENCES[0], Steering("none"), tokens=8))
    assert stopped[-1] == model.tokenizer.decode(new[: new.index(end)])
    assert chat(model, reply_tokens=8)([SENTENCES[0]]) == stopped[-1:]


# ------------------------------------------------------------------------------------ a real model


@pytest.fixture(scope="module")
def smollm2() -> LanguageModel:
    try:
        return load_model("smollm2-135m-instruct", device="cpu", dtype="float32")
    except UserError as error:
        pytest.skip(f"SmolLM2 is not in the cache: {error}")


@pytest.mark.real
def test_a_real_instruction_model_is_asked_as_transformers_asks_it(smollm2):
    """Its BOS is `<|im_start|>`, which the tokenizer does not add: the template's own must stay."""
    model = smollm2
    assert model.chat
    for prompt in (*PROMPTS, "Is the sky blue?"):
        expected = rendered_ids(model, ("user", str(prompt)))
        assert model.encode([prompt])[0].ids == expected and expected[0] == model.tokenizer.bos_token_id
    segment, shot = (Segment(str(i), str(i), f"{SENTENCES[i]} I felt <mask>.", ("joy",)) for i in range(2))
    style = Style(chat=True)
    turns = [
        ("user", f"{style.instruction}\n\nText: {shot.text}"),
        ("assistant", "['joy']"),
        ("user", f"Text: {segment.text}"),
    ]
    assert model.ids(build_prompt(segment, [shot], style)) == rendered_ids(model, *turns)
    question = "Is grass green? Answer Yes or No."
    ids = torch.tensor([rendered_ids(model, ("user", question))])
    written = model.hf.generate(ids, max_new_tokens=12, do_sample=False)[0, ids.shape[1] :]
    reply = model.tokenizer.decode(written, skip_special_tokens=True)
    assert chat(model, reply_tokens=12)([question]) == [reply] and reply
    assert list(stream(model, question, Steering("none"), tokens=12))[-1] == reply


@pytest.mark.real
def test_a_real_models_labels_are_scored_behind_its_template(smollm2):
    captured = capture(smollm2, PROMPTS, answers=LABELS)
    for prompt, found in zip(PROMPTS, captured.answer_log_probabilities, strict=True):
        ids = torch.tensor([rendered_ids(smollm2, ("user", str(prompt)))])
        first = [smollm2.tokenizer(label, add_special_tokens=False)["input_ids"][0] for label in LABELS]
        with torch.no_grad():
            expected = smollm2.hf(ids).logits[0, -1, first].log_softmax(-1)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("text", ["Rain.", "The 🤢 cat", "مرحبا dog", "a  b\n\nc", ""])
def test_pieces_of_a_text_add_up_to_it(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids) and "".join(pieces) == text


def test_a_character_that_is_cut_in_two_does_not_swallow_the_rest(tokenizer):
    ids = tokenizer("🤢", add_special_tokens=False)["input_ids"][:2]
    assert len(token_pieces(tokenizer, ids)) == 2
