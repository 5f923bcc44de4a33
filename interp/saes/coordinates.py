"""What takes the place of autoencoders where a model has none: the residual stream's own coordinates."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.errors import UserError
from interp.resources import NO_SAES
from interp.saes.stack import SaeStack


class Coordinates(SaeStack):
    """Every layer's residual as it is: "feature" i of a layer is its coordinate i, and its direction the i-th axis.

    No coordinate means anything, and none is traced or reported. But a steering is kept as weights of features by
    layer, and all coordinates together can hold any direction and read any linear function of a residual: so
    directions, gates and couplings need no other form where there are no autoencoders. Unlike activations,
    coordinates may be negative.
    """

    def __init__(self, n_layers: int, d_model: int, device: torch.device | str = "cpu") -> None:
        super().__init__({}, NO_SAES, NO_SAES)
        self.n_layers, self.d_model, self._device = n_layers, d_model, torch.device(device)

    @property
    def layers(self) -> list[int]:
        return list(range(self.n_layers))

    def _shown(self) -> dict[str, object]:
        return {"instead of SAEs": "the residual itself", "layers": self.n_layers, "d_model": self.d_model}

    def d_sae(self, layer: int) -> int:
        return self.d_model

    def width(self, layer: int) -> int:
        return self.d_model

    def device(self, layer: int) -> torch.device:
        return self._device

    def encode(self, layer: int, residuals: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_sae"]:
        self._check(layer)
        return residuals.detach().to(self._device, torch.float32)

    def directions(
        self, layer: int, features: Int[Tensor, "*index"] | Sequence[int] | slice = slice(None)
    ) -> Float[Tensor, "*index d_model"]:
        self._check(layer)
        numbers = torch.arange(self.d_model)[features] if isinstance(features, slice) else torch.as_tensor(features)
        axes = torch.zeros(*numbers.shape, self.d_model)
        return axes.scatter_(-1, numbers.long().cpu()[..., None], 1.0).to(self._device)

    def reconstruct(self, layer: int, residuals: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        return self.encode(layer, residuals)

    def restricted(self, features: Mapping[int, Sequence[int]]) -> "Coordinates":  # type: ignore[override]
        for layer, numbers in features.items():
            self.check_features(layer, numbers)
        return self

    def _check(self, layer: int) -> None:
        if not 0 <= layer < self.n_layers:
            raise UserError(f"There is no layer {layer}; the model has {self.n_layers}.")
