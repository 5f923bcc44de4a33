"""What a steering brings from mild to strong, and by the number of labelled examples that it was fitted on."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from interp.evaluation.recognition import macro_f1_improvement
from interp.statistics import Bootstrap, confusion_draws, from_draws, macro_f1

Array = np.ndarray
STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)


class Dose(NamedTuple):
    """A method's steering, scaled."""

    method: str
    strength: float


class LearntFrom(NamedTuple):
    """A method fitted on one draw of so many examples of each emotion."""

    method: str
    labels: int
    draw: int


BIAS = "answer_bias"
"""The rival that costs nothing, over which a method's improvement is told as well."""


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
    bootstrap: Bootstrap,
    seed: int,
) -> list[dict[str, Any]]:
    """By method and number of labels: mean macro-F1 over draws, its change from unsteered, and from a bias.

    Intervals are of these means, over draws and texts: both are resampled, texts alike for all methods.
    `draw_low` and `draw_high` span 95 % of the single draws.

    Args:
        seed: of the resampled draws.
    """
    ones = np.ones((1, len(gold)), np.float32)
    weights = np.concatenate([ones, bootstrap.weights])  # the sample itself first
    by_draw: dict[tuple[str, int], list[Float[Array, " resample"]]] = {}
    for learnt, predicted in answers.items():
        scored = macro_f1(confusion_draws(gold, predicted, n_labels, weights))
        by_draw.setdefault((learnt.method, learnt.labels), []).append(scored)
    before = macro_f1(confusion_draws(gold, unsteered, n_labels, weights))
    means = {key: _mean_over_draws(np.stack(scored), seed) for key, scored in by_draw.items()}
    lines = []
    for (method, labels), mean in means.items():
        gain, single = mean - before, np.stack(by_draw[method, labels])[:, 0] - before[0]
        low, high = np.quantile(single, [0.025, 0.975])
        line = {"corpus": corpus, "method": method, "labels": labels, "macro_f1": float(mean[0])}
        line |= from_draws(gain[0], gain[1:], len(gold)).row() | {"draw_low": float(low), "draw_high": float(high)}
        if method != BIAS and (BIAS, labels) in means:
            over = mean - means[BIAS, labels]
            estimate = from_draws(over[0], over[1:], len(gold))
            line |= {"over_bias": estimate.value, "over_bias_low": estimate.ci_low, "over_bias_high": estimate.ci_high}
        lines.append({**line, "draws": len(single)})
    return lines


def _mean_over_draws(scored: Float[Array, "draw resample"], seed: int) -> Float[Array, " resample"]:
    """Mean over draws: of all in the first column, of resampled ones in the others."""
    n, resamples = scored.shape
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), resamples).T
    counts[:, 0] = 1
    return np.asarray((scored * counts).sum(0) / n)
