"""Steerings that tests share: of every kind at once, and of plain vectors."""

import torch

from interp.steering import Gains, Gate, Steering


def mixed_steering(positions="all") -> Steering:
    vector = torch.randn(32, generator=torch.Generator().manual_seed(1))
    gains = Gains(torch.tensor([3, 8, 21]), torch.tensor([2.0, 0.0, 3.0]))
    gate = Gate(torch.tensor([8, 40]), torch.tensor([1.5, -0.5]), -0.3)
    return Steering("test", {1: gains, 2: gains}, {1: vector, 3: vector}, {1: gate}, positions)


def additive_steering() -> Steering:
    generator = torch.Generator().manual_seed(1)
    return Steering("additive", vectors={k: torch.randn(32, generator=generator) for k in (1, 3)})
