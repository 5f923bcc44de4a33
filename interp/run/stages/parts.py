"""Stage `parts`: what each steered feature reads, what it does alone, and what is lost without it."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.evaluation.recognition import macro_f1_improvement
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.statistics import Bootstrap
from interp.steering.parts import parts
from interp.steering.steering import Steering

COLUMNS = [
    *("layer", "feature", "role", "emotion", "nats", "alone", "alone_low", "alone_high"),
    *("lost", "lost_low", "lost_high", "n"),
]


@stage(
    "parts",
    reads=("examples.parquet", "activations", "features", "effects.parquet", "steering.safetensors", "steering.json"),
    writes=("parts.parquet", "units/parts"),
    fields=("resamples", "seed"),
)
def run(session: Session) -> None:
    """Writes `parts.parquet`: a row per feature of the chosen steering, measured on the first test corpus."""
    steering, units = Steering.load(session.folder.path), session.units("parts")
    lines = _lines(session, steering) if steering.gains or steering.couplings else []
    tables.write(session.folder / "parts.parquet", pd.DataFrame(lines, columns=COLUMNS))
    units.clear()


def _lines(session: Session, steering: Steering) -> list[dict[str, Any]]:
    rows, fit = session.role("test"), session.role("fit")
    corpora = session.table["corpus"].iloc[rows]
    rows = rows[(corpora == corpora.iloc[0]).to_numpy()]

    def means(layer: int, features: torch.Tensor) -> torch.Tensor:
        acts = session.features(layer).acts[fit][:, features.numpy()]
        return torch.from_numpy(np.asarray(acts.mean(0), dtype=np.float32).ravel())

    every = list(parts(steering, means))
    edits: dict[Any, Any] = {"unsteered": {}, "whole": steering.edits(session.saes)}
    for part in every:
        edits |= {
            (part.layer, part.feature, "alone"): part.alone.edits(session.saes),
            (part.layer, part.feature, "without"): part.without.edits(session.saes),
        }
    logits = session.logits_under(rows, edits, "parts", units=session.units("parts"))
    answers = {name: values.argmax(1) for name, values in logits.items()}
    gold, groups = session.gold(rows), session.table["group"].iloc[rows].tolist()
    bootstrap = Bootstrap(groups, session.config.resamples, session.seed("parts"))
    lines = []
    for part in every:
        alone, without = (answers[part.layer, part.feature, kind] for kind in ("alone", "without"))
        gain = macro_f1_improvement(gold, answers["unsteered"], alone, len(session.labels), bootstrap)
        lost = macro_f1_improvement(gold, without, answers["whole"], len(session.labels), bootstrap)
        lines.append(
            {"layer": part.layer, "feature": part.feature, **_about(session, steering, part.layer, part.feature)}
            | {"alone": gain.value, "alone_low": gain.ci_low, "alone_high": gain.ci_high}
            | {"lost": lost.value, "lost_low": lost.ci_low, "lost_high": lost.ci_high, "n": len(rows)}
        )
    return lines


def _about(session: Session, steering: Steering, layer: int, feature: int) -> dict[str, Any]:
    """What it does in the steering, of which emotion, and how much: nats a standard deviation of its activation."""
    coupling = steering.couplings.get(layer)
    if coupling is None or feature not in coupling.readers.tolist():
        emotion = next((f.emotion for f in steering.causal if (f.layer, f.feature) == (layer, feature)), "")
        return {"role": "multiplied", "emotion": emotion, "nats": np.nan}
    spread = session.features(layer).acts[session.role("fit")][:, feature].toarray().std()
    weights = coupling.weights[coupling.readers == feature][0].numpy() * spread
    weights = weights - weights.mean()
    most = int(np.abs(weights).argmax())
    role = "reads and says" if feature in coupling.writers.tolist() else "reads"
    return {"role": role, "emotion": session.labels[most], "nats": float(weights[most])}
