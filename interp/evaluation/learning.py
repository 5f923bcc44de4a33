"""Learning curves: what a steering brings by the number of labelled examples that it was fitted on."""

from collections.abc import Iterable, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from interp.evaluation.recognition import macro_f1_of
from interp.statistics import from_draws

Array = np.ndarray


class LearntFrom(NamedTuple):
    """A method fitted on one draw of so many examples."""

    method: str
    examples: int
    draw: int

    @classmethod
    def all(cls, method: str, sizes: Iterable[int], draws: int) -> list["LearntFrom"]:
        return [cls(method, examples, draw) for examples, draw in product(sizes, range(draws))]


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
