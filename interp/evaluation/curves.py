"""What a steering brings from mild to strong, and by the number of labelled examples that it was fitted on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from interp.evaluation.recognition import macro_f1_improvement, macro_f1_of
from interp.statistics import Bootstrap, from_draws

Array = np.ndarray
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class Dose(NamedTuple):
    """A method's steering, scaled."""

    method: str
    strength: float


class LearntFrom(NamedTuple):
    """A method fitted on one draw of so many examples."""

    method: str
    examples: int
    draw: int


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


def learning_rows(
    corpus: str,
    gold: Int[Array, " example"],
    unsteered: Int[Array, " example"],
    answers: Mapping[LearntFrom, Int[Array, " example"]],
    n_labels: int,
) -> list[dict[str, Any]]:
    """corpus, method, examples, draws, and the mean change of macro-F1, its interval spanning 95 % of the draws."""
    before = macro_f1_of(gold, unsteered, n_labels)
    changes: dict[tuple[str, int], list[float]] = {}
    for learnt, predicted in answers.items():
        change = macro_f1_of(gold, predicted, n_labels) - before
        changes.setdefault((learnt.method, learnt.examples), []).append(change)
    return [
        {"corpus": corpus, "method": method, "examples": examples, "draws": len(drawn)}
        | from_draws(float(np.mean(drawn)), np.array(drawn), len(gold)).row()
        for (method, examples), drawn in changes.items()
    ]
