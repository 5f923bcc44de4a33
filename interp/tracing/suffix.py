"""Exact recomputation above an edit at the answer position.

In a causal model an edit at the last position changes nothing at earlier positions, in any layer. So the model's
answer under an edit costs one token through the layers above, attending to the keys and values that the unedited
prompt left behind. Many edits of one prompt attend to the same keys and values, which are never copied.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from interp.capture import PromptCache
from interp.model import LanguageModel

Row = Float[Tensor, "prompt row d_model"]


@dataclass(frozen=True)
class Prefix:
    """What the answer position may attend to in one layer, besides itself."""

    keys: Float[Tensor, "prompt kv_head token d_head"]
    values: Float[Tensor, "prompt kv_head token d_head"]
    mask: Bool[Tensor, "prompt token"]


def run_above(
    model: LanguageModel,
    cache: PromptCache,
    rows: Row,
    layer: int,
    *,
    join: Mapping[int, Row] | None = None,
    edits: Mapping[int, Callable[[Row], Row]] | None = None,
    watch: Callable[[int, Row], None] | None = None,
) -> Row:
    """Residuals at the answer position after the last layer, given those after `layer`.

    Args:
        rows: residuals after `layer`, any number of variants of each prompt of `cache`.
        join: further rows that enter after a later layer (a sweep over layers in one pass), appended in order.
        edits: replacements of the residual after a layer above `layer`.
        watch: called with every layer's residual, the first included.
    """
    with _shared_prefix_attention(model):
        if watch is not None:
            watch(layer, rows)
        for above in range(layer + 1, model.n_layers):
            rows = _block(model, cache, rows, above)
            if join and above in join:
                rows = torch.cat([rows, join[above]], dim=1)
            if edits and above in edits:
                rows = edits[above](rows)
            if watch is not None:
                watch(above, rows)
    return rows


def _block(model: LanguageModel, cache: PromptCache, rows: Row, layer: int) -> Row:
    n_rows = rows.shape[1]
    positions = cache.position[:, None].repeat_interleave(n_rows, 0)  # [(prompt row), 1]
    flat = rearrange(rows, "prompt row d -> (prompt row) 1 d")
    output = model.blocks[layer](
        flat,
        attention_mask=None,
        position_ids=positions,
        position_embeddings=model.rotary(layer, flat, positions),
        use_cache=False,
        prefix=Prefix(cache.keys[layer][:, :, :-1], cache.values[layer][:, :, :-1], cache.mask[:, :-1]),
    )
    output = output[0] if isinstance(output, tuple) else output
    return rearrange(output, "(prompt row) 1 d -> prompt row d", row=n_rows)


def attend_to_prefix(
    module: nn.Module,
    query: Float[Tensor, "prompt_row head 1 d_head"],
    key: Float[Tensor, "prompt_row kv_head 1 d_head"],
    value: Float[Tensor, "prompt_row kv_head 1 d_head"],
    attention_mask: None,
    *,
    prefix: Prefix,
    scaling: float | None = None,
    softcap: float | None = None,
    sliding_window: int | None = None,
    **_: object,
) -> tuple[Float[Tensor, "prompt_row 1 head d_head"], None]:
    """Attention of single tokens over their prompt's unexpanded keys and values and their own; transformers calls it.

    All rows and query heads of one prompt and key-value head share a single matrix product.
    """
    n_prompts, n_kv, n_before, d_head = prefix.keys.shape
    scaling = d_head**-0.5 if scaling is None else scaling
    n_rows = query.shape[0] // n_prompts
    q = rearrange(query * scaling, "(prompt row) (kv group) 1 d -> prompt kv (row group) d", prompt=n_prompts, kv=n_kv)
    k, v = (rearrange(x, "(prompt row) kv 1 d -> prompt kv row 1 d", prompt=n_prompts) for x in (key, value))
    by_row = rearrange(q, "prompt kv (row group) d -> prompt kv row group d", row=n_rows)
    scores = torch.cat(
        [
            rearrange(q @ prefix.keys.mT, "prompt kv (row group) token -> prompt kv row group token", row=n_rows),
            (by_row * k).sum(-1, keepdim=True),
        ],
        dim=-1,
    )  # [prompt, kv, row, group, token + 1]
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    seen = prefix.mask
    if sliding_window is not None and n_before >= sliding_window:
        seen = seen & (torch.arange(n_before, device=seen.device) > n_before - sliding_window)
    if not seen.all():
        scores[..., :-1].masked_fill_(~seen[:, None, None, None], -torch.inf)
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    before = rearrange(weights[..., :-1], "prompt kv row group token -> prompt kv (row group) token") @ prefix.values
    mixed = rearrange(before, "prompt kv (row group) d -> prompt kv row group d", row=n_rows) + weights[..., -1:] * v
    return rearrange(mixed, "prompt kv row group d -> (prompt row) 1 (kv group) d"), None


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
