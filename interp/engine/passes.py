"""Texts that pass the model once as it is and then again under every steering, from the lowest steered layer on."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language_model import LanguageModel, Tokens

Steered = Callable[[], AbstractContextManager[None]]
Residual = Float[Tensor, "text token d_model"]


class KeptPasses:
    """Batches of texts, with the residuals that the unsteered model leaves after some layers."""

    def __init__(self, model: LanguageModel, batches: Sequence[Tokens], layers: Collection[int] = ()) -> None:
        """
        Args:
            layers: after which a steered pass may begin.
        """
        self.model, self.batches = model, list(batches)
        self.layers = sorted(layers)

    @cached_property
    def _unsteered(self) -> list[dict[int, Residual]]:
        """By batch and layer, the last layer included."""
        layers = {*self.layers, self.model.n_layers - 1}
        return [residuals_after(self.model, tokens, layers) for tokens in self.batches]

    @property
    def unsteered(self) -> list[Residual]:
        """By batch, residuals after the last layer."""
        return [residuals[self.model.n_layers - 1] for residuals in self._unsteered]

    def under(self, steered: Steered, lowest: int | None = None) -> Iterator[Residual]:
        """By batch, residuals after the last layer inside `steered()`.

        Args:
            lowest: the lowest layer whose residual is changed; what is below is not computed again. None: not known;
                the number of layers: none is changed.
        """
        last = self.model.n_layers - 1
        if lowest is not None and lowest > last:
            yield from self.unsteered
            return
        below = [k for k in self.layers if lowest is not None and k <= lowest]
        for tokens, kept in zip(self.batches, self._unsteered, strict=True):
            start = starting_after(self.model, below[-1], kept[below[-1]]) if below else nullcontext()
            with start, steered():
                steered_residual = residuals_after(self.model, tokens, [last])[last]
            yield steered_residual


@torch.no_grad()
def residuals_after(model: LanguageModel, tokens: Tokens, layers: Collection[int]) -> dict[int, Residual]:
    """Residuals after some layers at all positions, from one pass."""
    with model.recorded(layers) as residuals:
        model.run(tokens)
    return residuals


@contextmanager
def starting_after(model: LanguageModel, layer: int, residual: Residual) -> Iterator[None]:
    """Forwards inside begin with this residual after `layer`; the blocks up to there are passed over.

    Where something else has replaced a block's forward (accelerate, for models on several devices), they are run.
    """
    passed: list[Any] = list(model.blocks[: layer + 1])
    replaceable = not any("forward" in vars(block) for block in passed)

    def unchanged(hidden_states: Tensor, *_: object, **__: object) -> Tensor:
        return hidden_states

    try:
        for block in passed if replaceable else ():
            block.forward = unchanged
        with model.edited({layer: lambda x: residual.to(x.device, x.dtype)}):
            yield
    finally:
        for block in passed if replaceable else ():
            del block.forward
