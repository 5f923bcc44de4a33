"""Low-rank fine-tuning of the model's own weights (LoRA, Hu et al. 2021): an outside reference, no steering."""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.utils import parametrize

from interp.models.language_model import LanguageModel
from interp.texts.prompts import Prompt

EPOCHS = 8
BATCH = 16
RATE = 1e-3
HELD_OUT = 5
"""One fit example in so many is kept to say when to stop."""


class LowRankUpdate(nn.Module):
    """`weight + up @ down` while `on`, else the weight itself; nothing is changed in place."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rows, columns = weight.shape
        down = torch.randn(rank, columns, generator=generator) / math.sqrt(columns)
        self.down = nn.Parameter(down.to(weight.device))
        self.up = nn.Parameter(torch.zeros(rows, rank, device=weight.device))
        self.on = True

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).to(weight.dtype) if self.on else weight


class LowRankTuning:
    """Updates of every weight matrix of a model's blocks. They act inside `applied()`; `remove()` takes them away."""

    def __init__(self, model: LanguageModel, rank: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.modules: list[Any] = [
            m
            for block in model.blocks
            for m in block.modules()
            if isinstance(getattr(m, "weight", None), nn.Parameter) and m.weight.ndim == 2
        ]
        self.updates = [LowRankUpdate(m.weight, rank, generator) for m in self.modules]
        for module, update in zip(self.modules, self.updates, strict=True):
            parametrize.register_parametrization(module, "weight", update)
        self._switch(False)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for update in self.updates for p in update.parameters()]

    def _switch(self, on: bool) -> None:
        for update in self.updates:
            update.on = on

    @contextmanager
    def applied(self) -> Iterator[None]:
        self._switch(True)
        try:
            with parametrize.cached():
                yield
        finally:
            self._switch(False)

    def remove(self) -> None:
        """The model's own weights, as they were."""
        for module in self.modules:
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=False)


def tuned(
    model: LanguageModel,
    prompts: Sequence[Prompt],
    gold: Int[np.ndarray, " prompt"],
    first: Int[Tensor, " label"],
    rank: int,
    seed: int,
    *,
    epochs: Iterable[int] = range(EPOCHS),
) -> LowRankTuning:
    """Updates fitted on four fifths of the examples, from the epoch that does best on the last fifth.

    Args:
        gold: index of the right label.
        first: the labels' first tokens, of which the right one is made likelier.
        epochs: numbers of the epochs, perhaps shown as they pass.
    """
    order = np.random.default_rng(seed).permutation(len(prompts))
    held, fitted = order[::HELD_OUT], np.delete(order, np.s_[::HELD_OUT])
    tuning = LowRankTuning(model, rank, seed)
    optimiser = torch.optim.AdamW(tuning.parameters, lr=RATE)
    best, kept = np.inf, [p.detach().clone() for p in tuning.parameters]

    def loss(rows: np.ndarray) -> Tensor:
        return _loss(model, [prompts[i] for i in rows], gold[rows], first)

    for epoch in epochs:
        drawn = np.random.default_rng([seed, epoch]).permutation(fitted)
        for start in range(0, len(drawn), BATCH):
            optimiser.zero_grad()
            with torch.enable_grad(), tuning.applied():
                loss(drawn[start : start + BATCH]).backward()
            optimiser.step()
        with torch.no_grad(), tuning.applied():
            parts = [p for p in np.array_split(held, math.ceil(len(held) / BATCH)) if len(p)]
            reached = sum(loss(p).item() * len(p) for p in parts)
        if reached < best:
            best, kept = reached, [p.detach().clone() for p in tuning.parameters]
    with torch.no_grad():
        for parameter, value in zip(tuning.parameters, kept, strict=True):
            parameter.copy_(value)
    return tuning


def _loss(model: LanguageModel, prompts: Sequence[Prompt], gold: np.ndarray, first: Tensor) -> Tensor:
    """Mean cross-entropy of the gold answers over the label set."""
    last: list[Any] = []
    tokens = model.pad(model.encode(prompts))
    with model.edited({model.n_layers - 1: lambda x: last.append(x[:, -1])}):
        model.run(tokens)
    scores = model.unembed(last[0], first).float()
    return nn.functional.cross_entropy(scores, torch.as_tensor(gold, device=scores.device))
