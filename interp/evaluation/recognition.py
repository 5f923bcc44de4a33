"""Scores of recognised emotions, each with its interval, and paired comparisons on the same examples."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from interp.statistics import (
    Estimate,
    accuracy,
    confusion_draws,
    from_draws,
    macro_f1,
    mcnemar,
    mean_estimate,
    recalls,
)

Array = np.ndarray


BINS = 15


def calibration_scores(
    gold: Int[Array, " example"],
    probabilities: Float[Array, "example label"],
    weights: Float[Array, "resample example"],
) -> dict[str, Estimate]:
    """brier (Brier 1950: squared distance to the one-hot gold, 0 to 2) and calibration_error.

    The latter is the expected calibration error of the most likely label over `BINS` equal bins (Guo et al. 2017).
    """
    n = len(gold)
    one_hot = np.eye(probabilities.shape[1])[gold]
    brier = mean_estimate(((probabilities - one_hot) ** 2).sum(1), weights)
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == gold) - confidence
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)] * gap[:, None]
    draws = np.abs(weights @ bins).sum(1) / weights.sum(1)
    return {"brier": brier, "calibration_error": from_draws(float(np.abs(bins.sum(0)).sum() / n), draws, n)}


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
