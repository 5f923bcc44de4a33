"""Stage `learning`: what a steering gains from how many labelled examples of each emotion."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.evaluation.curves import LearntFrom, learning_rows
from interp.evaluation.references import residual_probe, with_bias, without_prior
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.steerings import few, remembered
from interp.statistics import Bootstrap
from interp.steering.coupled import Few, couple, coupled_steering
from interp.steering.steering import Steering

SIZES = (0, 1, 2, 5, 10, 20, 50)
"""Labelled examples of each emotion."""
COLUMNS = [
    *("method", "corpus", "labels", "macro_f1", "value", "ci_low", "ci_high", "draw_low", "draw_high"),
    *("over_bias", "over_bias_low", "over_bias_high", "draws", "n"),
]

Array = np.ndarray


@stage(
    "learning",
    reads=("examples.parquet", "activations", "steering.json"),  # whose settings it shares
    writes=("learning.parquet", "units/learning"),
    fields=("steering.learning_curve", "steering.readers", "steering.first_layer", "resamples", "seed"),
)
def run(session: Session) -> None:
    """Writes `learning.parquet`: change of macro-F1 on the test corpora by method and number of labels.

    Nothing is chosen: each draw of labelled examples is coupled, whatever it is worth.
    """
    draws = session.config.steering.learning_curve
    units, texts = session.units("learning"), session.made(few) if draws else None
    lines = [] if texts is None else _curves(session, texts, draws, units)
    tables.write(session.folder / "learning.parquet", pd.DataFrame(lines, columns=COLUMNS))
    units.clear()


def _curves(session: Session, texts: Few, draws: int, units: Units) -> list[dict[str, Any]]:
    drawn, rows = dict(_drawn(session, draws)), session.role("test")
    makers: dict[LearntFrom, Any] = {
        learnt._replace(method=method): steering
        for learnt, (places, gold) in drawn.items()
        for method, steering in _couplings(texts, places, gold, learnt.draw).items()
    }

    def steering(own: LearntFrom) -> Steering:
        return remembered(units, " ".join(map(str, own)), makers[own])

    found = session.each(steering, list(makers), "learning curve", "draw")
    edits: dict[LearntFrom, Any] = {own: one.edits(session.saes) for own, one in zip(makers, found, strict=True)}
    unsteered = LearntFrom("unsteered", 0, 0)
    logits = session.logits_under(rows, {unsteered: {}} | edits, "learning curve", units=units)
    logits |= _references(session, texts, drawn, rows)
    table = session.table.iloc[rows].reset_index(drop=True)
    lines = []
    for corpus, part in table.groupby("corpus", sort=False):
        places = part.index.to_numpy()
        answers = {key: values[places].argmax(1) for key, values in logits.items()}
        before = answers.pop(unsteered)
        bootstrap = Bootstrap(part["group"].tolist(), session.config.resamples, session.seed(f"learning {corpus}"))
        gold, seed = session.gold(rows[places]), session.seed("draws")
        lines += learning_rows(str(corpus), gold, before, answers, len(session.labels), bootstrap, seed)
    return lines


def _drawn(session: Session, draws: int) -> Iterator[tuple[LearntFrom, tuple[Array, Array]]]:
    """By number of labels and draw: places of labelled examples among the fit texts, and their labels.

    A larger draw holds the smaller ones of its number. Where an emotion has fewer examples, all of them are taken.
    """
    gold = session.gold(session.role("fit"))
    counts = np.bincount(gold, minlength=len(session.labels))
    for draw in range(draws):
        order = np.random.default_rng([session.seed("learning"), draw]).permutation(len(gold))
        for size in (s for s in SIZES if s <= counts.max()):
            if size or not draw:  # without a label there is nothing to draw
                taken = [order[gold[order] == label][:size] for label in range(len(counts))]
                places = np.sort(np.concatenate(taken))
                yield LearntFrom("", size, draw), (places, gold[places])


def _couplings(texts: Few, places: Array, gold: Array, draw: int) -> Mapping[str, Any]:
    def control() -> Steering:
        return couple(texts, places, gold, control=draw).steering

    random = "random_features" if texts.sparse else "random_directions"
    return {"coupled": partial(coupled_steering, texts, places, gold), random: control}


def _references(
    session: Session, texts: Few, drawn: Mapping[LearntFrom, tuple[Array, Array]], rows: Array
) -> dict[LearntFrom, Array]:
    """What needs no steering: answers less their means over unlabelled texts, a bias on them, a probe."""
    known = session.table[[f"logp_{label}" for label in session.labels]].to_numpy()
    fit = session.role("fit")
    states = session.residuals(texts.layer).double().numpy()
    logits = {LearntFrom("answer_prior", 0, 0): without_prior(known[rows], known[fit])}
    for learnt, (places, gold) in drawn.items():
        if learnt.labels:
            logits[learnt._replace(method="answer_bias")] = with_bias(known[rows], known[fit[places]], gold)
            probed = residual_probe(states[fit], places, gold, states[rows], len(session.labels))
            logits[learnt._replace(method="probe")] = probed
    return logits
