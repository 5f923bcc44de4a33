"""Exactness: every shortcut of the engine against the whole model, run one prompt and one edit at a time."""

import sys

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_models import FAMILIES, LABELS, PROMPTS, build_model, build_sae

from interp import capture
from interp.engine import (
    EngineError,
    FeatureEdits,
    ablate,
    ablate_everywhere,
    ablate_jointly,
    answer_gradients,
    attribute,
    edited_logits,
    patch,
)
from interp.errors import InterpWarning, UserError
from interp.models.answers import Answers
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.texts.prompts import Prompt


@torch.no_grad()
def brute_force(model: LanguageModel, prompt: str, layer: int, edit) -> torch.Tensor:
    """Answer logits of the whole, unpadded model with the last position's residual after `layer` edited."""

    def at_last(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, -1] = edit(x[:, -1])
        return x

    ids = torch.tensor([model.encode([prompt])[0].ids])
    with model.edited({layer: at_last}):
        logits = model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
    return logits[Answers.of(model, [f" {x}" for x in LABELS]).first]


def test_capture_equals_the_model(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS)
    for i, prompt in enumerate(PROMPTS):
        expected = brute_force(any_model, prompt, 0, lambda x: x)
        torch.testing.assert_close(captured.answer_logits[i], expected, atol=1e-4, rtol=0)


def test_batched_equals_single(any_model):
    together = capture(any_model, PROMPTS, answers=LABELS)
    for i, prompt in enumerate(PROMPTS):
        alone = capture(any_model, [prompt], answers=LABELS)
        torch.testing.assert_close(together.residuals[:, i], alone.residuals[:, 0], atol=1e-4, rtol=0)


@pytest.mark.parametrize("rows_in_flight", [2, 7, 1024])
def test_edits_equal_brute_force(any_model, stack, rows_in_flight):
    """Edits of several layers in one sweep, in an order of their own, with windows shorter than the prompts."""
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    example = torch.tensor([3, 0, 2, 2, 4, 2, 0, 1, 2, 2, 4])
    layer = torch.tensor([0, 1, 3, 0, 2, 2, 1, 3, 0, 0, 1])
    feature = torch.tensor([5, 9, 60, 1, 33, 33, 2, 7, 8, 1, 40])
    changes = torch.randn(len(example), generator=torch.Generator().manual_seed(0)) * 3
    edits = FeatureEdits(layer, example, feature, changes)
    found = edited_logits(any_model, stack, captured, edits, rows_in_flight=rows_in_flight)
    for row, (k, e, f, c) in enumerate(zip(layer.tolist(), example.tolist(), feature.tolist(), changes, strict=True)):
        change = c * stack.directions(k)[f]
        expected = brute_force(any_model, PROMPTS[e], k, lambda x, change=change: x + change)
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=0)


def test_patching_inserts_another_examples_features(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    acts = stack.encode(1, captured.residuals[1])
    features = acts[2].topk(4).indices.tolist()
    values = acts[2, features].expand(5, 4)
    found = patch(any_model, stack, captured, layer=1, features=features, values=values)
    for i, prompt in enumerate(PROMPTS):
        change = (values[i] - acts[i, features]) @ stack.directions(1)[features]
        expected = brute_force(any_model, prompt, 1, lambda x, change=change: x + change)
        torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found[2], captured.answer_logits[2], atol=1e-4, rtol=0)


@pytest.mark.parametrize("tokens_in_flight", [10, 4096])
@pytest.mark.parametrize("layer", [0, 2, 3])
def test_ablation_at_all_positions_equals_brute_force(any_model, stack, layer, tokens_in_flight):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True, everywhere=[layer])
    example = torch.tensor([0, 2, 2, 4, 1, 2, 3, 0])
    feature = torch.tensor([3, 8, 50, 21, 60, 13, 8, 40])
    found = ablate_everywhere(
        any_model, stack, captured, layer=layer, example=example, feature=feature, tokens_in_flight=tokens_in_flight
    )
    for row, (e, f) in enumerate(zip(example.tolist(), feature.tolist(), strict=True)):

        def without(x, f=f):
            acts = stack.encode(layer, x)[..., f, None]
            acts[:, 0] = 0
            return x - acts * stack.directions(layer)[f]

        ids = torch.tensor([any_model.encode([PROMPTS[e]])[0].ids])
        with torch.no_grad(), any_model.edited({layer: without}):
            logits = any_model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        torch.testing.assert_close(found[row], logits[captured.answers.first], atol=1e-4, rtol=0)


