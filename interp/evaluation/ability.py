"""A small check of general ability that runs offline: which of two words ends a sentence."""

import csv
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from interp.engine.capture import tokens_in_flight
from interp.engine.passes import KeptPasses, Steered
from interp.models.language_model import Encoded, LanguageModel
from interp.resources import data_file


class Cloze(NamedTuple):
    """A sentence's beginning with the word that ends it and one of the same kind that does not."""

    kind: str
    beginning: str
    right: str
    wrong: str


def load_cloze() -> list[Cloze]:
    """The bundled items, written for this project: agreement, everyday knowledge, opposites and categories."""
    text = data_file("cloze.csv").read_text(encoding="utf-8")
    return [Cloze(*row) for row in list(csv.reader(text.splitlines()))[1:]]


class ClozeTest:
    """The items, passed once by the model as it is and once under every steering.

    A word is predicted from what stands before it, so that two words of one token share a pass.
    """

    def __init__(self, model: LanguageModel, items: Sequence[Cloze], layers: Collection[int] = ()) -> None:
        """
        Args:
            layers: after which a steered pass may begin (see `KeptPasses`).
        """
        self.model = model
        self._words: list[tuple[int, list[int]]] = []
        contexts: dict[tuple[int, ...], int] = {}
        for item in items:
            start = model.ids(item.beginning, chat=False)
            for word in model.tokenization.continuations(item.beginning, [f" {item.right}", f" {item.wrong}"]):
                context = contexts.setdefault((*start, *word.ids[:-1]), len(contexts))
                self._words.append((context, list(word.ids)))
        sequences = list(contexts)
        size = max(1, tokens_in_flight(model) // max(map(len, sequences), default=1))
        order = sorted(range(len(sequences)), key=lambda i: (-len(sequences[i]), i))
        self._batches = [order[k : k + size] for k in range(0, len(order), size)]
        tokens = [model.pad([Encoded(list(sequences[i]), 0) for i in batch]) for batch in self._batches]
        self._passes = KeptPasses(model, tokens, layers)

    @torch.no_grad()
    def right(self, steered: Steered | None = None, *, lowest: int | None = None) -> Bool[np.ndarray, " item"]:
        """Whether the right word's log-probability per token is above the wrong one's.

        Args:
            lowest: the lowest layer that is steered, if known: what is below is not computed again.
        """
        found = self._passes.unsteered if steered is None else self._passes.under(steered, lowest)
        scores = np.zeros(len(self._words))
        for batch, residuals in zip(self._batches, found, strict=True):
            row = {context: i for i, context in enumerate(batch)}
            for i, (context, word) in enumerate(self._words):
                if context in row:
                    before = residuals[row[context], residuals.shape[1] - len(word) :]
                    log_probs = self.model.unembed(before).float().log_softmax(-1)
                    scores[i] = float(log_probs[torch.arange(len(word)), word].mean())
        return scores[::2] > scores[1::2]
