"""A steering in other tools' formats does there what it does here."""

import sys

import pytest
import torch
from steerings import additive_steering, mixed_steering
from tiny_models import PROMPTS, build_sae
from transformers import AutoModelForCausalLM

from interp.errors import UserError
from interp.saes.stack import SaeStack
from interp.steering import Steering
from interp.steering.export import export, loaded
from interp.steering.generating import stream


def batch(model):
    tokens = model.pad(model.encode(PROMPTS[:3]))
    return {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}, tokens.mask


@pytest.mark.parametrize(
    ("architecture", "positions"), [("topk", "answer"), ("jumprelu", "generated"), ("standard", "all")]
)
def test_the_loader_that_travels_steers_a_plain_transformers_model(any_model, tmp_path, architecture, positions):
    saes = SaeStack({k: build_sae(architecture, seed=k) for k in range(4)}, "test", "test:saes")
    steering = mixed_steering(positions)
    export(steering, any_model, saes, "hf", tmp_path)
    inputs, mask = batch(any_model)
    with torch.no_grad():
        plain = any_model.hf(**inputs).logits[mask]
        with steering.applied(any_model, saes):
            ours = any_model.hf(**inputs).logits[mask]
        with loaded(tmp_path).steered(any_model.hf):
            theirs = any_model.hf(**inputs).logits[mask]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    assert (ours - plain).abs().max() > 0.05
    assert "interp" not in (tmp_path / "portable.py").read_text()
    assert len({file.stat().st_mode for file in tmp_path.iterdir()}) == 1


def test_hooks_for_a_bridge(llama, stack, tmp_path):
    export(mixed_steering(), llama, stack, "transformer_lens", tmp_path)
    inputs, _ = batch(llama)
    ids = inputs["input_ids"][:1, inputs["attention_mask"][0] == 1]
    with torch.no_grad():
        with mixed_steering().applied(llama, stack):
            ours = llama.hf(ids).logits
        theirs = llama.bridge.run_with_hooks(ids, fwd_hooks=loaded(tmp_path).hooks())
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_the_file_of_the_harness_holds_one_vector_per_module(any_model, stack, tmp_path):
    """Read and applied as its steered model does: by names relative to `base_model`, added at every position."""
    path = export(additive_steering(), any_model, stack, "lm-eval", tmp_path)
    entries = torch.load(path, weights_only=True)
    modules = dict(any_model.hf.base_model.named_modules())
    handles = []
    for name, entry in entries.items():
        push = entry["steering_vector"] * entry["steering_coefficient"]

        def add(module, inputs, output, push=push):
            return (output[0] + push, *output[1:]) if isinstance(output, tuple) else output + push

        handles.append(modules[name].register_forward_hook(add))
    inputs, mask = batch(any_model)
    with torch.no_grad():
        theirs = any_model.hf(**inputs).logits[mask]
        for handle in handles:
            handle.remove()
        with additive_steering().applied(any_model, stack):
            ours = any_model.hf(**inputs).logits[mask]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)


def test_the_control_vector_reads_back(llama, stack, tmp_path):
    gguf = pytest.importorskip("gguf")
    reader = gguf.GGUFReader(str(export(additive_steering(), llama, stack, "gguf", tmp_path)))
    found = {t.name: torch.tensor(t.data.copy()) for t in reader.tensors}
    assert set(found) == {"direction.1", "direction.3"}
    for layer, vector in additive_steering().vectors.items():
        torch.testing.assert_close(found[f"direction.{layer}"], vector)
    assert reader.fields["general.architecture"].contents() == "controlvector"


