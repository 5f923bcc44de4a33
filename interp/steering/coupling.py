"""Features that read emotions, coupled to features that say them: for a model that knows and does not say."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Coupling:
    """What one layer's readers find is said by its writers: `x <- x + clamp(a(x) @ weights + bias) @ shares @ W_dec`.

    Attributes:
        readers: features whose activations are read.
        weights: nats of each label that a unit of a reader's activation is worth.
        bias: nats that are added whatever is read: the correction of what a model leans to.
        limit: nats at which the amounts are clamped, either way.
        writers: features whose directions are added.
        shares: units of each writer that say a nat of each label.
        dense: in the place of readers, a map of the whole residual, centred by `bias`; None in all but one rival.
    """

    readers: Int[Tensor, " reader"]
    weights: Float[Tensor, "reader label"]
    bias: Float[Tensor, " label"]
    limit: float
    writers: Int[Tensor, " writer"]
    shares: Float[Tensor, "label writer"]
    dense: Float[Tensor, "d_model label"] | None = None

    def scaled(self, strength: float) -> "Coupling":
        """Adds `strength` times as much."""
        return replace(self, shares=strength * self.shares)

    def said(self, directions: Float[Tensor, "writer d_model"]) -> Float[Tensor, "label d_model"]:
        """The direction that says each label."""
        return self.shares.to(directions.device, directions.dtype) @ directions

    def amounts(
        self, acts: Float[Tensor, "*row reader"], x: Float[Tensor, "*row d_model"]
    ) -> Float[Tensor, "*row label"]:
        """Nats of each label that are added."""
        read = acts.float() @ self.weights.to(acts.device) + self.bias.to(acts.device)
        if self.dense is not None:
            read = read + x.float() @ self.dense.to(x.device)
        return read.clamp(-self.limit, self.limit)

    def tensors(self) -> dict[str, Tensor]:
        """By name, as they are stored."""
        own = {name: getattr(self, name) for name in ("readers", "weights", "bias", "writers", "shares")}
        own["limit"] = torch.tensor([self.limit], dtype=torch.float64)
        return own if self.dense is None else own | {"dense": self.dense}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Coupling":
        """
        Raises:
            KeyError, ValueError: tensors that are missing or do not match.
        """
        own = dict(tensors)
        coupling = cls(**own | {"limit": float(own["limit"][0])})  # type: ignore[arg-type]
        n_labels = len(coupling.bias)
        if coupling.weights.shape != (len(coupling.readers), n_labels):
            raise ValueError("weights that do not match their readers")
        if coupling.shares.shape != (n_labels, len(coupling.writers)):
            raise ValueError("shares that do not match their writers")
        return coupling
