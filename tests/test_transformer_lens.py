"""An independent witness: TransformerLens' `TransformerBridge` on the same weights, one prompt at a time."""

import pytest
import torch
from tiny_models import FAMILIES, LABELS, PROMPTS, build_model

from interp import capture
from interp.engine import FeatureEdits, ablate, ablate_everywhere, ablate_jointly, edited_logits
from interp.errors import UserError
from interp.models.answers import Answers
from interp.models.language_model import LanguageModel


@pytest.fixture(params=[f for f in FAMILIES if f != "gemma3_vision"])  # its bridge asks the hub for a processor
def any_model(request, models_by_family) -> LanguageModel:
    return models_by_family[request.param]


@torch.no_grad()
def witness(model: LanguageModel, prompt: str, edits: dict, *, everywhere: bool = False) -> torch.Tensor:
    """Answer logits of the bridge, unpadded, with residuals replaced at the answer position or at all but the first."""

    def hook_of(edit):
        def hook(x, hook):
            x = x.clone()
            at = slice(1, None) if everywhere else slice(-1, None)
            x[:, at] = edit(x[:, at])
            return x

        return hook

    ids = torch.tensor([model.encode([prompt])[0].ids])
    hooks = [(f"blocks.{layer}.hook_out", hook_of(edit)) for layer, edit in edits.items()]
    logits = model.bridge.run_with_hooks(ids, attention_mask=torch.ones_like(ids), fwd_hooks=hooks)[0, -1]
    return logits[Answers.of(model, [f" {x}" for x in LABELS]).first]


def without(stack, layer, features):
    return lambda x: x - stack.encode(layer, x)[..., features] @ stack.directions(layer)[features]


def test_residuals_are_the_bridges(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS)
    for i, prompt in enumerate(PROMPTS):
        seen = {}

        def note(layer, seen=seen):
            return lambda x: seen.setdefault(layer, x[0].clone())[None]

        witness(any_model, prompt, {k: note(k) for k in range(any_model.n_layers)})
        for layer, residual in seen.items():
            torch.testing.assert_close(captured.residuals[layer, i], residual[-1], atol=1e-4, rtol=0)


@pytest.mark.parametrize("batch", [1, len(PROMPTS)])
def test_single_ablations_are_the_bridges(any_model, stack, batch):
    captured = capture(any_model, PROMPTS[-batch:], answers=LABELS, keep_cache=True)
    for layer in range(any_model.n_layers):
        features = stack.encode(layer, captured.residuals[layer]).sum(0).topk(3).indices.tolist()
        found = ablate(any_model, stack, captured, layer=layer, features=features)
        for i, prompt in enumerate(PROMPTS[-batch:]):
            for j, feature in enumerate(features):
                expected = witness(any_model, prompt, {layer: without(stack, layer, [feature])})
                torch.testing.assert_close(found[i, j], expected, atol=1e-4, rtol=0)


def test_joint_ablations_are_the_bridges(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    sets = {k: stack.encode(k, captured.residuals[k]).sum(0).topk(4).indices.tolist() for k in (0, 1, 3)}
    found = ablate_jointly(any_model, stack, captured, sets)
    for i, prompt in enumerate(PROMPTS):
        expected = witness(any_model, prompt, {k: without(stack, k, f) for k, f in sets.items()})
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=0)


def test_ablations_at_all_positions_are_the_bridges(any_model, stack):
    layer = 1
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True, everywhere=[layer])
    example, feature = torch.tensor([0, 2, 2, 4, 3]), torch.tensor([3, 8, 50, 21, 40])
    found = ablate_everywhere(any_model, stack, captured, layer=layer, example=example, feature=feature)
    for row, (e, f) in enumerate(zip(example.tolist(), feature.tolist(), strict=True)):
        expected = witness(any_model, PROMPTS[e], {layer: without(stack, layer, [f])}, everywhere=True)
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", ["gemma2", "gpt2", "qwen3"])
def test_in_half_precision_the_engine_is_as_exact_as_the_whole_model(tokenizer, stack, family):
    """Against float32, edits in bfloat16 err no more than the whole bfloat16 model, edited by hook, does."""
    exact, half = (build_model(family, tokenizer, dtype=d) for d in (torch.float32, torch.bfloat16))
    generator = torch.Generator().manual_seed(0)
    example = torch.arange(5).repeat(4)
    layer, feature = torch.arange(4).repeat_interleave(5), torch.randint(64, (20,), generator=generator)
    edits = FeatureEdits(layer, example, feature, torch.randn(20, generator=generator))

    def by_engine(model):
        return edited_logits(model, stack, capture(model, PROMPTS, answers=LABELS, keep_cache=True), edits)

    def by_hook(model, row):
        change = edits.change[row] * stack.directions(int(layer[row]))[feature[row]]

        def edit(x):
            x = x.clone()
            x[:, -1] += change.to(x.dtype)
            return x

        ids = torch.tensor([model.encode([PROMPTS[int(example[row])]])[0].ids])
        with torch.no_grad(), model.edited({int(layer[row]): edit}):
            logits = model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        return logits[Answers.of(model, [f" {x}" for x in LABELS]).first].float()

    truth = by_engine(exact)
    ours = (by_engine(half) - truth).abs()
    theirs = (torch.stack([by_hook(half, row) for row in range(20)]) - truth).abs()
    assert 0 < ours.mean() < 1.5 * theirs.mean() and ours.max() < 2 * theirs.max()


def test_a_wrapped_model_is_refused_with_the_way_out(tokenizer):
    from transformer_lens.model_bridge import TransformerBridge

    plain = build_model("llama", tokenizer)
    TransformerBridge.boot_transformers("llama", hf_model=plain.hf, tokenizer=tokenizer, device="cpu")
    with pytest.raises(UserError, match=r"wrapped by TransformerLens.*load it anew"):
        LanguageModel(plain.hf, tokenizer, "wrapped", "test")


def test_an_unknown_architecture_is_refused_by_name(tokenizer):
    import transformers as tf

    config = tf.OPTConfig(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, ffn_dim=64, word_embed_proj_dim=32
    )
    with pytest.raises(UserError, match=r"OPTForCausalLM is not supported; supported: GPT2LMHeadModel"):
        LanguageModel(tf.AutoModelForCausalLM.from_config(config), tokenizer, "opt", "test")
