"""Keys and values of texts that come and go: caches put together row by row, their last columns beside each other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache


def joined(caches: Sequence[DynamicCache]) -> DynamicCache:
    """The rows of several caches as one, the shorter ones padded on their left; the caches given are used up."""
    first, *rest = caches
    width = max(cache.get_seq_length() for cache in caches)
    for cache in caches:
        set_width(cache, width)
    for layer, *others in zip(*(_layers(cache) for cache in (first, *rest)), strict=True):
        if others and layer.is_initialized:
            layer.keys = torch.cat([layer.keys, *(other.keys for other in others)])
            layer.values = torch.cat([layer.values, *(other.values for other in others)])
    return first


def _layers(cache: DynamicCache) -> list[Any]:
    """Layers with keys and values: those of attention over all tokens, or over a window."""
    return list(cache.layers)


def keep_rows(cache: DynamicCache, rows: Sequence[int], width: int) -> None:
    """Of a cache, some rows and their last `width` columns."""
    for layer in _layers(cache):
        if layer.is_initialized:
            index = torch.tensor(rows, device=layer.keys.device)
            layer.keys, layer.values = layer.keys[index], layer.values[index]
    set_width(cache, width)


def set_width(cache: DynamicCache, width: int) -> None:
    """Adds columns of padding on the left, or drops the first ones, until the cache counts `width` tokens.

    A layer of sliding attention counts all tokens that it has seen and holds the last of them, one fewer than its
    window.
    """
    for layer in _layers(cache):
        if not layer.is_initialized:
            continue
        window = getattr(layer, "sliding_window", None)
        held = width if window is None else min(width, window - 1)
        layer.keys, layer.values = _of_width(layer.keys, held), _of_width(layer.values, held)
        if window is not None:
            layer.cumulative_length = width


def _of_width(x: Tensor, width: int) -> Tensor:
    """[row, head, column, d_head] with `width` columns, the last ones where they were."""
    lacking = width - x.shape[-2]
    return pad(x, (0, 0, lacking, 0)) if lacking >= 0 else x[..., -lacking:, :]
