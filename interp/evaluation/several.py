"""Scores of texts that have several emotions at once: what is right is a set, and answers are ranked.

With one emotion a text, `set_hit`, `set_micro_f1` and accuracy are the same number, `set_macro_f1` is macro-F1, and
`set_ranking` is the mean reciprocal rank. Every score counts a text with one emotion and one with several alike.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from interp.statistics import Bootstrap, Estimate
from interp.texts.emotions import TOGETHER

Array = np.ndarray


def gold_sets(gold: Sequence[str], labels: Sequence[str]) -> Bool[Array, "example label"]:
    """Which labels a text has, from one label or several in one cell (`joy + love`).

    Raises:
        ValueError: a text with none of the labels.
    """
    number = {label: i for i, label in enumerate(labels)}
    sets = np.zeros((len(gold), len(labels)), bool)
    for row, cell in enumerate(gold):
        for label in [cell] if cell in number else cell.split(TOGETHER):
            if label not in number:
                raise ValueError(f"{cell!r} is none of the labels, nor several of them")
            sets[row, number[label]] = True
    return sets


def set_scores(
    gold: Bool[Array, "example label"], logits: Float[Array, "example label"], bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """Four scores of ranked answers against sets.

    - set_hit: texts whose first answer is one of theirs;
    - set_ranking: label-ranking average precision (Schapire & Singer 2000; Tsoumakas et al. 2010, section 7.2): of a
      text's emotions, the mean share of those ranked as high that are its own. 1: all of them come first;
    - set_micro_f1, set_macro_f1: a text with k emotions is given the k first answers; F1 of all answers together, and
      the mean over emotions that some text has.
    """
    answered = RankedAnswers.of(gold, logits)
    return {name: bootstrap.statistic(partial(measure, answered)) for name, measure in MEASURES.items()}


def set_scores_by_method(
    gold: Bool[Array, "example label"], logits: Mapping[str, Float[Array, "example label"]], bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    """By method: its scores and, as `NAME_gain`, what they are above the unsteered model's on the same resamples.

    Args:
        logits: by method, one of them `unsteered`.
    """
    scores = {method: set_scores(gold, values, bootstrap) for method, values in logits.items()}
    before = RankedAnswers.of(gold, logits["unsteered"])
    for method, values in logits.items():
        if method != "unsteered":
            after = RankedAnswers.of(gold, values)
            scores[method] |= {f"{n}_gain": bootstrap.change(m, before, after) for n, m in MEASURES.items()}
    return scores


def ranking_precision(
    gold: Bool[Array, "example label"], scores: Float[Array, "example label"]
) -> Float[Array, " example"]:
    """Label-ranking average precision of every text; equal scores share the worst of their ranks."""
    among_all = rankdata(-scores, method="max", axis=1)
    among_own = rankdata(np.where(gold, -scores, np.inf), method="max", axis=1)
    return np.asarray((among_own / among_all * gold).sum(1) / gold.sum(1))


def first_answers(logits: Float[Array, "example label"], counts: Array) -> Bool[Array, "example label"]:
    """The `counts` labels of every text that rank first."""
    order = np.argsort(-logits, axis=1, kind="stable")
    given = np.zeros(logits.shape, bool)
    np.put_along_axis(given, order, np.arange(logits.shape[1])[None] < counts[:, None], axis=1)
    return given


class RankedAnswers(NamedTuple):
    """Ranked answers of some texts, as the scores need them.

    Attributes:
        gold: [example, label], the text's own emotions.
        given: [example, label], as many answers as it has emotions, the first ones.
        hit: [example], whether the first answer is one of its own.
        precision: [example], label-ranking average precision.
    """

    gold: Array
    given: Array
    hit: Array
    precision: Array

    @classmethod
    def of(cls, gold: Bool[Array, "example label"], logits: Float[Array, "example label"]) -> "RankedAnswers":
        hit = gold[np.arange(len(gold)), logits.argmax(1)]
        return cls(gold, first_answers(logits, gold.sum(1)), hit, ranking_precision(gold, logits))


def _hit(answered: RankedAnswers, weights: Float[Array, "resample example"]) -> Float[Array, " resample"]:
    return np.asarray(weights @ answered.hit / weights.sum(1))


def _ranking(answered: RankedAnswers, weights: Float[Array, "resample example"]) -> Float[Array, " resample"]:
    return np.asarray(weights @ answered.precision / weights.sum(1))


def _micro_f1(answered: RankedAnswers, weights: Float[Array, "resample example"]) -> Float[Array, " resample"]:
    # As many answers are given as are right: precision, recall and F1 are one number.
    right = (answered.gold & answered.given).sum(1)
    return np.asarray(weights @ right / (weights @ answered.gold.sum(1)))


def _macro_f1(answered: RankedAnswers, weights: Float[Array, "resample example"]) -> Float[Array, " resample"]:
    gold, given = answered.gold, answered.given
    right, has, got = (weights @ part.astype(np.float32) for part in (gold & given, gold, given))
    f1 = np.divide(2 * right, has + got, out=np.zeros(right.shape), where=has + got > 0)
    present = has > 0
    return np.asarray((f1 * present).sum(1) / present.sum(1))


MEASURES: Mapping[str, Callable[[RankedAnswers, Array], Array]] = {
    "set_hit": _hit,
    "set_ranking": _ranking,
    "set_micro_f1": _micro_f1,
    "set_macro_f1": _macro_f1,
}
"""(ranked answers, weights) -> the score of every resample."""