def short_of_memory(monkeypatch, module, name: str, most: int, size_of) -> list[int]:
    """Lets `module.name` fail as torch does where more than `most` is asked of it; returns the sizes it saw."""
    original, sizes = getattr(module, name), []

    def small_machine(*args, **options):
        sizes.append(size_of(*args))
        if sizes[-1] > most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return original(*args, **options)

    monkeypatch.setattr(module, name, small_machine)
    return sizes


def test_running_out_of_memory_halves_the_rows_and_goes_on(llama, stack, monkeypatch):
    from interp.engine import Suffix

    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    n = 40
    edits = FeatureEdits(torch.full((n,), 1), torch.arange(n) % 5, torch.arange(n), torch.ones(n))
    expected = edited_logits(llama, stack, captured, edits)
    sizes = short_of_memory(
        monkeypatch, Suffix, "scores", 12, lambda suffix, rows: sum(x[..., 0].numel() for x in rows.values())
    )
    with pytest.warns(InterpWarning, match="rows in flight"):
        found = edited_logits(llama, stack, captured, edits)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert max(sizes) > 12 >= sizes[-1]


def test_running_out_of_memory_halves_the_prompts_of_a_pass(llama, monkeypatch):
    expected = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    sizes = short_of_memory(
        monkeypatch, sys.modules["interp.engine.capture"], "pass_prompts", 2, lambda model, tokens, *_: len(tokens.ids)
    )
    with pytest.warns(InterpWarning, match="2 prompts a pass"):
        found = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    torch.testing.assert_close(found.residuals, expected.residuals, atol=1e-4, rtol=0)
    assert max(sizes) > 2 >= sizes[-1] and sorted(e for c in found.caches for e in c.examples) == list(range(5))


def test_running_out_of_memory_halves_the_tokens_in_flight(llama, stack, monkeypatch):
    from interp.engine import Suffix

    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True, everywhere=[1])
    example, feature = torch.full((20,), 2), torch.arange(20)
    ask = {"layer": 1, "example": example, "feature": feature}
    expected = ablate_everywhere(llama, stack, captured, **ask)
    sizes = short_of_memory(monkeypatch, Suffix, "scores_from", 150, lambda suffix, rows, k: rows[..., 0].numel())
    with pytest.warns(InterpWarning, match="tokens in flight"):
        found = ablate_everywhere(llama, stack, captured, **ask)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)
    assert max(sizes) > 150 >= sizes[-1]


def test_ablation_removes_activation_times_direction(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    acts = stack.encode(1, captured.residuals[1])
    features = acts.sum(0).topk(5).indices.tolist()
    found = ablate(any_model, stack, captured, layer=1, features=features)
    for i, prompt in enumerate(PROMPTS):
        for j, feature in enumerate(features):
            change = acts[i, feature] * stack.directions(1)[feature]
            expected = brute_force(any_model, prompt, 1, lambda x, change=change: x - change)
            torch.testing.assert_close(found[i, j], expected, atol=1e-4, rtol=0)


def test_inactive_features_change_nothing(llama, stack):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    acts = stack.encode(2, captured.residuals[2])
    silent = (acts.sum(0) == 0).nonzero()[:3, 0].tolist()
    assert silent
    found = ablate(llama, stack, captured, layer=2, features=silent)
    assert torch.equal(found, captured.answer_logits[:, None].expand_as(found))


def test_joint_ablation_over_layers_equals_brute_force(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    sets = {k: stack.encode(k, captured.residuals[k]).sum(0).topk(4).indices.tolist() for k in (0, 2)}
    found = ablate_jointly(any_model, stack, captured, sets)

    def without(layer):
        def edit(x):
            x = x.clone()
            last = x[:, -1]
            x[:, -1] = last - stack.encode(layer, last)[:, sets[layer]] @ stack.directions(layer)[sets[layer]]
            return x

        return edit

    for i, prompt in enumerate(PROMPTS):
        ids = torch.tensor([any_model.encode([prompt])[0].ids])
        with torch.no_grad(), any_model.edited({k: without(k) for k in sets}):
            logits = any_model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
        torch.testing.assert_close(found[i], logits[captured.answers.first], atol=1e-4, rtol=0)


few = settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@few
@given(
    family=st.sampled_from(FAMILIES),
    rows=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 63)), min_size=1, max_size=12),
    rows_in_flight=st.integers(2, 40),
)
def test_editing_nothing_is_the_identity(models_by_family, stack, family, rows, rows_in_flight):
    model = models_by_family[family]
    captured = capture(model, PROMPTS, answers=LABELS, keep_cache=True)
    layer, example, feature = torch.tensor(rows).T
    edits = FeatureEdits(layer, example, feature, torch.zeros(len(rows)))
    found = edited_logits(model, stack, captured, edits, rows_in_flight=rows_in_flight)
    torch.testing.assert_close(found, captured.answer_logits[example], atol=1e-4, rtol=0)
    own = stack.encode(int(layer[0]), captured.residuals[layer[0]])[:, feature.unique()]
    same = patch(model, stack, captured, layer=int(layer[0]), features=feature.unique().tolist(), values=own)
    torch.testing.assert_close(same, captured.answer_logits, atol=1e-4, rtol=0)


