"""What attention heads move to the answer position from source tokens and words, and what the answer owes to it.

A head gathers sum_t a_t v_t over the tokens t that it attends to. What it moves from a word is the part of that sum
over the word's tokens; taking it out leaves the attention to all other tokens as it is (nothing is normalised anew).
Taken out of one head, it is an edge from a word to that head (`without_words_in`); taken out of all heads of all
layers, whose attention is recomputed, it is all that the answer position hears of the word (`without_words`): what the
word has told other words before is not undone.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.attention import WITH_WEIGHTS
from interp.engine.capture import Captured
from interp.engine.components import Component, answers_with, check_components, component_values
from interp.engine.suffix import Suffix, check_unedited, rows_in_memory, suffixes
from interp.models.language_model import LanguageModel

Words = Sequence[Sequence[Sequence[int]]]
"""Per example, per word, which tokens of the prompt it consists of (0 is the first, padding not counted)."""


def every_token(captured: Captured) -> Words:
    """Every token a word of its own, but the answer position."""
    return [[[t] for t in range(n - 1)] for n in captured.n_tokens]


@torch.no_grad()
def moved(
    model: LanguageModel, captured: Captured, heads: Sequence[Component], words: Words
) -> Float[Tensor, "example word head d_head"]:
    """What each head moves to the answer position from each word; zero behind an example's last word.

    Raises:
        UserError: a head that the model does not have.
        ValueError: `captured` was made without `keep_cache=True`, or a component that is no head.
    """
    check_components(model, None, heads)
    if any(head.kind != "head" for head in heads):
        raise ValueError("only heads move something from other tokens")
    most = max(map(len, words), default=0)
    found = torch.zeros(len(words), most, len(heads), model.d_head, device=model.device)
    for suffix in suffixes(model, captured, rows_in_memory(model, captured)):
        member = _members(suffix, words, most)  # [prompt, word, token]
        for layer in sorted({head.layer for head in heads}):
            weights = suffix.attend(suffix.clean(layer - 1)[:, None], layer, WITH_WEIGHTS).weights
            assert weights is not None
            values = suffix.cache.values[layer]
            group = model.n_heads // values.shape[1]
            for k, head in enumerate(heads):
                if head.layer == layer:
                    own = weights[:, 0, head.number, :, None].float() * values[:, head.number // group].float()
                    found[suffix.examples, :, k] = member @ own.to(model.device)
    return found


def _members(suffix: Suffix, words: Words, most: int) -> Float[Tensor, "prompt word token"]:
    """1 where a (left-padded) token is of a word."""
    mask = suffix.cache.mask
    member = torch.zeros(len(mask), most, mask.shape[1], device=suffix.model.device)
    for prompt, example in enumerate(suffix.cache.examples):
        padding = int((~mask[prompt]).sum())
        for w, tokens in enumerate(words[example]):
            member[prompt, w, [padding + t for t in tokens]] = 1
    return member


@torch.no_grad()
def without_words_in(
    model: LanguageModel, captured: Captured, heads: Sequence[Component], words: Words
) -> Float[Tensor, "example word head answer"]:
    """Answer logits when one head does not bring what it moves from one word; all above the head recomputed.

    Raises:
        UserError: a head that the model does not have.
        ValueError: `captured` was made without `keep_cache=True`.
        EngineError: an unedited row moved.
    """
    parts = moved(model, captured, heads, words)
    values = component_values(model, None, captured, heads)
    variants = {
        (w, k): {head: values[head] - parts[:, w, k].to(values[head])}
        for w in range(parts.shape[1])
        for k, head in enumerate(heads)
    }
    found = answers_with(model, captured, variants)
    clean = captured.answer_logits
    out = clean[:, None, None].repeat(1, parts.shape[1], len(heads), 1)
    for (w, k), logits in found.items():
        out[:, w, k] = logits
    return out


@torch.no_grad()
def without_words(model: LanguageModel, captured: Captured, words: Words) -> Float[Tensor, "example word answer"]:
    """Answer logits when no head of any layer brings anything from one word to the answer position.

    Behind an example's last word stand its unedited logits.

    Raises:
        ValueError: a word holds the answer position, or `captured` was made without `keep_cache=True`.
        EngineError: an unedited row moved.
    """
    for n, own in zip(captured.n_tokens, words, strict=True):
        if n - 1 in chain(*own):
            raise ValueError("a word must not hold the answer position")
    most = max(map(len, words), default=0)
    found = captured.answer_logits[:, None].repeat(1, most, 1)
    for suffix in suffixes(model, captured, 1):
        (example,), member = suffix.cache.examples, _members(suffix, words, most)[0]
        n_words = len(words[example])
        for start in range(0, n_words, size := max(1, rows_in_memory(model, captured) - 1)):
            some = member[start : min(start + size, n_words)]
            rows = suffix.select([0] * (1 + len(some)))
            kept = 1 - torch.cat([torch.zeros_like(some[:1]), some])  # the first row keeps all words
            values = {layer: x * kept[:, None, -x.shape[2] :, None].to(x) for layer, x in rows.cache.values.items()}
            deaf = replace(rows, cache=replace(rows.cache, values=values))
            scores = deaf.scores({-1: deaf.clean(-1)[:, None]})[:, 0]
            check_unedited(model, 0, scores[0] - captured.answer_logits[example])
            found[example, start : start + len(some)] = scores[1:]
    return found
