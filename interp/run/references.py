"""What a run's steerings are compared with: other prompts, a shift of the answers, a probe, a fine-tuned model."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from interp.engine.capture import capture
from interp.errors import InterpWarning
from interp.evaluation import references
from interp.files.units import Units
from interp.run.session import Session
from interp.run.steerings import language_quality
from interp.statistics import Estimate
from interp.steering.tuning import EPOCHS, tuned
from interp.texts.prompts import build_prompts

Array = np.ndarray


class Tuned(NamedTuple):
    """Answers of the fine-tuned model, and what the tuning costs in language."""

    logits: Array
    cost: dict[str, Estimate]


def reference_logits(session: Session, rows: Array, units: Units) -> dict[str, Array]:
    """By method, [row, answer]: answers of what needs no steering."""
    model, labels, template = session.model, session.labels, session.config.prompt.template
    unlabelled, fit = session.role("fit"), session.labelled_rows
    known = session.table[[f"logp_{label}" for label in labels]].to_numpy()
    logits = {
        "answer_prior": references.without_prior(known[rows], known[unlabelled]),
        "answer_bias": references.with_bias(known[rows], known[fit], session.gold(fit)),
    }
    solved = [session.examples[row][1] for row in fit]
    makers: dict[str, Callable[[], Array]] = {}
    for n in references.SHOTS:
        shots = references.shots_that_fit(model, solved, labels, template, n, session.seed("few shot"))
        if shots is not None:
            prompts = build_prompts(session.texts(rows), labels, template=template, shots=shots)
            makers[f"few_shot_{n}"] = partial(references.few_shot, model, prompts, labels, session.answers)

    def probe() -> Array:
        layers = session.progress(session.saes.layers, "probe", "layer")
        data = references.ProbeData(lambda k: session.residuals(k).float().numpy(), fit, session.gold(fit), len(labels))
        answered = references.probe(data, layers, rows, session.seed("probe"))
        return known[rows] if answered is None else answered

    makers["probe"] = probe
    found = session.each(lambda one: units.array(*one), list(makers.items()), "references", "method")
    return logits | dict(zip(makers, found, strict=True))


def tuned_answers(session: Session, rows: Array, units: Units) -> Tuned | None:
    """None unless low-rank fine-tuning was asked for and is possible."""
    rank = session.config.steering.low_rank
    if not rank:
        return None
    if session.answers.whole or session.config.quantization is not None:
        reason = "labels are scored as whole words" if session.answers.whole else "the model is quantized"
        warnings.warn(f"No low-rank tuning: {reason}.", InterpWarning, stacklevel=2)
        return None

    def make() -> dict[str, Array]:
        fit, epochs = session.labelled_rows, session.progress(range(EPOCHS), "low-rank tuning", "epoch")
        prompts, first, seed = session.prompts(session.texts(fit)), session.answers.first, session.seed("tuning")
        tuning = tuned(session.model, prompts, session.gold(fit), first, rank, seed, epochs=epochs)
        try:
            with tuning.applied():
                captured = capture(session.model, session.prompts(session.texts(rows)), answers=session.labels)
            cost = language_quality(session, tuning.applied)
        finally:
            tuning.remove()
        values = {name: np.array(e, dtype=float) for name, e in cost.items()}
        return {"logits": captured.answer_logits.float().cpu().numpy()} | values

    kept = units.arrays("low rank tuning", make)
    costs = {name: kept[name].tolist() for name in ("perplexity_ratio", "kl")}
    estimates = {name: Estimate(value, low, high, int(n)) for name, (value, low, high, n) in costs.items()}
    return Tuned(kept["logits"], estimates)