@few
@given(order=st.permutations(range(5)), layer=st.integers(0, 3))
def test_batch_composition_does_not_matter(llama, stack, order, layer):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    shuffled = capture(llama, [PROMPTS[i] for i in order], answers=LABELS, keep_cache=True, tokens_per_batch=60)
    feature, change = torch.arange(5) * 7, torch.linspace(-4, 4, 5)
    one = edited_logits(llama, stack, captured, FeatureEdits(torch.full((5,), layer), torch.arange(5), feature, change))
    same = FeatureEdits(torch.full((5,), layer), torch.arange(5), feature[list(order)], change[list(order)])
    other = edited_logits(llama, stack, shuffled, same)
    torch.testing.assert_close(one[list(order)], other, atol=1e-4, rtol=0)


def test_the_order_of_joint_ablation_does_not_matter(llama, stack):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    top = stack.encode(1, captured.residuals[1]).sum(0).topk(4).indices.tolist()
    one = ablate_jointly(llama, stack, captured, {1: top})
    torch.testing.assert_close(one, ablate_jointly(llama, stack, captured, {1: top[::-1]}), atol=1e-5, rtol=0)


def test_attribution_is_the_gradient(any_model, stack):
    """The first-order effect equals the exact effect of an edit small enough."""
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    targets = torch.tensor([0, 1, 2, 3, 4])
    found = attribute(any_model, stack, captured, layer=1, targets=targets)
    gradients = answer_gradients(any_model, captured, targets)
    step, feature = 0.02, torch.arange(5) * 11
    up, down = (
        edited_logits(
            any_model,
            stack,
            captured,
            FeatureEdits(torch.ones(5, dtype=torch.long), torch.arange(5), feature, torch.full((5,), s * step)),
        ).log_softmax(-1)
        for s in (1, -1)
    )
    slope = (up - down).gather(1, targets[:, None])[:, 0] / (2 * step)
    torch.testing.assert_close((gradients[1] * stack.directions(1)[feature]).sum(-1), slope, atol=2e-2, rtol=2e-2)
    acts = stack.encode(1, captured.residuals[1])
    torch.testing.assert_close(found, acts * (gradients[1] @ stack.directions(1).T), atol=1e-6, rtol=1e-4)


def test_a_disturbed_engine_aborts(llama, stack):
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    captured.caches[0].values[3].mul_(1.5)
    with pytest.raises(EngineError, match="without an edit"):
        ablate(llama, stack, captured, layer=1, features=list(range(64)))


def test_hooks_vanish_after_an_exception(llama):
    before = capture(llama, PROMPTS, answers=LABELS).answer_logits
    with pytest.raises(RuntimeError, match="stop"), llama.edited({1: lambda x: x + 1}):
        raise RuntimeError("stop")
    assert torch.equal(before, capture(llama, PROMPTS, answers=LABELS).answer_logits)


