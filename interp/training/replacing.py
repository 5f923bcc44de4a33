"""What a model does when a layer's residual is replaced: passes that begin above that layer."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.models.language_model import Edit, LanguageModel, Tokens

Residual = Float[Tensor, "text token d_model"]


@torch.no_grad()
def residuals(model: LanguageModel, tokens: Tokens, layers: list[int]) -> dict[int, Residual]:
    """Residuals of these layers, and of the last one, at all positions."""
    seen: dict[int, Tensor] = {}

    def note(layer: int) -> Edit:
        return lambda x: seen.__setitem__(layer, x)

    with model.edited({layer: note(layer) for layer in {*layers, model.n_layers - 1}}):
        model.run(tokens, use_cache=False)
    return seen


@torch.no_grad()
def last_residual(model: LanguageModel, tokens: Tokens, layer: int, replaced: Residual) -> Residual:
    """The last layer's residual if that of `layer` were `replaced`; blocks up to `layer` are passed over."""
    last = model.n_layers - 1
    if layer == last:
        return replaced
    seen: list[Tensor] = []
    with _passed_over(model, layer), model.edited({layer: lambda x: replaced.to(x.device, x.dtype), last: seen.append}):
        model.run(tokens, use_cache=False)
    return seen[0]


def body(tokens: Tokens) -> Bool[Tensor, "text token"]:
    """All positions but padding and the first one of each text, where most models keep an attention sink."""
    return tokens.mask & (tokens.positions > 0)


@contextmanager
def _passed_over(model: LanguageModel, layer: int) -> Iterator[None]:
    """Blocks up to `layer` give back what they get."""
    blocks: list[Any] = model.blocks[: layer + 1]
    tupled = _gives_tuples(model)

    def passing(hidden: Tensor, *_: Any, **__: Any) -> Any:
        return (hidden,) if tupled else hidden

    try:
        for block in blocks:
            block.forward = passing
        yield
    finally:
        for block in blocks:
            block.__dict__.pop("forward", None)


def _gives_tuples(model: LanguageModel) -> bool:
    """Whether blocks return a tuple that begins with the residual, as older ones do."""
    kinds: list[bool] = []
    handle = model.blocks[0].register_forward_hook(
        lambda module, inputs, output: kinds.append(isinstance(output, tuple))
    )
    try:
        model.run(model.pad(model.encode(["a"])), use_cache=False)
    finally:
        handle.remove()
    return kinds[0]


Replace = Callable[[Float[Tensor, "position d_model"]], Float[Tensor, "position d_model"]]


def with_body(residual: Residual, where: Bool[Tensor, "text token"], replace: Replace) -> Residual:
    """The residual with other values at the positions of `where`."""
    out = residual.clone()
    out[where] = replace(residual[where]).to(out.dtype)
    return out
