"""Low-rank fine-tuning of the model's own weights (LoRA, Hu et al. 2021): an outside reference, no steering."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from interp.models.language_model import LanguageModel
from interp.run.session import Session

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


def tuned(session: Session, rank: int) -> LowRankTuning:
    """Updates fitted on four fifths of the fit examples, from the epoch that does best on the last fifth."""
    rows = session.role("fit")
    gold = session.gold(rows)
    order = np.random.default_rng(session.seed("tuning")).permutation(len(rows))
    held, fitted = order[::HELD_OUT], np.delete(order, np.s_[::HELD_OUT])
    texts = [session.examples[r][1].text for r in rows]
    tuning = LowRankTuning(session.model, rank, session.seed("tuning"))
    optimiser = torch.optim.AdamW(tuning.parameters, lr=RATE)
    best, kept = np.inf, [p.detach().clone() for p in tuning.parameters]
    for epoch in session.progress(range(EPOCHS), "low-rank tuning", "epoch"):
        drawn = np.random.default_rng([session.seed("tuning"), epoch]).permutation(fitted)
        for start in range(0, len(drawn), BATCH):
            batch = drawn[start : start + BATCH]
            optimiser.zero_grad()
            with torch.enable_grad(), tuning.applied():
                _loss(session, [texts[i] for i in batch], gold[batch]).backward()
            optimiser.step()
        with torch.no_grad(), tuning.applied():
            parts = np.array_split(held, math.ceil(len(held) / BATCH))
            loss = sum(_loss(session, [texts[i] for i in p], gold[p]).item() * len(p) for p in parts if len(p))
        if loss < best:
            best, kept = loss, [p.detach().clone() for p in tuning.parameters]
    with torch.no_grad():
        for parameter, value in zip(tuning.parameters, kept, strict=True):
            parameter.copy_(value)
    return tuning


def _loss(session: Session, texts: Sequence[str], gold: np.ndarray) -> Tensor:
    """Mean cross-entropy of the gold answers over the label set, by their first tokens."""
    model = session.model
    last: list[Any] = []
    tokens = model.pad(model.encode(session.prompts(texts)))
    with model.edited({model.n_layers - 1: lambda x: last.append(x[:, -1])}):
        model.run(tokens)
    scores = model.unembed(last[0], session.answers.first).float()
    return nn.functional.cross_entropy(scores, torch.as_tensor(gold, device=scores.device))