def test_a_layer_the_model_lacks_is_refused(llama):
    with pytest.raises(UserError, match="layers 0 to 3; got layer 9"), llama.edited({9: lambda x: x}):
        pass


@torch.no_grad()
def test_what_is_recorded_is_what_edits_left(any_model):
    """Blocks, attention and MLP through one editor and one recorder; a block adds what its parts put out."""
    tokens = any_model.pad(any_model.encode(PROMPTS))
    sites = [-1, 0, 1, ("input_norm", 1), ("attention", 1), ("mlp", 1)]
    with any_model.recorded([1]) as unedited:
        any_model.run(tokens)
    with any_model.edited({("mlp", 1): torch.zeros_like}), any_model.recorded(sites) as seen:
        any_model.run(tokens)
    assert set(seen) == set(sites) and all(x.shape == seen[0].shape for x in seen.values())
    assert not seen["mlp", 1].any() and not torch.equal(seen[1], unedited[1])
    if not any_model.name.startswith("gemma"):  # which norms what its parts put out
        torch.testing.assert_close(seen[1], seen[0] + seen["attention", 1])
    with any_model.recorded([3], lambda x: x[:, -1]) as last, pytest.raises(UserError, match="got layer 4"):
        any_model.run(tokens)
        any_model.part(("mlp", 4))
    assert last[3].shape == (len(PROMPTS), any_model.d_model)


def test_a_model_that_is_built_otherwise_is_refused(tokenizer):
    model = build_model("llama", tokenizer)
    model.architecture = model.architecture._replace(input_norm="post_attention_layernorm")
    with pytest.raises(UserError, match="layer 0 is not built as those of other LlamaForCausalLM"):
        model.verify()


def test_answers_that_no_token_tells_apart_are_refused(llama):
    with pytest.raises(UserError, match=r"' joy' and ' joy' have the same tokens"):
        Answers.of(llama, [" joy", " fear", " joy"])


def test_a_long_text_is_cut_from_its_left_and_the_question_stays(llama):
    from interp.texts.prompts import build_prompts

    prompt = build_prompts(["The rain. " * 200 + "It stopped."], LABELS)[0]
    encoded = llama.encode([prompt])[0]
    text = llama.tokenizer.decode(encoded.ids)
    assert len(encoded.ids) <= llama.context and encoded.cut > 0
    assert text.startswith("<|endoftext|>Text:") and text.endswith("It stopped.\nEmotion:")


@pytest.mark.parametrize("text", ["🤢" * 300, "a" + "🤢" * 300, "🤢 rain " * 200])
def test_characters_of_several_tokens_are_cut_whole(llama, text):
    prompt = Prompt("Text: ", text, "\nEmotion:")
    encoded = llama.encode([prompt])[0]
    kept = llama.tokenizer.decode(encoded.ids)
    assert encoded.cut > 0 and len(encoded.ids) <= llama.context
    assert "\ufffd" not in kept and kept.endswith("\nEmotion:") and "🤢" in kept


@pytest.mark.parametrize(
    "sae",
    [
        build_sae("standard"),
        build_sae("gated"),
        build_sae("jumprelu"),
        build_sae("topk"),
        build_sae("topk", rescale_acts_by_decoder_norm=True),
        build_sae("standard", normalize_activations="layer_norm"),
        build_sae("topk", normalize_activations="constant_norm_rescale"),
    ],
    ids=["standard", "gated", "jumprelu", "topk", "topk_rescaled", "layer_norm", "constant_norm"],
)
def test_contribution_is_a_difference_of_two_decodes(sae):
    stack = SaeStack({0: sae}, "test", "test")
    x = torch.randn(6, 32, generator=torch.Generator().manual_seed(3)) * 3
    acts = stack.encode(0, x)
    assert (acts >= 0).all() and (acts > 0).any()
    own = sae.encode(x)
    whole = sae.decode(own)
    feature = int(acts.sum(0).argmax())
    own = sae.encode(x)
    own[:, feature] = 0
    without = sae.decode(own)
    expected = acts[:, feature, None] * stack.directions(0)[feature]
    torch.testing.assert_close(whole - without, expected, atol=1e-4, rtol=1e-4)
    assert np.isfinite(expected.numpy()).all()
