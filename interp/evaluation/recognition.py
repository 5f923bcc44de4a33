"""Scores of recognised emotions, each with its interval, and paired comparisons on the same examples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from interp.evaluation.statistics import (
    Estimate,
    accuracy,
    confusion_draws,
    from_draws,
    macro_f1,
    mcnemar,
    recalls,
)

Array = np.ndarray


def recognition_scores(
    gold: Int[Array, " example"],
    predicted: Int[Array, " example"],
    labels: Sequence[str],
    weights: Float[Array, "resample example"],
) -> dict[str, Estimate]:
    """accuracy, macro_f1 and recall_<label> (labels that occur as gold)."""
    n = len(gold)
    whole = confusion_draws(gold, predicted, len(labels), np.ones((1, n), np.float32))[0]
    draws = confusion_draws(gold, predicted, len(labels), weights)
    scores = {
        "accuracy": from_draws(float(accuracy(whole)), accuracy(draws), n),
        "macro_f1": from_draws(float(macro_f1(whole)), macro_f1(draws), n),
    }
    for i, label in enumerate(labels):
        count = int(whole[i].sum())
        if count:
            drawn = recalls(draws)[:, i]
            scores[f"recall_{label}"] = from_draws(float(recalls(whole)[i]), drawn[~np.isnan(drawn)], count)
    return scores


def paired_gains(
    gold: Int[Array, " example"],
    before: Int[Array, " example"],
    after: Int[Array, " example"],
    labels: Sequence[str],
    weights: Float[Array, "resample example"],
) -> dict[str, Estimate]:
    """accuracy_gain and macro_f1_gain, resampled together, and mcnemar_p (its own interval)."""
    ones = np.ones((1, len(gold)), np.float32)
    gains = {}
    for name, metric in (("accuracy_gain", accuracy), ("macro_f1_gain", macro_f1)):
        value, draws = (
            metric(confusion_draws(gold, after, len(labels), w)) - metric(confusion_draws(gold, before, len(labels), w))
            for w in (ones, weights)
        )
        gains[name] = from_draws(float(value[0]), draws, len(gold))
    p = mcnemar(before == gold, after == gold)
    return {**gains, "mcnemar_p": Estimate(p, p, p, len(gold))}
