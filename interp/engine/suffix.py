"""Exact recomputation above an edit.

In a causal model an edit changes nothing at earlier positions, in any layer. So the model's answer under an edit at
the answer position costs one token through the layers above, attending to the keys and values that the unedited prompt
left behind; an edit at several positions costs the tokens from its first position on. Where answers are scored whole,
the tokens of their continuations come along. Many edits of one prompt attend to the same keys and values, which are
never copied.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from interp.engine.capture import Captured, PromptCache
from interp.models.answers import Answers
from interp.models.language_model import LanguageModel

Row = Float[Tensor, "prompt row d_model"]
Tail = Float[Tensor, "prompt row token d_model"]
"""Rows with all tokens from the answer position on: itself, then the answers' continuation tokens, if any."""


@dataclass(frozen=True)
class Prefix:
    """What recomputed tokens may attend to in one layer, besides those of their own row that are being recomputed.

    Attributes:
        keys, values, mask: of the prompt's tokens before the recomputed ones.
        offsets: of the recomputed tokens, in tokens behind the answer position (before it: negative).
        seen: which recomputed tokens each of them attends to.
        own_keys, own_values: of the row's recomputed tokens that come before the queries, if any.
        record: if given, receives (keys, values) of the tokens passed in, and nothing is attended to.
    """

    keys: Float[Tensor, "prompt kv_head token d_head"]
    values: Float[Tensor, "prompt kv_head token d_head"]
    mask: Bool[Tensor, "prompt token"]
    offsets: Int[Tensor, " own"]
    seen: Bool[Tensor, "own own"]
    own_keys: Float[Tensor, "prompt_row kv_head own d_head"] | None = None
    own_values: Float[Tensor, "prompt_row kv_head own d_head"] | None = None
    record: list[tuple[Tensor, Tensor]] | None = None


def answer_scores(
    model: LanguageModel,
    captured: Captured,
    cache: PromptCache,
    rows: Row,
    layer: int,
    *,
    join: Mapping[int, Row] | None = None,
    edits: Mapping[int, Callable[[Row], Row]] | None = None,
    watch: Callable[[int, Tail], None] | None = None,
) -> Float[Tensor, "prompt row answer"]:
    """Scores of the answers, given residuals at the answer position after `layer`.

    Args:
        rows: any number of variants of each prompt of `cache`.
        join: further rows that enter after a later layer (a sweep over layers in one pass), appended in order.
        edits: replacements of the answer position's residual after a layer above `layer`.
        watch: called with every layer's residuals, the first included.
    """
    return scores_above(
        model, captured, cache, with_continuation(cache, rows, layer), layer, join=join, edits=edits, watch=watch
    )


def run_block(model: LanguageModel, captured: Captured, cache: PromptCache, tail: Tail, layer: int) -> Tail:
    """What one block makes of the tokens from the answer position on."""
    with _shared_prefix_attention(model):
        return _block(model, cache, captured.answers, tail, layer)


def scores_above(
    model: LanguageModel,
    captured: Captured,
    cache: PromptCache,
    tail: Tail,
    layer: int,
    *,
    join: Mapping[int, Row] | None = None,
    edits: Mapping[int, Callable[[Row], Row]] | None = None,
    watch: Callable[[int, Tail], None] | None = None,
) -> Float[Tensor, "prompt row answer"]:
    """As `answer_scores`, given the residuals of the continuation tokens as well."""
    last = tails_above(model, captured, cache, tail, layer, join=join, edits=edits, watch=watch)
    return captured.answers.score(model, last)


def tails_above(
    model: LanguageModel,
    captured: Captured,
    cache: PromptCache,
    tail: Tail,
    layer: int,
    *,
    join: Mapping[int, Row] | None = None,
    edits: Mapping[int, Callable[[Row], Row]] | None = None,
    watch: Callable[[int, Tail], None] | None = None,
) -> Tail:
    """Residuals after the last layer, of which `scores_above` are the scores."""
    answers = captured.answers
    with _shared_prefix_attention(model):
        if watch is not None:
            watch(layer, tail)
        for above in range(layer + 1, model.n_layers):
            tail = _block(model, cache, answers, tail, above)
            if join and above in join:
                tail = torch.cat([tail, with_continuation(cache, join[above], above).to(tail.device)], dim=1)
            if edits and above in edits:
                edited = edits[above](tail[..., 0, :].to(model.device))
                tail = torch.cat([edited[..., None, :].to(tail.device), tail[..., 1:, :]], dim=2)
            if watch is not None:
                watch(above, tail)
    return tail.to(model.device)