def test_gguf_missing_is_one_line(llama, stack, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(UserError, match="pip install gguf"):
        export(additive_steering(), llama, stack, "gguf", tmp_path)


@pytest.mark.parametrize(
    ("steering", "to", "words"),
    [
        (mixed_steering(), "lm-eval", "depends on the input"),
        (mixed_steering(), "gguf", "depends on the input"),
        (Steering("none"), "hf", "leaves the model alone"),
        (additive_steering(), "onnx", "Unknown format"),
        (Steering("additive", vectors={0: torch.ones(32)}), "gguf", "layer 0"),
        (Steering("additive", vectors={1: torch.ones(32)}, positions="answer"), "lm-eval", "every position"),
        (Steering("additive", vectors={9: torch.ones(32)}), "hf", "layer 9"),
        (Steering("additive", vectors={1: torch.ones(31)}), "hf", "width"),
    ],
)
def test_what_a_format_cannot_say_is_refused(llama, stack, tmp_path, steering, to, words):
    with pytest.raises(UserError, match=words):
        export(steering, llama, stack, to, tmp_path)


def test_a_gated_sae_has_no_portable_form(llama, tmp_path):
    saes = SaeStack({k: build_sae("gated", seed=k) for k in range(4)}, "test", "test:saes")
    with pytest.raises(UserError, match="no portable form"):
        export(mixed_steering(), llama, saes, "hf", tmp_path)


def test_positions_in_generation(llama, stack):
    """`answer` touches the prompt's last token only; `generated` that and every new one; `all` everything."""
    inputs, _ = batch(llama)
    seen: dict[str, list[torch.Tensor]] = {}
    for where in ("answer", "generated", "all"):
        moved = seen.setdefault(where, [])
        before: list[torch.Tensor] = []
        with (
            llama.edited({1: lambda x, before=before: before.append(x.clone())}),
            additive_steering().applied(llama, stack, positions=where),
            llama.edited({1: lambda x, before=before, moved=moved: moved.append((x - before[-1]).norm(dim=-1)[0] > 0)}),
        ):
            llama.hf.generate(**inputs, max_new_tokens=3, do_sample=False, pad_token_id=1)
    width = inputs["input_ids"].shape[1]
    first = {where: moves[0].sum().item() for where, moves in seen.items()}
    later = {where: [m.sum().item() for m in moves[1:]] for where, moves in seen.items()}
    assert first == {"answer": 1, "generated": 1, "all": width}
    assert set(later["answer"]) == {0}
    assert set(later["generated"]) == set(later["all"]) == {1}


def test_steerings_compose(llama, stack):
    one, other = (Steering("additive", vectors={1: v}) for v in (torch.ones(32), torch.arange(32.0)))
    both = Steering("additive", vectors={1: torch.ones(32) + torch.arange(32.0)})
    inputs, mask = batch(llama)
    with torch.no_grad():
        with one.applied(llama), other.applied(llama):
            nested = llama.hf(**inputs).logits[mask]
        with both.applied(llama):
            together = llama.hf(**inputs).logits[mask]
    torch.testing.assert_close(nested, together, atol=1e-4, rtol=1e-4)


def test_streamed_text_is_that_of_generate(llama, stack):
    prompt = PROMPTS[0]
    ids = torch.tensor([llama.tokenizer(prompt)["input_ids"]])
    with mixed_steering().applied(llama, stack):
        out = llama.hf.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=1
        )
    new = out[0, ids.shape[1] :]
    new = new[: (new == 0).nonzero()[0, 0]] if (new == 0).any() else new
    assert (
        list(stream(llama, prompt, mixed_steering(), stack, tokens=8))[-1:] == [llama.tokenizer.decode(new)][: len(new)]
    )


@pytest.mark.parametrize(("prompt", "words"), [("  ", "empty"), ("rain " * 200, "context")])
@pytest.mark.filterwarnings("ignore::interp.errors.InterpWarning")  # a blank at the end
def test_prompts_that_cannot_be_continued(llama, stack, prompt, words):
    with pytest.raises(UserError, match=words):
        next(stream(llama, prompt, Steering("none"), stack))


def test_a_strength_that_is_no_number():
    with pytest.raises(UserError, match="finite"):
        mixed_steering().scaled(float("nan"))


def test_exported_folders_need_no_interp(llama, stack, tmp_path):
    """The loader on a model saved and loaded by transformers alone."""
    export(mixed_steering(), llama, stack, "hf", tmp_path / "steering")
    llama.hf.save_pretrained(tmp_path / "model")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    inputs, mask = batch(llama)
    with torch.no_grad():
        with loaded(tmp_path / "steering").steered(plain):
            theirs = plain(**inputs).logits[mask]
        with mixed_steering().applied(llama, stack):
            ours = llama.hf(**inputs).logits[mask]
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
