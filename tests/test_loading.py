"""Models from folders and from a hub cache, chat templates, and every refusal in one line."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers as tf
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_models import SENTENCES, build_model

from interp import UserError, capture, load_model
from interp.models.chat import decide_chat
from interp.models.language_model import LanguageModel
from interp.models.sources import ModelPlace
from interp.run.config import Config, PromptConfig
from interp.run.inputs import Inputs
from interp.texts.prompts import build_prompts

LABELS = ["anger", "fear", "joy"]
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
PROMPTS = build_prompts(SENTENCES[:3], LABELS)


@pytest.fixture
def folder(tmp_path, tokenizer) -> Path:
    """A Llama model as Hugging Face saves it."""
    path = tmp_path / "model"
    model = build_model("llama", tokenizer)
    model.hf.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture
def chatting(folder) -> Path:
    own = tf.AutoTokenizer.from_pretrained(folder)
    own.chat_template = TEMPLATE
    own.save_pretrained(folder)
    return folder


def refusal(*args, **options) -> str:
    with pytest.raises(UserError) as caught:
        load_model(*args, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_chat_prompt_has_the_tokens_of_the_template(chatting):
    model = load_model(str(chatting))
    assert model.chat
    for prompt in PROMPTS:
        message = [{"role": "user", "content": str(prompt)}]
        expected = model.tokenizer.apply_chat_template(message, add_generation_prompt=True)["input_ids"]
        found = model.encode([prompt])[0].ids
        assert found == expected and found.count(model.tokenizer.bos_token_id) == 1
    captured = capture(model, PROMPTS, answers=LABELS)
    assert captured.answers.words == ("anger", "fear", "joy")  # after the assistant's line break: no space


def test_chat_can_be_set_and_goes_for_strings_and_prompts_alike(chatting):
    model = load_model(str(chatting), chat=False)
    ids = model.encode([PROMPTS[0]])[0].ids
    assert ids == model.tokenizer(str(PROMPTS[0])).input_ids
    model = load_model(str(chatting), chat=True)
    assert model.encode([str(PROMPTS[0])])[0].ids == model.encode([PROMPTS[0]])[0].ids != ids
    assert model.encode([str(PROMPTS[0])], chat=False)[0].ids == ids


def test_a_long_text_in_a_chat_keeps_the_question_and_the_assistant_prefix(chatting):
    model = load_model(str(chatting))
    encoded = model.encode(build_prompts(["rain " * 400], LABELS))[0]
    text = model.tokenizer.decode(encoded.ids)
    assert encoded.cut > 0 and len(encoded.ids) <= model.context
    assert text.endswith("Emotion:<end>\n<turn>model\n") and "<turn>user\nText:" in text


def test_instruction_models_chat_and_base_models_do_not(chatting, folder, tokenizer):
    own = tf.AutoTokenizer.from_pretrained(chatting)

    def chats(name, which):
        return decide_chat(ModelPlace(name, "hub", None, True), which, "auto").chat

    assert chats("google/gemma-2-2b-it", own) and chats("Qwen/Qwen3-8B", own)
    assert not chats("Qwen/Qwen3-8B-Base", own) and not chats("google/gemma-3-1b-pt", own)
    assert not chats("google/gemma-2-2b", tokenizer)


def test_the_frame_is_known_without_the_weights(chatting, folder):
    for path in (chatting, folder):
        for chat in ("auto", False):
            inputs = Inputs(Config(model=str(path), prompt=PromptConfig(chat=chat)))
            model = load_model(str(path), chat=chat)
            assert inputs.frame == (model.frame or False) and inputs.model_identity == model.identity


def test_chat_without_a_template_is_refused(folder):
    assert "has no chat template" in refusal(str(folder), chat=True)


def test_a_model_from_the_hub_cache_is_that_of_the_folder(tmp_path, folder):
    """A cache as huggingface_hub lays it out, read without any network."""
    home = tmp_path / "hub"
    repo = home / "models--acme--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(commit)
    shutil.copytree(folder, repo / "snapshots" / commit)
    code = (
        "import torch, interp; m = interp.load_model('acme/tiny');"
        "c = interp.capture(m, ['The dog ran.'], answers=['anger', 'fear', 'joy']);"
        f"torch.save(c.residuals, {str(tmp_path / 'out.pt')!r}); print(m.identity)"
    )
    environment = {**os.environ, "HF_HUB_CACHE": str(home), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"acme/tiny@{commit}"
    expected = capture(load_model(str(folder)), ["The dog ran."], answers=LABELS).residuals
    torch.testing.assert_close(torch.load(tmp_path / "out.pt"), expected)


def test_a_model_that_is_not_cached_says_what_to_do(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "interp fetch" in refusal("acme/absent")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GatedRepoError, "acme/secret is gated: accept its licence at https://huggingface.co/acme/secret"),
        (RepositoryNotFoundError, "The Hugging Face hub has no 'acme/secret'"),
    ],
)
def test_what_the_hub_answers_is_told_in_one_line(monkeypatch, error, words):
    import httpx

    def fail(*args, **options):
        response = httpx.Response(403, request=httpx.Request("GET", "https://huggingface.co"))
        raise OSError("many\nlines") from error("no", response=response)

    monkeypatch.setattr(tf.AutoConfig, "from_pretrained", fail)
    assert refusal("acme/secret").startswith(words)


def test_half_a_checkpoint_is_refused(folder):
    tensors = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in tensors.items() if "layers.3" not in k}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    assert "half a checkpoint: 9 weights are missing" in refusal(str(folder))
    (folder / "model.safetensors").unlink()
    assert "no file named model.safetensors" in refusal(str(folder))


def test_an_adapter_is_refused(tmp_path, tokenizer):
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "is an adapter, not a model; merge it" in refusal(str(tmp_path))
    model = build_model("llama", tokenizer)
    model.hf.__class__ = type("PeftModelForCausalLM", (type(model.hf),), {})
    with pytest.raises(UserError, match=r"PeftModelForCausalLM.*merge_and_unload"):
        LanguageModel(model.hf, tokenizer, "adapted", "test")


def test_too_little_memory_says_what_would_fit(folder, monkeypatch):
    monkeypatch.setattr("interp.models.loading.free_memory", lambda device: 100_000)
    message = refusal(str(folder))
    assert "0.0 GB free. Try --dtype bfloat16" in message


def test_a_tokenizer_without_any_special_token_is_refused(folder):
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for name in ("pad_token", "eos_token", "bos_token", "unk_token"):
        config.pop(name, None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert "no padding, end or unknown token" in refusal(str(folder))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"quantization": "8bit", "device": "cpu"}, "needs a CUDA device"),
        ({"device": "gpu7"}, "Unknown device 'gpu7'"),
        ({"device": "meta"}, "Device 'meta' cannot be used here"),
        ({"device": "cpu:-3"}, "Unknown device 'cpu:-3'"),
        ({"dtype": "float23"}, "Unknown dtype 'float23'; did you mean"),
    ],
)
def test_options_that_cannot_be_met(folder, options, words):
    assert words in refusal(str(folder), **options)
