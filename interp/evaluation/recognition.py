"""Scores of recognised emotions, each with its interval, and paired comparisons on the same examples."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.special import softmax

from interp.statistics import Bootstrap, Estimate, accuracy, confusion_draws, macro_f1, mcnemar, recalls

Array = np.ndarray
BINS = 15
"""Of the calibration error."""


def method_scores(
    gold: Int[Array, " example"],
    logits: Mapping[str, Float[Array, "example label"]],
    labels: Sequence[str],
    prompts: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, dict[str, Estimate]]:
    """By method: recognition, calibration, and what it improves on the unsteered model and on the best prompt.

    Args:
        logits: by method, one of them `unsteered`.
        prompts: methods that change nothing but the prompt, the unsteered one among them.
    """
    answers = {method: values.argmax(1) for method, values in logits.items()}
    best_prompt = max((p for p in prompts if p in answers), key=lambda p: (answers[p] == gold).mean())
    scores = {}
    for method, predicted in answers.items():
        own = recognition_scores(gold, predicted, labels, bootstrap)
        own |= calibration_scores(gold, softmax(logits[method], axis=1), bootstrap)
        if method != "unsteered":
            own |= paired_improvements(gold, answers["unsteered"], predicted, labels, bootstrap)
            own |= recall_improvements(gold, answers["unsteered"], predicted, labels, bootstrap)
            over = paired_improvements(gold, answers[best_prompt], predicted, labels, bootstrap)
            own |= {f"{name}_over_best_prompt": e for name, e in over.items()}
        scores[method] = own
    return scores


def score_rows(corpus: str, split: str, scores: Mapping[str, Mapping[str, Estimate]]) -> list[dict[str, Any]]:
    """corpus, split, method, metric, value, ci_low, ci_high, n: a row per score of each method."""
    return [
        {"corpus": corpus, "split": split, "method": method, "metric": metric, **e.row()}
        for method, own in scores.items()
        for metric, e in own.items()
    ]


def predictions(
    examples: pd.DataFrame, logits: Mapping[str, Float[Array, "example label"]], labels: Sequence[str]
) -> pd.DataFrame:
    """id, corpus, method, gold, predicted: a row per example and method."""
    names = np.asarray(labels, dtype=object)
    parts = [
        examples[["id", "corpus", "gold"]].assign(method=method, predicted=names[values.argmax(1)])
        for method, values in logits.items()
    ]
    return pd.concat(parts, ignore_index=True)[["id", "corpus", "method", "gold", "predicted"]]


def recognition_scores(
    gold: Int[Array, " example"], predicted: Int[Array, " example"], labels: Sequence[str], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """accuracy, macro_f1 and recall_<label> (labels that occur as gold)."""
    whole = _confusion(gold, predicted, len(labels))
    draws = confusion_draws(gold, predicted, len(labels), bootstrap.weights)
    scores = {
        "accuracy": bootstrap.estimate(accuracy(whole)[0], accuracy(draws)),
        "macro_f1": bootstrap.estimate(macro_f1(whole)[0], macro_f1(draws)),
    }
    for i, label in enumerate(labels):
        count = int(whole[0, i].sum())
        if count:
            scores[f"recall_{label}"] = bootstrap.estimate(recalls(whole)[0, i], recalls(draws)[:, i], count)
    return scores


def calibration_scores(
    gold: Int[Array, " example"], probabilities: Float[Array, "example label"], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """brier (Brier 1950: squared distance to the one-hot gold, 0 to 2) and calibration_error.

    The latter is the expected calibration error of the most likely label over `BINS` equal bins (Guo et al. 2017).
    """
    one_hot = np.eye(probabilities.shape[1])[gold]
    confidence = probabilities.max(1)
    gap = (probabilities.argmax(1) == gold) - confidence
    bins = np.eye(BINS)[np.minimum((confidence * BINS).astype(int), BINS - 1)] * gap[:, None]
    return {
        "brier": bootstrap.mean(((probabilities - one_hot) ** 2).sum(1)),
        "calibration_error": bootstrap.statistic(lambda weights: np.abs(weights @ bins).sum(1) / weights.sum(1)),
    }


def paired_improvements(
    gold: Int[Array, " example"],
    before: Int[Array, " example"],
    after: Int[Array, " example"],
    labels: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, Estimate]:
    """accuracy_gain and macro_f1_gain, resampled together, and mcnemar_p (its own interval)."""
    p = mcnemar(before == gold, after == gold)
    return {
        "accuracy_gain": _improvement(accuracy, gold, before, after, len(labels), bootstrap),
        "macro_f1_gain": macro_f1_improvement(gold, before, after, len(labels), bootstrap),
        "mcnemar_p": Estimate(p, p, p, len(gold)),
    }


def macro_f1_of(gold: Int[Array, " example"], predicted: Int[Array, " example"], n_labels: int) -> float:
    """Macro-F1 of all examples, each counted once."""
    return float(macro_f1(_confusion(gold, predicted, n_labels))[0])


def macro_f1_improvement(
    gold: Int[Array, " example"],
    before: Int[Array, " example"],
    after: Int[Array, " example"],
    n_labels: int,
    bootstrap: Bootstrap,
) -> Estimate:
    """Paired change of macro-F1."""
    return _improvement(macro_f1, gold, before, after, n_labels, bootstrap)


def recall_improvements(
    gold: Int[Array, " example"],
    before: Int[Array, " example"],
    after: Int[Array, " example"],
    labels: Sequence[str],
    bootstrap: Bootstrap,
) -> dict[str, Estimate]:
    """recall_gain_<label>: paired change of each emotion's recall."""
    improvements = {}
    for i, label in enumerate(labels):
        its = (gold == i).astype(float)
        if its.any():
            change = bootstrap.ratio(its * ((after == i) - (before == i).astype(float)), its)
            improvements[f"recall_gain_{label}"] = change._replace(n=int(its.sum()))
    return improvements


def _confusion(gold: Array, predicted: Array, n_labels: int) -> Float[Array, "1 gold predicted"]:
    return confusion_draws(gold, predicted, n_labels, np.ones((1, len(gold)), np.float32))


def _improvement(
    metric: Callable[[Array], Array], gold: Array, before: Array, after: Array, n_labels: int, bootstrap: Bootstrap
) -> Estimate:
    def measure(predicted: Array, weights: Array) -> Array:
        return metric(confusion_draws(gold, predicted, n_labels, weights))

    return bootstrap.change(measure, before, after)
