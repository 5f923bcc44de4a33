"""Stage `evaluate`: the chosen steering scored once on the test corpora, beside other methods, prompts and probes."""

import warnings
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.engine.capture import capture
from interp.errors import InterpWarning
from interp.evaluation import references
from interp.evaluation.recognition import method_scores, predictions, score_rows
from interp.files.folder import write_table
from interp.run.session import Session
from interp.run.steerings import language_quality, load_steerings, steering_quality
from interp.run.units import Units
from interp.statistics import Bootstrap, Estimate
from interp.steering.tuning import EPOCHS, tuned
from interp.texts.prompts import build_prompts

Array = np.ndarray
TUNED = "low_rank_tuning"


def run(session: Session) -> None:
    """Writes `evaluation.parquet` and `predictions.parquet`."""
    units, steerings, rows = session.units("evaluate"), load_steerings(session), session.role("test")
    edits: dict[str, Any] = {"unsteered": {}} | {name: s.edits(session.saes) for name, s in steerings.items()}
    logits = session.logits_under(rows, edits, "evaluate", units=units) | _references(session, rows, units)
    lines: list[dict[str, Any]] = []
    if _can_be_tuned(session):
        kept = units.arrays("low rank tuning", partial(_tuned, session, rows))
        logits[TUNED] = kept["logits"]
        cost = {name: Estimate(*kept[name][:3].tolist(), int(kept[name][3])) for name in ("perplexity_ratio", "kl")}
        lines += score_rows("plain text", "all", {TUNED: cost})
    table = session.table.iloc[rows].reset_index(drop=True)
    for (corpus, split), part in table.groupby(["corpus", "split"], sort=False):
        places = part.index.to_numpy()
        bootstrap = Bootstrap(part["group"].tolist(), session.config.resamples, session.seed(f"test {corpus}"))
        here = {method: values[places] for method, values in logits.items()}
        gold = session.gold(rows[places])
        scores = method_scores(gold, here, session.labels, references.PROMPTS, bootstrap)
        lines += score_rows(str(corpus), str(split), scores)
    for method, steering in session.progress(list(steerings.items()), "plain text", "method"):
        quality = steering_quality(session, steering, units, f"language {method}")
        lines += score_rows("plain text", "all", {method: quality})
    write_table(session.folder / "predictions.parquet", predictions(table, logits, session.labels))
    write_table(session.folder / "evaluation.parquet", pd.DataFrame(lines).assign(seed=session.config.seed))
    units.clear()


def _references(session: Session, rows: Array, units: Units) -> dict[str, Array]:
    """Answers of what needs no steering: other prompts, a shift of the answers, a probe."""
    model, labels, template, fit = session.model, session.labels, session.config.prompt.template, session.role("fit")
    known = session.table[[f"logp_{label}" for label in labels]].to_numpy()
    logits = {
        "answer_prior": references.without_prior(known[rows], known[fit]),
        "answer_bias": references.with_bias(known[rows], known[fit], session.gold(fit)),
    }
    texts = [session.examples[r][1].text for r in rows]
    for n in references.SHOTS:
        solved = [e for role, e in session.examples if role == "fit"]
        shots = references.shots_that_fit(model, solved, labels, template, n, session.seed("few shot"))
        if shots is not None:
            prompts = build_prompts(texts, labels, template=template, shots=shots)
            make = partial(references.few_shot, model, prompts, labels, session.answers)
            logits[f"few_shot_{n}"] = units.array(f"few_shot_{n}", make)

    def probe() -> Array:
        layers = session.progress(session.saes.layers, "probe", "layer")
        gold, seed = session.gold(fit), session.seed("probe")
        found = references.probe(
            lambda k: session.residuals(k).float().numpy(), layers, fit, gold, rows, len(labels), seed
        )
        return known[rows] if found is None else found

    return logits | {"probe": units.array("probe", probe)}


def _can_be_tuned(session: Session) -> bool:
    """Whether low-rank fine-tuning was asked for and is possible."""
    config = session.config
    if not config.steering.low_rank:
        return False
    if session.answers.whole or config.quantization is not None:
        reason = "labels are scored as whole words" if session.answers.whole else "the model is quantized"
        warnings.warn(f"No low-rank tuning: {reason}.", InterpWarning, stacklevel=2)
        return False
    return True


def _tuned(session: Session, rows: Array) -> dict[str, Array]:
    """Answers of the fine-tuned model, and what the tuning costs in language."""
    fit, texts = session.role("fit"), [e.text for _, e in session.examples]
    tuning = tuned(
        session.model,
        session.prompts([texts[r] for r in fit]),
        session.gold(fit),
        session.answers.first,
        session.config.steering.low_rank,
        session.seed("tuning"),
        epochs=session.progress(range(EPOCHS), "low-rank tuning", "epoch"),
    )
    try:
        with tuning.applied():
            logits = capture(session.model, session.prompts([texts[r] for r in rows]), answers=session.labels)
        cost = language_quality(session, tuning.applied)
    finally:
        tuning.remove()
    values = {name: np.array(e, dtype=float) for name, e in cost.items()}
    return {"logits": logits.answer_logits.float().cpu().numpy()} | values
