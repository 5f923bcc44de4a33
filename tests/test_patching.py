"""Patching from prompt to prompt against plain hooks on whole passes."""

import pytest
import torch
from hooked import named
from tiny_models import LABELS, PROMPTS

from interp import capture
from interp.engine.patching import Patch, patched_answers, prompt_ends
from interp.errors import UserError
from interp.models.answers import Answers

SOURCES = [2, 3, 4, 0, 1]
"""Whose values go into each prompt."""
PATCHES = [
    Patch("residual", 1, 1),
    Patch("attention", 0, 0),
    Patch("mlp", 3, 3),
    Patch("attention", 1, 3),
    Patch("mlp", 0, 2),
    Patch("residual", 0, 0, (-3,)),
    Patch("attention", 0, 3, (-4, -2)),
    Patch("mlp", 2, 3, (-1, -2, -3)),
    Patch("residual", 2, 3, (-2,)),
]


def place(model, part: str, layer: int):
    return named(model, {"residual": "feature"}.get(part, part), layer)


@torch.no_grad()
def by_hooks(model, target: str, source: str, patch: Patch) -> torch.Tensor:
    """Two whole passes: what the source's modules put out, put out by the target's."""
    ids = {name: torch.tensor([model.encode([p])[0].ids]) for name, p in (("target", target), ("source", source))}
    held: dict = {}
    layers = range(patch.first, patch.last + 1)
    first = lambda o: o[0] if isinstance(o, tuple) else o  # noqa: E731
    handles = [
        place(model, patch.part, k).register_forward_hook(lambda m, a, o, k=k: held.update({k: first(o).clone()}))
        for k in layers
    ]
    model.hf(input_ids=ids["source"], attention_mask=torch.ones_like(ids["source"]))
    for handle in handles:
        handle.remove()

    def put(m, a, o, k):
        new = first(o).clone()
        for position in patch.positions:
            new[:, position] = held[k][:, position]
        return (new, *o[1:]) if isinstance(o, tuple) else new

    handles = [place(model, patch.part, k).register_forward_hook(lambda m, a, o, k=k: put(m, a, o, k)) for k in layers]
    try:
        logits = model.hf(input_ids=ids["target"], attention_mask=torch.ones_like(ids["target"])).logits[0, -1]
    finally:
        for handle in handles:
            handle.remove()
    return logits[Answers.of(model, [f" {x}" for x in LABELS]).first]


def test_patches_equal_plain_hooks(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    encoded = any_model.encode(PROMPTS)
    targets, sources = prompt_ends(any_model, encoded, 4), prompt_ends(any_model, [encoded[i] for i in SOURCES], 4)
    found = patched_answers(any_model, captured, targets, sources, PATCHES)
    for i, source in enumerate(SOURCES):
        for k, patch in enumerate(PATCHES):
            expected = by_hooks(any_model, PROMPTS[i], PROMPTS[source], patch)
            torch.testing.assert_close(found[i, k], expected, atol=1e-4, rtol=0)


def test_a_prompt_patched_into_itself_is_itself_and_the_last_residual_is_the_sources_answer(any_model):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    encoded = any_model.encode(PROMPTS)
    ends = prompt_ends(any_model, encoded, 4)
    for logits in patched_answers(any_model, captured, ends, ends, PATCHES).unbind(1):
        torch.testing.assert_close(logits, captured.answer_logits, atol=1e-4, rtol=0)
    sources = prompt_ends(any_model, [encoded[i] for i in SOURCES], 1)
    last = any_model.n_layers - 1
    found = patched_answers(any_model, captured, ends, sources, [Patch("residual", last, last)])[:, 0]
    torch.testing.assert_close(found, captured.answer_logits[SOURCES], atol=1e-4, rtol=0)


def test_words_scored_whole_are_patched_too(llama):
    from whole_passes import WORDS, word_log_probs

    prompts = PROMPTS[:2]
    captured = capture(llama, prompts, answers=WORDS, keep_cache=True)
    encoded = llama.encode(prompts)
    ends, sources = prompt_ends(llama, encoded, 2), prompt_ends(llama, encoded[::-1], 2)
    found = patched_answers(llama, captured, ends, sources, [Patch("residual", 1, 1, (-2, -1))])[:, 0].log_softmax(-1)
    for i, prompt in enumerate(prompts):

        def put(x, i=i):
            x = x.clone()
            x[:, -2:] = sources.values[1][i]
            return x

        torch.testing.assert_close(found[i], word_log_probs(llama, prompt, put, 1), atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("patch", "said"),
    [
        (Patch("mlp", 3, 4), "layers 0 to 3; got 3 to 4"),
        (Patch("mlp", 2, 1), "got 2 to 1"),
        (Patch("mlp", 1, 1, (0,)), "counted from the prompt's end"),
        (Patch("mlp", 1, 1, ()), "counted from the prompt's end"),
    ],
)
def test_what_is_no_patch_is_refused(llama, patch, said):
    captured = capture(llama, PROMPTS[:1], answers=LABELS, keep_cache=True)
    ends = prompt_ends(llama, llama.encode(PROMPTS[:1]), 1)
    with pytest.raises(UserError, match=said):
        patched_answers(llama, captured, ends, ends, [patch])
    with pytest.raises(UserError, match="outside a prompt"):
        prompt_ends(llama, llama.encode(PROMPTS[:1]), 99)
    with pytest.raises(ValueError, match="1 tokens were read, 2 are patched"):
        patched_answers(llama, captured, ends, ends, [Patch("mlp", 1, 1, (-2,))])
