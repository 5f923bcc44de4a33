"""One pass over a batch of prompts: whole, or behind tokens that they share, and then over the answers behind them."""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import DynamicCache

from interp.engine.cache import PromptCache, SharedPrefix
from interp.models.answers import LabelTokens
from interp.models.caching import cache_name
from interp.models.language_model import Encoded, LanguageModel, Tokens

LEAST_SHARED = 16
"""Tokens that all prompts must begin with for these to be passed through the model once and not with every prompt."""
CONTINUED_AT_ONCE = 512
"""Continuation tokens of the answers that are passed together behind each prompt, at most."""


@torch.no_grad()
def shared_prefix(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> SharedPrefix | None:
    """What several prompts' token ids begin with; None where that is not worth a pass of its own.

    In a causal model tokens know nothing of those behind them, so that keys and values of a common beginning are the
    same in every prompt.
    """
    if len(sequences) < 2:
        return None
    first, last = min(map(list, sequences)), max(map(list, sequences))  # what the outer two in order share, all share
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    n = min(common, min(map(len, sequences)) - 1)
    if n < LEAST_SHARED:
        return None
    ids = list(first[:n])
    store = DynamicCache()
    with model.recorded(range(model.n_layers), lambda residual: residual[0]) as residuals:
        model.run(model.pad([Encoded(ids, 0)]), cache=store)
    kept: list[Any] = store.layers
    return SharedPrefix(ids, [x.keys[0] for x in kept], [x.values[0] for x in kept], list(residuals.values()))


class PromptPass(NamedTuple):
    """What a batch's passes leave behind; `tail`: last-layer residuals from the answer position on."""

    residuals: Float[Tensor, "layer prompt d_model"]
    tail: Float[Tensor, "prompt tail d_model"]
    cache: PromptCache | None


@torch.no_grad()
def pass_prompts(
    model: LanguageModel,
    tokens: Tokens,
    answers: LabelTokens,
    examples: list[int],
    *,
    keep_cache: bool,
    everywhere: Collection[int],
    prefix: SharedPrefix | None,
) -> PromptPass:
    """Residuals of the answer position and of the answers' continuation tokens.

    Args:
        examples: the prompts' places in the capture.
        keep_cache, everywhere: see `capture`.
        prefix: with which all these prompts begin.
    """
    needs_keys = keep_cache or answers.n_continued > 0
    if prefix is None:
        passed = _pass_whole(model, tokens, everywhere, needs_keys)
    else:
        passed = _pass_behind(model, tokens, everywhere, needs_keys, prefix)
    last, residuals = model.n_layers - 1, passed.at_answer[1:]
    continued = _continue(model, tokens, answers, passed.store, range(-1, last + 1) if keep_cache else [last])
    tail = torch.cat([residuals[-1][:, None], continued[last]], dim=1)
    if not keep_cache or passed.store is None:
        return PromptPass(residuals, tail, None)
    kept: list[Any] = passed.store.layers
    cache = PromptCache(
        examples=examples,
        keys=dict(enumerate(layer.keys for layer in kept)),
        values=dict(enumerate(layer.values for layer in kept)),
        mask=tokens.mask,
        position=tokens.positions[:, -1],
        embedded=torch.cat([passed.at_answer[0][:, None], continued[-1]], dim=1),
        continued=[continued[layer] for layer in range(model.n_layers)],
        everywhere=passed.everywhere,
    )
    return PromptPass(residuals, tail, cache)


class _Passed(NamedTuple):
    """Residuals at the answer position, what enters the first block before them; those at all positions, by layer; and
    left-padded keys and values, where they are needed.
    """

    at_answer: Float[Tensor, "input_and_layer prompt d_model"]
    everywhere: dict[int, Float[Tensor, "prompt token d_model"]]
    store: DynamicCache | None


def _pass_whole(model: LanguageModel, tokens: Tokens, everywhere: Collection[int], needs_keys: bool) -> _Passed:
    # A cache built without a config keeps every key, in sliding-window layers too.
    store = DynamicCache() if needs_keys else None
    layers = range(-1, model.n_layers)
    with (
        model.prompted(tokens.ids.shape[1]),
        model.recorded(layers, lambda x: x[:, -1].to(model.device, copy=True)) as at_answer,
        model.recorded(everywhere, lambda x: x.to(model.device)) as whole,
    ):
        model.run(tokens, cache=store)
    return _Passed(torch.stack([at_answer[layer] for layer in layers]), whole, store)


def _pass_behind(
    model: LanguageModel, tokens: Tokens, everywhere: Collection[int], needs_keys: bool, prefix: SharedPrefix
) -> _Passed:
    """As `_pass_whole`, of the tokens behind a prefix that all these prompts share.

    They are padded on their right, so that they stand next to the prefix, as layers with a sliding window need: these
    count columns. What is handed back is padded on the left.
    """
    device, n_before = model.device, len(prefix)
    n_prompts, width = len(tokens.ids), tokens.ids.shape[1] - n_before
    padding = (~tokens.mask).sum(1)  # of each prompt
    last = width - padding - 1
    rows = torch.arange(n_prompts, device=device)
    step = torch.arange(width, device=device)
    left = (step + n_before + padding[:, None]).clamp(max=tokens.ids.shape[1] - 1)
    ids = tokens.ids.gather(1, left)
    real = torch.cat([tokens.mask.new_ones(n_prompts, n_before), step <= last[:, None]], dim=1)
    # From [prefix, own tokens, padding] to [padding, prefix, own tokens].
    column = (torch.arange(n_before + width, device=device) - padding[:, None]).clamp(min=0)

    def to_the_right(x: Tensor, dim: int) -> Tensor:
        shape = [1] * x.ndim
        shape[0], shape[dim] = column.shape
        index = column.to(x.device).view(shape).expand(*x.shape)
        return x.gather(dim, index) if bool(padding.any()) else x

    layers = range(-1, model.n_layers)
    store = DynamicCache()
    for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        store.update(keys.expand(n_prompts, -1, -1, -1), values.expand(n_prompts, -1, -1, -1), layer)
    with (
        model.prompted(None),  # prompts padded on their right do not end in one column
        model.recorded(layers, lambda x: x.to(device)[rows, last]) as at_answer,
        model.recorded(everywhere, lambda x: x.to(device)) as behind,
    ):
        model.run(Tokens(ids, real), cache=store)
    whole = {}
    for layer, residual in behind.items():
        before = prefix.residuals[layer].to(device).expand(n_prompts, -1, -1)
        whole[layer] = to_the_right(torch.cat([before, residual], dim=1), 1)
    kept: list[Any] = store.layers if needs_keys else []
    for one in kept:
        one.keys, one.values = to_the_right(one.keys, 2), to_the_right(one.values, 2)
    return _Passed(torch.stack([at_answer[layer] for layer in layers]), whole, store if needs_keys else None)


def _continue(
    model: LanguageModel, tokens: Tokens, answers: LabelTokens, store: DynamicCache | None, layers: Iterable[int]
) -> dict[int, Float[Tensor, "prompt continuation d_model"]]:
    """By layer, what leaves it at the answers' continuation tokens; -1: what enters the first block.

    All of them pass together behind the prompt's keys and values, each seeing what `LabelTokens.seen` says;
    `CONTINUED_AT_ONCE` at most in one pass.
    """
    n_prompts, width = tokens.mask.shape
    positions = tokens.positions[:, -1:] + answers.offsets[1:]
    none = torch.empty(n_prompts, 0, model.d_model, dtype=model.dtype, device=model.device)
    passes: list[dict[int, Tensor]] = []
    for start in range(0, answers.n_continued, CONTINUED_AT_ONCE):
        part = slice(start, min(start + CONTINUED_AT_ONCE, answers.n_continued))
        with model.prompted(width), model.recorded(layers, lambda x: x.to(model.device)) as residuals:
            model.backbone(
                input_ids=answers.ids[part].expand(n_prompts, -1),
                attention_mask=_continuation_mask(model, tokens, answers, part),
                position_ids=positions[:, part],
                **{cache_name(model.backbone): store},
                use_cache=True,
            )
        passes.append(residuals)
    if store is not None and answers.n_continued:
        store.crop(-answers.n_continued)
    return {layer: torch.cat([none, *(residuals.pop(layer) for residuals in passes)], dim=1) for layer in layers}


def _continuation_mask(
    model: LanguageModel, tokens: Tokens, answers: LabelTokens, part: slice
) -> Tensor | dict[str, Tensor]:
    """What some of the continuation tokens attend to, [prompt, 1, query, key]: the prompt, and those before them."""
    n_prompts, width = tokens.mask.shape
    offsets, device = answers.offsets, tokens.mask.device
    queries, keys = slice(part.start + 1, part.stop + 1), slice(1, part.stop + 1)
    among_them = answers.seen[queries, keys].expand(n_prompts, -1, -1)
    seen = torch.cat([tokens.mask[:, None].expand(-1, among_them.shape[1], -1), among_them], dim=2)
    where = torch.cat([torch.arange(1 - width, 1, device=device), offsets[keys]])

    def masked(window: int | None) -> Tensor:
        near = seen if window is None else seen & (where > offsets[queries, None] - window)
        return model.attention_mask(near[:, None])

    window = getattr(model.backbone.config, "sliding_window", None)
    if not model.architecture.masks_by_type:
        return masked(window)
    return {"full_attention": masked(None), "sliding_attention": masked(window)}
