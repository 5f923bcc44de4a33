"""A small check of general ability that runs offline: which of two words ends a sentence."""

import csv
from collections.abc import Sequence
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool

from interp.model import Encoded, LanguageModel

BATCH = 32


class Cloze(NamedTuple):
    """A sentence's beginning with the word that ends it and one of the same kind that does not."""

    kind: str
    beginning: str
    right: str
    wrong: str


def load_cloze() -> list[Cloze]:
    """The bundled items, written for this project: agreement, everyday knowledge, opposites and categories."""
    text = (files("interp") / "data" / "cloze.csv").read_text(encoding="utf-8")
    return [Cloze(*row) for row in list(csv.reader(text.splitlines()))[1:]]


@torch.no_grad()
def cloze_right(model: LanguageModel, items: Sequence[Cloze]) -> Bool[np.ndarray, " item"]:
    """Whether the right word's log-probability per token is above the wrong one's."""
    rows: list[tuple[list[int], list[int]]] = []
    for item in items:
        start = model.ids(item.beginning, chat=False)
        words = model.tokenization.continuations(item.beginning, [f" {word}" for word in item[2:]])
        rows += [(start, list(word.ids)) for word in words]
    scores = np.zeros(len(rows))
    for first in range(0, len(rows), BATCH):
        batch = rows[first : first + BATCH]
        tokens = model.pad([Encoded(start + word, 0) for start, word in batch])
        logits = model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.positions).logits
        log_probs = logits.float().log_softmax(-1)
        for i, (_, word) in enumerate(batch):
            places = torch.arange(tokens.ids.shape[1] - len(word), tokens.ids.shape[1])
            scores[first + i] = float(log_probs[i, places - 1, tokens.ids[i, places]].mean())
    return scores[::2] > scores[1::2]
