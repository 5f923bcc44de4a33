"""Several steerings as one: pushes summed, features multiplied."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from interp.errors import UserError
from interp.saes.loading import SaesRecord
from interp.steering.positions import Positions
from interp.steering.steering import Gains, ModelRecord, Provenance, Steering

Key = tuple[int, int]
"""(layer, feature)."""


def mixed(
    pushes: Sequence[Steering],
    gains: Mapping[Key, float],
    *,
    model: ModelRecord,
    saes: SaesRecord | None = None,
    positions: Positions = "all",
) -> Steering:
    """The sum of constant pushes, and features multiplied by gains; a gain of 1 leaves a feature as it is.

    Args:
        saes: those that features with gains are of.

    Raises:
        UserError: a push that is not constant, a gain below 0 or that is not finite.
    """
    if any(push.sparse for push in pushes):
        raise UserError("Only constant pushes can be summed; this steering reads features. Apply it by itself.")
    if wrong := [gain for gain in gains.values() if not 0 <= gain < float("inf")]:
        raise UserError(f"A gain must be a finite number, 0 (removed) or more; got {wrong[0]}.")
    vectors: dict[int, Tensor] = {}
    for push in pushes:
        for layer, vector in push.vectors.items():
            vectors[layer] = vectors[layer] + vector if layer in vectors else vector
    by_layer: dict[int, dict[int, float]] = {}
    for (layer, feature), gain in gains.items():
        if gain != 1:
            by_layer.setdefault(layer, {})[feature] = gain
    multiplied = {
        layer: Gains(torch.tensor([*own]), torch.tensor([*own.values()], dtype=torch.float32))
        for layer, own in sorted(by_layer.items())
    }
    vectors = {layer: vector for layer, vector in sorted(vectors.items()) if bool((vector != 0).any())}
    if not (vectors or multiplied):
        return Steering("none", provenance=Provenance(model=model))
    made_with = Provenance(model=model) if saes is None else Provenance(model=model, saes=saes)
    return Steering("mixed", multiplied, vectors, positions=positions, provenance=made_with)
