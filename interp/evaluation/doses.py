"""Dose and response: what a steering changes from mild to strong."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from interp.evaluation.recognition import macro_f1_improvement
from interp.statistics import Bootstrap

Array = np.ndarray
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class Dose(NamedTuple):
    """A method's steering, scaled."""

    method: str
    strength: float


def dose_rows(
    corpus: str,
    gold: Int[Array, " example"],
    unsteered: Int[Array, " example"],
    answers: Mapping[Dose, Int[Array, " example"]],
    n_labels: int,
    bootstrap: Bootstrap,
) -> list[dict[str, Any]]:
    """corpus, method, strength, changed (share of answers), and the change of macro-F1 with its interval."""
    return [
        {"corpus": corpus, **dose._asdict(), "changed": float((predicted != unsteered).mean())}
        | macro_f1_improvement(gold, unsteered, predicted, n_labels, bootstrap).row()
        for dose, predicted in answers.items()
    ]
