"""What a steering is made of: each feature that it multiplies or reads, by itself, and the rest without it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.steering.coupling import Coupling
from interp.steering.steering import Gains, Steering

Means = Callable[[int, Int[Tensor, " feature"]], Float[Tensor, " feature"]]
"""(layer, features) -> their mean activations at the answer position, over texts that nothing was scored on."""


class Part(NamedTuple):
    """A feature that is multiplied or read.

    Attributes:
        alone: the steering of this feature alone; all other readers are held at their means.
        without: the steering of all others; this reader is held at its mean.
    """

    layer: int
    feature: int
    alone: Steering
    without: Steering


def parts(steering: Steering, means: Means) -> Iterator[Part]:
    """Of every layer, its gains, then its readers."""
    for layer, gains in steering.gains.items():
        for i, feature in enumerate(gains.features.tolist()):
            own = torch.arange(len(gains.features)) == i
            yield Part(
                layer,
                feature,
                replace(steering, gains={layer: _some(gains, own)}, vectors={}, couplings={}),
                replace(steering, gains={**steering.gains, layer: _some(gains, ~own)}),
            )
    for layer, coupling in steering.couplings.items():
        mean = means(layer, coupling.readers)
        for i, feature in enumerate(coupling.readers.tolist()):
            own = torch.arange(len(coupling.readers)) == i
            yield Part(
                layer,
                feature,
                replace(steering, gains={}, vectors={}, couplings={layer: held(coupling, ~own, mean)}),
                replace(steering, couplings={**steering.couplings, layer: held(coupling, own, mean)}),
            )


def held(coupling: Coupling, readers: Tensor, mean: Float[Tensor, " reader"]) -> Coupling:
    """A coupling that takes some readers for always being as active as they are on average."""
    weights = torch.where(readers[:, None], 0, coupling.weights)
    return replace(coupling, weights=weights, bias=coupling.bias + (mean * readers) @ coupling.weights)


def _some(gains: Gains, chosen: Tensor) -> Gains:
    return Gains(gains.features[chosen], gains.gains[chosen])
