"""Stage `side_effects`: every steering from mild to strong: what it gains where, and what else it changes."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.engine.ablation import Read
from interp.evaluation.ability import ClozeTest, load_cloze
from interp.evaluation.fluency import LOGITS_ON_CPU
from interp.evaluation.recognition import paired_gains
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.stages.evaluate import load_steerings
from interp.run.stages.steer import steering_quality
from interp.statistics import Estimate, mean_estimate, resample_weights
from interp.steering.steering import Steering
from interp.texts.examples import load_corpus

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
VALIDITY_PROMPTS = 200
"""Test prompts on which the whole vocabulary is looked at, at most."""

Array = np.ndarray


@stage(
    "side_effects",
    reads=("examples.parquet", "steering.safetensors", "steering.json", "steerings"),
    writes=("dose.parquet", "side_effects.parquet", "units/side_effects"),
    fields=("fluency", "resamples", "seed"),
)
def run(session: Session) -> None:
    """Writes `dose.parquet` (corpus, method, strength) and `side_effects.parquet` (method, metric)."""
    steerings = load_steerings(session)
    rows = session.role("test")
    units = session.units("side_effects")
    guesses = _at_strengths(session, rows, steerings, units)
    lines = []
    table = session.table.iloc[rows]
    for corpus, part in table.groupby("corpus", sort=False):
        at = np.flatnonzero(table["corpus"] == corpus)
        gold, plain = session.gold(rows[at]), guesses["unsteered", 0.0][at]
        weights = resample_weights(part["group"].tolist(), session.config.resamples, session.seed(f"dose {corpus}"))
        for (method, strength), own in guesses.items():
            if method != "unsteered":
                gain = paired_gains(gold, plain, own[at], session.labels, weights)["macro_f1_gain"]
                changed = float((own[at] != plain).mean())
                lines.append(
                    {"corpus": corpus, "method": method, "strength": strength, "changed": changed} | _values(gain)
                )
    chosen = steerings["steered"]
    for strength in session.progress(STRENGTHS if chosen.layers else (), "language", "strength"):
        quality = steering_quality(session, chosen.scaled(strength), units, f"language {strength}")
        lines += [
            {"corpus": "plain text", "method": name, "strength": strength} | _values(estimate)
            for name, estimate in quality.items()
        ]
    columns = ["corpus", "method", "strength", "value", "ci_low", "ci_high", "n", "changed"]
    tables.write(session.folder / "dose.parquet", pd.DataFrame(lines, columns=columns))
    tables.write(session.folder / "side_effects.parquet", _side_effects(session, rows, steerings, units))
    units.clear()


def _values(e: Estimate) -> dict[str, Any]:
    return {"value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.n}


def _at_strengths(
    session: Session, rows: Array, steerings: dict[str, Steering], units: Units
) -> dict[tuple[str, float], Array]:
    """Predicted label of every test example by method and strength."""
    edits: dict[tuple[str, float], Any] = {("unsteered", 0.0): {}}
    edits |= {
        (name, strength): steering.scaled(strength).edits(session.saes)
        for name, steering in steerings.items()
        for strength in (STRENGTHS if steering.layers else ())
    }
    found = session.logits_under(rows, edits, "strengths", units=units)
    return {key: logits.argmax(1) for key, logits in found.items()}


def _side_effects(session: Session, rows: Array, steerings: dict[str, Steering], units: Units) -> pd.DataFrame:
    """Per method: neutral texts, keyword-free texts, validity of answers, general ability."""
    neutral = load_corpus("vignettes", split="all", labels=["neutral"])
    edits: dict[str, Any] = {"unsteered": {}} | {name: s.edits(session.saes) for name, s in steerings.items()}
    neutral_answers = _answers(session.logits_under([e.text for e in neutral], edits, "neutral texts", units=units))
    lines = []
    items = load_cloze()
    kinds = np.array([i.kind for i in items])
    cloze = ClozeTest(session.model, items, session.saes.layers)
    valid = {
        name: mass[:, 0]
        for name, mass in session.logits_under(
            rows[:VALIDITY_PROMPTS], edits, "valid answers", units=units, read=_on_answers(session)
        ).items()
    }
    before = units.arrays("cloze unsteered", lambda: {"right": cloze.right()})["right"]
    free_rows = _keyword_free(session, rows)
    free = _answers(session.logits_under(free_rows, edits, "keyword-free", units=units)) if len(free_rows) else {}
    for name in session.progress(list(edits), "effects", "method"):
        right = before if name == "unsteered" else _cloze_under(session, cloze, steerings[name], name, units)
        found = {"cloze_accuracy": right.astype(float)}
        found |= {f"cloze_accuracy_{k}": right[kinds == k].astype(float) for k in np.unique(kinds)}
        found["answer_valid"] = valid[name]
        if name != "unsteered":
            found["cloze_accuracy_gain"] = right.astype(float) - before
            found["answer_valid_gain"] = found["answer_valid"] - valid["unsteered"]
            found["neutral_changed"] = (neutral_answers[name] != neutral_answers["unsteered"]).astype(float)
        if len(free_rows):
            gold = session.gold(free_rows)
            found["keyword_free_accuracy"] = (free[name] == gold).astype(float)
            change = found["keyword_free_accuracy"] - (free["unsteered"] == gold)
            found |= {} if name == "unsteered" else {"keyword_free_accuracy_gain": change}
        for metric, values in found.items():
            weights = resample_weights(range(len(values)), session.config.resamples, session.seed(f"effect {metric}"))
            lines.append({"method": name, "metric": metric} | _values(mean_estimate(values, weights)))
    return pd.DataFrame(lines)


def _answers(logits: dict[str, Array]) -> dict[str, Array]:
    return {name: values.argmax(1) for name, values in logits.items()}


def _cloze_under(session: Session, cloze: ClozeTest, steering: Steering, name: str, units: Units) -> Array:
    """Which items are right with the steering at every position."""

    def make() -> dict[str, Array]:
        apply = partial(steering.applied, session.model, session.saes, positions="all")
        return {"right": cloze.right(apply, lowest=min(steering.layers, default=session.model.n_layers))}

    return units.arrays(f"cloze {name}", make)["right"]


def _keyword_free(session: Session, rows: Array) -> Array:
    return rows[session.table["keyword_free"].iloc[rows].fillna(False).to_numpy(dtype=bool)]


def _on_answers(session: Session) -> Read:
    """From last-layer residuals, the probability of the answers' first tokens among the whole vocabulary."""
    model = session.model
    first = torch.tensor(sorted({int(ids[0]) for ids in session.answers.tokens}), device=model.device)
    size = max(1, LOGITS_ON_CPU // len(model.head_weight))

    def read(x: torch.Tensor) -> torch.Tensor:
        flat = x.flatten(0, -2).split(size)
        mass = torch.cat([model.unembed(part).float().softmax(-1)[:, first].sum(-1) for part in flat])
        return mass.view(*x.shape[:-1], 1)

    return read
