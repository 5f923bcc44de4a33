"""The commands that write text and export steerings: their help, the chat frame, ends of text, repetition."""

import json
from pathlib import Path

import pytest
import torch
import transformers as tf
from steerings import additive_steering, mixed_steering
from tiny_models import build_model, build_sae, save_stack

from interp import load_model
from interp.cli import main as cli
from interp.errors import InterpWarning
from interp.run.config import load_config
from interp.steering import Steering
from interp.steering.export import export, loaded
from interp.steering.generating import repeats, stream

TEMPLATE = (
    "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>\n{% endif %}"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory, tokenizer) -> Path:
    """A run folder of an instruction model with a steering, as far as these commands read it."""
    folder = tmp_path_factory.mktemp("run")
    model = build_model("llama", tokenizer)
    model.hf.save_pretrained(folder / "model")
    chatting = tf.AutoTokenizer.from_pretrained(tokenizer.name_or_path)
    chatting.chat_template = TEMPLATE
    chatting.save_pretrained(folder / "model")
    save_stack(folder / "saes")
    options = {"model": str(folder / "model"), "saes.name": str(folder / "saes"), "saes.force": "true"}
    config = load_config(None, {**options, "prompt.chat": "true"}).as_dict()
    (folder / "run.json").write_text(json.dumps({"config": config, "model": {"chat": True}}))
    push = 9 * torch.randn(32, generator=torch.Generator().manual_seed(4))
    Steering("push", vectors={2: push}, positions="answer").save(folder)
    return folder


def command(capsys, *words) -> tuple[str, str]:
    cli.app([str(w) for w in words], result_action="return_value")
    return capsys.readouterr()


def squeezed(text: str) -> str:
    return " ".join(text.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "generate",
            ["A run folder.", "Text to go on from", "Push towards this emotion: its", "How many"],
        ),
        ("generate", ["0: always the likeliest token.", "Of the draws", "chat template; default: as the run did."]),
        (
            "export",
            ["A run folder.", "hf or transformer_lens: a folder", "Where the result goes;", "See interp generate."],
        ),
    ],
)
def test_every_parameter_is_described_in_the_help(capsys, name, words):
    out, _ = command(capsys, name, "--help")
    for said in words:
        assert said in squeezed(out)


@pytest.mark.parametrize(("flag", "chats"), [((), True), (("--chat",), True), (("--no-chat",), False)])
def test_generate_frames_the_prompt_as_the_run_did(capsys, run, flag, chats):
    out, said = command(capsys, "generate", run, "--prompt", "The dog ran.", "--tokens", 4, *flag)
    assert ("in the model's chat template" in said) == chats
    assert "The dog ran." in out
    model = load_model(str(run / "model"), chat=chats)
    plain = list(stream(model, "The dog ran.", Steering("none"), tokens=4))[-1]
    assert squeezed(plain)[:12] in squeezed(out)


def test_a_text_that_repeats_is_noted(capsys, run, monkeypatch):
    def stuck(model, prompt, steering, *rest, **options):
        yield "and" if steering.method == "none" else "joy and joy and joy and"

    monkeypatch.setattr("interp.steering.generating.stream", stuck)
    with pytest.warns(InterpWarning, match=r"repeats 'joy and'.*--strength 0\.5"):
        command(capsys, "generate", run, "--prompt", "The dog ran.")


@pytest.mark.parametrize(
    ("text", "phrase"),
    [
        ("of disgust disgust disgust", "disgust"),
        ("I was here. I was here. I was here.", "I was here."),
        ("the dog and the dog and the cat", None),
        ("", None),
    ],
)
def test_what_counts_as_repetition(text, phrase):
    assert repeats(text) == phrase


@pytest.mark.parametrize("positions", ["all", "answer"])
def test_hooks_for_a_hooked_transformer(llama, stack, tmp_path, positions):
    """The older class of TransformerLens knows the residual by its older name."""
    lens = pytest.importorskip("transformer_lens")
    steering = Steering("push", vectors=additive_steering().vectors, positions=positions)
    export(steering, llama, stack, "transformer_lens", tmp_path)
    torch.manual_seed(0)
    hooked = lens.HookedTransformer(
        lens.HookedTransformerConfig(n_layers=4, d_model=32, n_ctx=64, d_head=8, d_vocab=400, act_fn="relu")
    )
    ids = torch.tensor([[5, 90, 33, 7, 12]])
    seen = {}
    for name, hooks in (("plain", []), ("steered", loaded(tmp_path).hooks())):
        note = ("blocks.1.hook_resid_post", lambda x, hook, name=name: seen.__setitem__(name, x.clone()))
        hooked.run_with_hooks(ids, fwd_hooks=[*hooks, note])
    change = seen["steered"] - seen["plain"]
    expected = torch.zeros_like(change)
    expected[:, slice(None) if positions == "all" else slice(-1, None)] = additive_steering().vectors[1]
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=0)
    if positions == "answer":
        with pytest.raises(ValueError, match="a pass of one token may be"):
            hooked.run_with_hooks(ids[:, :1], fwd_hooks=loaded(tmp_path).hooks())
        hooked.run_with_hooks(ids[:, :1], fwd_hooks=loaded(tmp_path).hooks(prompt=1))


@pytest.mark.parametrize("positions", ["answer", "generated"])
def test_a_bridge_is_steered_where_the_prompt_ends(llama, stack, tmp_path, positions):
    """Without a cache the whole text is passed each time; the prompt's width says where it ended."""
    steering = mixed_steering(positions)
    export(steering, llama, stack, "transformer_lens", tmp_path)
    ids = torch.tensor([[5, 90, 33, 7, 12, 60, 61]])
    with torch.no_grad():
        with steering.applied(llama, stack), llama.prompted(4):
            ours = llama.hf(ids).logits
        theirs = llama.bridge.run_with_hooks(ids, fwd_hooks=loaded(tmp_path).hooks(prompt=4))
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_a_layer_with_a_vector_alone_needs_no_sae(llama, tmp_path):
    """Reliability and EXPRESS load what a steering reads, and no more."""
    from interp.surveys.steered_twin import steered_twin

    build_sae(seed=1).save_model(str(tmp_path / "saes" / "layer_01"))
    made = mixed_steering()
    facts = {
        "model": {"identity": llama.identity},
        "saes": {"name": str(tmp_path / "saes"), "force": True, "identity": "x", "covered": [1]},
    }
    gains = {1: made.gains[1]}
    Steering("test", gains, {1: torch.ones(32), 3: torch.ones(32)}, positions="answer", provenance=facts).save(tmp_path)
    twin = steered_twin(tmp_path, lambda: llama)
    assert set(twin.edits) == {1, 3}
    assert twin.steering.positions == "answer"
    assert twin.state.endswith("at answer")
