"""How much to believe each reading of an emotion: a handful of scalars, from a handful of labelled examples."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from interp.steering.evidence import Evidence, standardised

BEFORE = (0.5, 1.0, 1.0)
"""What each reading of `Evidence` is worth, in nats a standard deviation, before a label is seen."""
PROBE_BEFORE = 1.0
HOLD, HOLD_BIAS = 0.1, 1.0
"""Precision of the weights' logarithms around what they were before, and of the biases around zero."""
UNSEEN = -3.0
"""Bias of a label of which no example was given, while others have some."""
LOUDEST = 1.5
"""Nats by which the labels' scores of a text differ, as a standard deviation, on average over texts, at most."""
PROBE_PENALTY, PROBE_FOLDS = 0.01, 5
NEVER = -3.0
"""Decision value of a label that a probe has not seen."""

Array = np.ndarray


class Weighing(NamedTuple):
    """Scores of labels as a sum of readings: `sum_r weights[r] * reading[r] + bias`, in nats."""

    weights: Float[Array, " reading"]
    bias: Float[Array, " label"]

    def scores(self, readings: Float[Array, "reading text label"]) -> Float[Array, "text label"]:
        return np.asarray(np.tensordot(self.weights, readings, 1) + self.bias)


class Weighed(NamedTuple):
    """Scores of every text, and the weighing that gave them (the readings are `Evidence`'s, then the probe's)."""

    scores: Float[Array, "text label"]
    weighing: Weighing


def weigh(
    readings: Float[Array, "reading example label"],
    gold: Int[Array, " example"],
    before: Sequence[float],
) -> Weighing:
    """Maximum a posteriori: multinomial likelihood, weights log-normal around `before`, biases normal around zero.

    A weight cannot change its sign, and where labels say nothing it stays what it was.

    Args:
        gold: label numbers; labels that never occur among some are taken for ones that this corpus lacks.
    """
    n, n_labels = len(readings), readings.shape[2]
    start = np.log(np.asarray(before, float))
    rows = np.arange(len(gold))

    def loss(values: Array) -> tuple[float, Array]:
        weights, bias = np.exp(values[:n]), values[n:]
        log_p = log_softmax(np.tensordot(weights, readings, 1) + bias, axis=1)
        residual = np.exp(log_p)
        residual[rows, gold] -= 1
        by_weight = np.einsum("rel,el->r", readings, residual) * weights + 2 * HOLD * (values[:n] - start)
        held = HOLD * ((values[:n] - start) ** 2).sum() + HOLD_BIAS * (bias**2).sum()
        return float(held - log_p[rows, gold].sum()), np.concatenate(
            [by_weight, residual.sum(0) + 2 * HOLD_BIAS * bias]
        )

    found = minimize(loss, np.concatenate([start, np.zeros(n_labels)]), jac=True, method="L-BFGS-B").x
    bias = found[n:]
    bias[np.setdiff1d(np.arange(n_labels), gold)] += UNSEEN if len(gold) else 0.0
    return Weighing(np.exp(found[:n]), bias)


def weighed(
    evidence: Evidence, states: Float[Array, "text column"], rows: Int[Array, " example"], gold: Int[Array, " example"]
) -> Weighed:
    """Scores of every text from the label-free readings and, where an emotion has two examples, a linear probe.

    The probe's weight is fitted on what it says of examples that it was not trained on (stacking, Wolpert 1992).

    Args:
        states: what the probe reads, standardised.
        rows: places of the labelled examples among the texts.
        gold: their label numbers.
    """
    readings, before = np.stack(evidence), list(BEFORE)
    labelled = readings[:, rows]
    counts = np.bincount(gold)[np.unique(gold)] if len(gold) else np.zeros(1, int)
    if len(counts) > 1 and counts.min() > 1:
        n_labels = readings.shape[2]
        whole = _probe(states[rows], gold, states, n_labels)
        mean, spread = whole.mean(0), np.where(whole.std(0) > 0, whole.std(0), 1)
        unseen = np.zeros((len(rows), n_labels))
        folds = StratifiedKFold(min(PROBE_FOLDS, int(counts.min())), shuffle=True, random_state=0)
        for train, test in folds.split(rows, gold):
            unseen[test] = (_probe(states[rows[train]], gold[train], states[rows[test]], n_labels) - mean) / spread
        readings = np.concatenate([readings, standardised(whole)[None]])
        labelled, before = np.concatenate([labelled, unseen[None]]), [*before, PROBE_BEFORE]
    weighing = weigh(labelled, gold, before)
    loud = weighing.scores(readings).std(1).mean() / LOUDEST
    if loud > 1:  # few labels that are all told apart would have it ever louder
        weighing = Weighing(weighing.weights / loud, weighing.bias / loud)
    return Weighed(weighing.scores(readings), weighing)


def _probe(
    states: Float[Array, "example column"],
    gold: Int[Array, " example"],
    asked: Float[Array, "row column"],
    n_labels: int,
) -> Float[Array, "row label"]:
    found = LogisticRegression(C=PROBE_PENALTY, max_iter=200).fit(states, gold)
    values = np.full((len(asked), n_labels), NEVER)
    decided = found.decision_function(asked)
    values[:, found.classes_] = decided if decided.ndim == 2 else np.stack([-decided, decided], axis=1)
    return values
