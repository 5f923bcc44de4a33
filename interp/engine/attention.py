"""Attention of recomputed tokens over keys and values that a prompt left behind, shared by all its rows."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from interp.models.language_model import LanguageModel

TO_PREFIX, KEYS_ONLY, WITH_WEIGHTS = "interp_prefix", "interp_keys_only", "interp_weights"


@dataclass(frozen=True)
class Prefix:
    """What recomputed tokens may attend to in one layer, besides those of their own row.

    Attributes:
        keys, values, mask: of the prompt's tokens before the recomputed ones.
        offsets: of the recomputed tokens, in tokens behind the answer position (before it: negative).
        seen: which recomputed tokens [query, key] each of them attends to.
    """

    keys: Float[Tensor, "prompt kv_head before d_head"]
    values: Float[Tensor, "prompt kv_head before d_head"]
    mask: Bool[Tensor, "prompt before"]
    offsets: Int[Tensor, " recomputed"]
    seen: Bool[Tensor, "recomputed recomputed"]

    def visible(self, n_queries: int, window: int | None) -> Bool[Tensor, "prompt query key"] | None:
        """Which keys, before and recomputed, each of the last `n_queries` sees; None where they see them all."""
        offsets, n_recomputed = self.offsets, len(self.offsets)
        n_prompts, n_before = self.mask.shape
        if n_recomputed == 1 and (window is None or n_before < window) and bool(self.mask.all()):
            return None
        before = torch.arange(-n_before, 0, device=offsets.device) + offsets[0]  # the prefix ends where these begin
        earlier = self.seen.new_ones(n_recomputed, n_before)
        seen = torch.cat([earlier, self.seen], dim=1)  # [recomputed, key]
        if window is not None:
            seen = seen & (torch.cat([before, offsets]) > offsets[:, None] - window)
        real = torch.cat([self.mask, self.mask.new_ones(n_prompts, n_recomputed)], dim=1)
        return seen[-n_queries:] & real[:, None]


@contextmanager
def attending(model: LanguageModel, function: str) -> Iterator[None]:
    """Blocks called inside attend by one of the functions of this module."""
    config = model.backbone.config
    usual = config._attn_implementation
    config._attn_implementation = function
    try:
        yield
    finally:
        config._attn_implementation = usual


def attend_to_prefix(
    module: nn.Module,
    query: Float[Tensor, "prompt_row head query d_head"],
    key: Float[Tensor, "prompt_row kv_head recomputed d_head"],
    value: Float[Tensor, "prompt_row kv_head recomputed d_head"],
    attention_mask: None,
    *,
    prefix: Prefix,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    with_weights: bool = False,
    **_: object,
) -> tuple[Float[Tensor, "prompt_row query head d_head"], Float[Tensor, "prompt_row head query key"] | None]:
    """Attention over the prompt's keys and values, which are never copied, and over the row's recomputed ones.

    All rows, queries and query heads of one prompt and key-value head share a single matrix product. transformers
    calls it with the signature of its own attention functions.
    """
    n_prompts, n_kv, n_before, d_head = prefix.keys.shape
    n_rows, n_queries, n_recomputed = len(query) // n_prompts, query.shape[2], key.shape[2]
    query = query * (d_head**-0.5 if scaling is None else scaling)
    q = rearrange(
        query,
        "(prompt row) (kv group) query d -> prompt kv (row group query) d",
        prompt=n_prompts,
        kv=n_kv,
    )
    k, v = (rearrange(x, "(prompt row) kv key d -> prompt kv row key d", prompt=n_prompts) for x in (key, value))
    by_row = rearrange(q, "prompt kv (row gq) d -> prompt kv row gq d", row=n_rows)
    scores = torch.cat(
        [
            rearrange(q @ prefix.keys.mT, "prompt kv (row gq) before -> prompt kv row gq before", row=n_rows),
            # A batched product of single vectors is slower than their elementwise one.
            (by_row * k).sum(-1, keepdim=True) if n_recomputed == 1 else by_row @ k.mT,
        ],
        dim=-1,
    )  # [prompt, kv, row, (group query), before + recomputed]
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    visible = prefix.visible(n_queries, sliding_window)
    if visible is not None:
        scores = rearrange(scores, "prompt kv row (group query) key -> prompt kv row group query key", query=n_queries)
        scores = scores.masked_fill_(~visible[:, None, None, None], -torch.inf).flatten(3, 4)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    to_prefix, to_row = weights[..., :n_before], weights[..., n_before:]
    mixed = rearrange(to_prefix, "prompt kv row gq before -> prompt kv (row gq) before") @ prefix.values
    mixed = rearrange(mixed, "prompt kv (row gq) d -> prompt kv row gq d", row=n_rows)
    mixed = mixed + (to_row * v if n_recomputed == 1 else to_row @ v)
    sizes = {"row": n_rows, "query": n_queries}
    attended = rearrange(mixed, "prompt kv row (group query) d -> (prompt row) query (kv group) d", **sizes)
    if not with_weights:
        return attended, None
    return attended, rearrange(weights, "prompt kv row (group query) key -> (prompt row) (kv group) query key", **sizes)


def attend_to_nothing(
    module: nn.Module, query: Float[Tensor, "prompt_row head query d_head"], *_: object, **__: object
) -> tuple[Float[Tensor, "prompt_row query head d_head"], None]:
    """For layers that are asked for keys and values alone."""
    return torch.zeros_like(query).transpose(1, 2), None


ALL_ATTENTION_FUNCTIONS.register(TO_PREFIX, attend_to_prefix)
ALL_ATTENTION_FUNCTIONS.register(WITH_WEIGHTS, partial(attend_to_prefix, with_weights=True))
ALL_ATTENTION_FUNCTIONS.register(KEYS_ONLY, attend_to_nothing)
