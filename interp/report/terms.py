"""Words of the first screen that a newcomer may not know, each in a clause."""

import re
from collections.abc import Iterable
from typing import NamedTuple


class Term(NamedTuple):
    """A word, and what it means."""

    word: str
    meaning: str


TERMS = (
    (
        r"residual stream",
        Term("Residual stream", "what a layer hands on to the next, here at the last token before the answer"),
    ),
    (
        r"probes?\b",
        Term("Probe", "a linear classifier fitted on it with labelled texts: what the layer holds, said or not"),
    ),
    (
        r"\bSAEs?\b|features?\b",
        Term("Feature", "a part of it, as a sparse autoencoder (SAE) takes it apart"),
    ),
    (r"\bcausal\b", Term("Causal", "what the answer changes without, beyond what random features of like strength do")),
    (
        r"\bnats?\b",
        Term(
            "Nat",
            "unit of log-probability: one less is 2.7 times less likely, a tenth less 1.1 times",
        ),
    ),
    (r"\bphases?\b", Term("Phase", "neighbouring layers that behave alike")),
    (r"[Mm]acro-F1", Term("Macro-F1", "F1 (of precision and recall) of every emotion, averaged; 1: all right")),
    (
        r"[Pp]erplexity",
        Term("Perplexity", "how surprised the model is by plain text; twice as much: it is damaged"),
    ),
    (r"\[[-+]?\d", Term("[low, high]", "95 % interval")),
)
"""In the order in which they are explained, by how they are found."""


def explained(sentences: Iterable[str]) -> list[Term]:
    """The terms that occur."""
    text = " ".join(sentences)
    return [term for pattern, term in TERMS if re.search(pattern, text)]
