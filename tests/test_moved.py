"""What heads move from words: against values taken out of the whole model by plain hooks."""

import sys

import pytest
import torch
from hooked import hooked_variant, named
from tiny_models import LABELS, PROMPTS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from interp import capture
from interp.engine.capture import Captured
from interp.engine.components import Component, component_values
from interp.engine.moved import every_token, moved, without_words, without_words_in

HEADS = [Component(0, "head", 1), Component(2, "head", 0), Component(2, "head", 3), Component(3, "head", 2)]


@pytest.fixture
def captured(any_model) -> Captured:
    return capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)


def words_of(captured: Captured) -> list[list[list[int]]]:
    """The first token, the third with the second, and one in the middle, where the prompt is long enough."""
    return [[[0], [2, 1], *([[n // 2]] if n > 8 else [])] for n in captured.n_tokens]


def test_what_is_moved_from_all_tokens_is_what_a_head_gathers(any_model, captured):
    own = [[[*range(n)]] for n in captured.n_tokens]
    found = moved(any_model, captured, HEADS, own)[:, 0]
    values = component_values(any_model, None, captured, HEADS)
    for k, head in enumerate(HEADS):
        torch.testing.assert_close(found[:, k], values[head], atol=1e-4, rtol=0)


def test_what_is_moved_from_words_adds_up(any_model, captured):
    tokens = moved(any_model, captured, HEADS, every_token(captured))
    words = moved(any_model, captured, HEADS, words_of(captured))
    torch.testing.assert_close(words[2, 1], tokens[2, 1] + tokens[2, 2], atol=1e-5, rtol=0)
    assert words[3, 2].abs().max() == 0 if len(words_of(captured)[3]) < 3 else True


@torch.no_grad()
def deafened(model, prompt: str, tokens: list[int], monkeypatch, layers: list[int]) -> torch.Tensor:
    """Whole passes whose last query gets nothing of some tokens' values; what it attends to stays as it was."""
    ids = torch.tensor([model.encode([prompt])[0].ids])
    usual = model.backbone.config._attn_implementation
    family = sys.modules[type(model.part(("attention", 0))).__module__]
    eager = family.eager_attention_forward if usual == "eager" else ALL_ATTENTION_FUNCTIONS[usual]

    def without(module, query, key, value, *arguments, **options):
        output, weights = eager(module, query, key, value, *arguments, **options)
        silent = value.clone()
        silent[:, :, tokens] = 0
        deaf, _ = eager(module, query, key, silent, *arguments, **options)
        if module.layer_idx in layers:
            output = torch.cat([output[:, :-1], deaf[:, -1:]], dim=1)
        return output, weights

    ALL_ATTENTION_FUNCTIONS.register("deaf", without)
    model.backbone.config._attn_implementation = "deaf"
    mask = torch.full((ids.shape[1],) * 2, float("-inf")).triu(1)[None, None]
    try:
        window = getattr(model.backbone.config, "sliding_window", None)
        far = torch.arange(ids.shape[1])[:, None] - torch.arange(ids.shape[1]) >= (window or 10**9)
        near = mask.masked_fill(far, float("-inf"))
        both = {"full_attention": mask, "sliding_attention": near} if model.architecture.masks_by_type else near
        position = torch.arange(ids.shape[1])[None]
        with model.recorded([model.n_layers - 1]) as seen:
            model.backbone(input_ids=ids, attention_mask=both, position_ids=position, use_cache=False)
    finally:
        model.backbone.config._attn_implementation = usual
    residual = seen[model.n_layers - 1][0, -1]
    return capture_answers(model).score(model, residual[None, None])[0]


def capture_answers(model):
    from interp.models.answers import LabelTokens

    return LabelTokens.after(model, PROMPTS[0], LABELS)


def test_without_a_word_in_a_head_equals_plain_hooks(any_model, stack, captured):
    words = words_of(captured)
    found = without_words_in(any_model, captured, HEADS, words)
    parts = moved(any_model, captured, HEADS, words)
    for i, prompt in enumerate(PROMPTS):
        for w in range(len(words[i])):
            for k, head in enumerate(HEADS):
                value = component_values(any_model, None, captured, [head])[head][i] - parts[i, w, k]
                expected = hooked_variant(any_model, stack, prompt, {head: value}, LABELS)
                torch.testing.assert_close(found[i, w, k], expected, atol=1e-4, rtol=0)


def test_without_a_word_equals_a_pass_that_does_not_hear_it(any_model, captured, monkeypatch):
    words = words_of(captured)
    found = without_words(any_model, captured, words)
    for i, prompt in enumerate(PROMPTS):
        for w, tokens in enumerate(words[i]):
            expected = deafened(any_model, prompt, tokens, monkeypatch, [*range(any_model.n_layers)])
            torch.testing.assert_close(found[i, w], expected, atol=1e-4, rtol=0)
        for w in range(len(words[i]), found.shape[1]):
            torch.testing.assert_close(found[i, w], captured.answer_logits[i], atol=1e-4, rtol=0)


def test_the_answer_position_is_no_word(llama):
    captured = capture(llama, PROMPTS[:1], answers=LABELS, keep_cache=True)
    with pytest.raises(ValueError, match="answer position"):
        without_words(llama, captured, [[[captured.n_tokens[0] - 1]]])
    with pytest.raises(ValueError, match="only heads"):
        moved(llama, captured, [Component(1, "mlp")], [[[0]]])
    assert named(llama, "head", 0) is llama.part(("heads", 0))