def scores_from_suffix(
    model: LanguageModel,
    captured: Captured,
    cache: PromptCache,
    rows: Float[Tensor, "row token d_model"],
    layer: int,
) -> Float[Tensor, "row answer"]:
    """Scores of the answers, given residuals of the last prompt tokens after `layer`.

    For edits at several positions of one prompt: its tokens before the first edited one are as they were. In the last
    layer only the answer position is a query; the other tokens give their keys and values.

    Args:
        cache: of a single prompt.
        rows: variants of the prompt's last tokens.
    """
    answers, n_own = captured.answers, rows.shape[1]
    start, n_queries = cache.mask.shape[1] - n_own, len(captured.answers.offsets)
    offsets = torch.cat([torch.arange(1 - n_own, 0, device=rows.device), answers.offsets])
    seen = offsets[:, None] >= offsets
    seen[n_own - 1 :, n_own - 1 :] = answers.seen
    tail = torch.cat([rows, cache.continued[layer].expand(len(rows), -1, -1)], dim=1)
    with _shared_prefix_attention(model):
        for above in range(layer + 1, model.n_layers):
            prefix = _prefix(model, cache, above, start, offsets, seen)
            if above == model.n_layers - 1 and n_own > 1:
                early, tail = tail[:, :-n_queries], tail[:, -n_queries:]
                keys, values = _keys_and_values(model, early, cache.position + offsets[:-n_queries], above, prefix)
                prefix = replace(prefix, own_keys=keys, own_values=values)
            positions = cache.position + offsets[-tail.shape[1] :]
            tail = _call_block(model, tail, positions.expand(len(tail), -1), above, prefix)
    return answers.score(model, tail[:, -n_queries:].to(model.device))


def with_continuation(cache: PromptCache, rows: Row, layer: int) -> Tail:
    """The rows' answer position, then the unedited continuation tokens."""
    unedited = cache.continued[layer][:, None].expand(-1, rows.shape[1], -1, -1)
    return torch.cat([rows[:, :, None], unedited], dim=2)


def _prefix(
    model: LanguageModel,
    cache: PromptCache,
    layer: int,
    start: int,
    offsets: Int[Tensor, " own"],
    seen: Bool[Tensor, "own own"],
) -> Prefix:
    """The prompt's first `start` tokens in a layer, on that layer's device."""
    device = model.device_of(layer)
    keys, values = cache.keys[layer][:, :, :start], cache.values[layer][:, :, :start]
    return Prefix(keys, values, cache.mask[:, :start].to(device), offsets.to(device), seen.to(device))


def _block(model: LanguageModel, cache: PromptCache, answers: Answers, tail: Tail, layer: int) -> Tail:
    n_rows = tail.shape[1]
    flat = rearrange(tail, "prompt row token d -> (prompt row) token d")
    positions = (cache.position[:, None] + answers.offsets).repeat_interleave(n_rows, 0)  # [(prompt row), token]
    prefix = _prefix(model, cache, layer, cache.mask.shape[1] - 1, answers.offsets, answers.seen)
    output = _call_block(model, flat, positions, layer, prefix)
    return rearrange(output, "(prompt row) token d -> prompt row token d", row=n_rows)


def _call_block(
    model: LanguageModel,
    hidden: Float[Tensor, "prompt_row token d_model"],
    positions: Int[Tensor, "prompt_row token"],
    layer: int,
    prefix: Prefix,
) -> Float[Tensor, "prompt_row token d_model"]:
    hidden = hidden.to(prefix.mask.device)
    output = model.blocks[layer](hidden, **_arguments(model, hidden, positions, layer, prefix))
    return output[0] if isinstance(output, tuple) else output


def _keys_and_values(
    model: LanguageModel, hidden: Tensor, positions: Int[Tensor, " token"], layer: int, prefix: Prefix
) -> tuple[Tensor, Tensor]:
    """A layer's keys and values of some tokens, without their attention or MLP."""
    record: list[tuple[Tensor, Tensor]] = []
    block: Any = model.blocks[layer]
    norm = getattr(block, "input_layernorm", None) or block.ln_1
    attention = next(getattr(block, n) for n in ("self_attn", "attention", "attn") if hasattr(block, n))
    hidden, spread = hidden.to(prefix.mask.device), positions.expand(len(hidden), -1)
    attention(norm(hidden), **_arguments(model, hidden, spread, layer, replace(prefix, record=record)))
    return record[0]


def _arguments(
    model: LanguageModel, hidden: Tensor, positions: Int[Tensor, "prompt_row token"], layer: int, prefix: Prefix
) -> dict[str, Any]:
    """What every family's block takes; those that need less ignore the rest."""
    positions = positions.to(hidden.device)
    return {
        "attention_mask": None,
        "position_ids": positions,
        "position_embeddings": model.rotary(layer, hidden, positions),
        "use_cache": False,
        "prefix": prefix,
    }


def attend_to_prefix(
    module: nn.Module,
    query: Float[Tensor, "prompt_row head query d_head"],
    key: Float[Tensor, "prompt_row kv_head query d_head"],
    value: Float[Tensor, "prompt_row kv_head query d_head"],
    attention_mask: None,
    *,
    prefix: Prefix,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Float[Tensor, "prompt_row query head d_head"], None]:
    """Attention of recomputed tokens over their prompt's unexpanded keys and values and their own row's.

    All rows, queries and query heads of one prompt and key-value head share a single matrix product. transformers
    calls it with the signature of its own attention functions.
    """
    if prefix.record is not None:
        prefix.record.append((key, value))
        return torch.zeros_like(query).transpose(1, 2), None
    if prefix.own_keys is not None and prefix.own_values is not None:
        key, value = torch.cat([prefix.own_keys, key], dim=2), torch.cat([prefix.own_values, value], dim=2)
    n_prompts, n_kv, n_before, d_head = prefix.keys.shape
    n_rows, n_queries, n_own = query.shape[0] // n_prompts, query.shape[2], key.shape[2]
    scaling = d_head**-0.5 if scaling is None else scaling
    sizes = {"row": n_rows, "query": n_queries}
    q = rearrange(
        query * scaling,
        "(prompt row) (kv group) query d -> prompt kv (row group query) d",
        prompt=n_prompts,
        kv=n_kv,
    )
    k, v = (rearrange(x, "(prompt row) kv own d -> prompt kv row own d", prompt=n_prompts) for x in (key, value))
    by_row = rearrange(q, "prompt kv (row gq) d -> prompt kv row gq d", row=n_rows)
    scores = torch.cat(
        [
            rearrange(q @ prefix.keys.mT, "prompt kv (row gq) token -> prompt kv row gq token", row=n_rows),
            # A batched product of single vectors is slower than their elementwise one.
            (by_row * k).sum(-1, keepdim=True) if n_own == 1 else by_row @ k.mT,
        ],
        dim=-1,
    )  # [prompt, kv, row, (group query), token + own]
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    seen = _seen(prefix, n_queries, sliding_window)
    if seen is not None:
        scores = rearrange(scores, "prompt kv row (group query) key -> prompt kv row group query key", query=n_queries)
        scores = scores.masked_fill_(~seen[:, None, None, None], -torch.inf).flatten(3, 4)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    before = rearrange(weights[..., :n_before], "prompt kv row gq token -> prompt kv (row gq) token") @ prefix.values
    own = weights[..., n_before:] * v if n_own == 1 else weights[..., n_before:] @ v
    mixed = rearrange(before, "prompt kv (row gq) d -> prompt kv row gq d", row=n_rows) + own
    return rearrange(mixed, "prompt kv row (group query) d -> (prompt row) query (kv group) d", **sizes), None


def _seen(prefix: Prefix, n_queries: int, window: int | None) -> Bool[Tensor, "prompt query key"] | None:
    """Which earlier and own tokens each query sees; None where it sees them all."""
    n_prompts, n_before = prefix.mask.shape
    own, n_own = prefix.offsets, len(prefix.offsets)
    if n_own == 1 and (window is None or n_before < window) and bool(prefix.mask.all()):
        return None
    before = torch.arange(-n_before, 0, device=own.device) + own[0]  # the prefix ends where the own tokens begin
    offsets = torch.cat([before, own])
    seen = torch.cat([torch.ones(n_own, n_before, dtype=torch.bool, device=own.device), prefix.seen], dim=1)
    if window is not None:
        seen = seen & (offsets > own[:, None] - window)
    real = torch.cat([prefix.mask, prefix.mask.new_ones(n_prompts, n_own)], dim=1)
    return seen[-n_queries:] & real[:, None]


ALL_ATTENTION_FUNCTIONS.register("interp_prefix", attend_to_prefix)


@contextmanager
def _shared_prefix_attention(model: LanguageModel) -> Iterator[None]:
    config = model.backbone.config
    usual = config._attn_implementation
    config._attn_implementation = "interp_prefix"
    try:
        yield
    finally:
        config._attn_implementation = usual
