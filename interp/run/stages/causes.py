"""Stage `causes`: causal features together - are they necessary, are they sufficient, whose place do they take?"""

from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.labelled import LabelledExamples
from interp.analysis.together import (
    NEUTRAL,
    CausalSet,
    Features,
    Inserted,
    Necessity,
    causal_sets,
    cofiring,
    necessity,
    sufficiency,
    typical_activations,
    union,
)
from interp.engine import insertion, removal
from interp.engine.suffix import ResidualEdit
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.texts.examples import load_corpus


@stage(
    "causes",
    reads=("examples.parquet", "features", "effects.parquet"),
    writes=("joint.parquet", "overshadowing.parquet", "insertion.parquet", "cofiring.parquet", "units/causes"),
    fields=("resamples", "seed"),
    cost=lambda work: work.discover * 4 * len(work.config.labels) * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `joint.parquet`, `overshadowing.parquet`, `insertion.parquet` and `cofiring.parquet`."""
    units, folder = session.units("causes"), session.folder
    sets = causal_sets(tables.read(folder / "effects.parquet"), session.labels, session.config.seed)
    examples = session.labelled(session.role("discover"))
    joint, overshadowing = _necessity(session, sets, session.labelled(session.traced_rows()), units)
    tables.write(folder / "joint.parquet", joint)
    tables.write(folder / "overshadowing.parquet", overshadowing)
    tables.write(folder / "insertion.parquet", _sufficiency(session, sets, examples, units))
    tables.write(folder / "cofiring.parquet", cofiring(sets, _active(session, sets, examples), examples))
    units.clear()


def _necessity(session: Session, sets: list[CausalSet], examples: LabelledExamples, units: Units) -> Necessity:
    def without(emotion: int) -> dict[Any, np.ndarray]:
        own, rows = sets[emotion], examples.rows[examples.members(emotion)]
        removals = own.removals()
        restricted = session.saes.restricted(union(removals.values()))
        edits: dict[Any, Any] = {"before": {}}
        edits |= {removed: removal(session.model, restricted, f) for removed, f in removals.items()}
        return session.logits_under(rows, edits, f"remove {own.emotion}", units=units)

    asked = [e for e, own in enumerate(sets) if own.removals() and len(examples.members(e))]
    after = dict(zip(asked, session.each(without, asked, "remove", "emotion"), strict=True))
    before = {emotion: found.pop("before") for emotion, found in after.items()}
    return necessity(before, after, examples)


def _sufficiency(session: Session, sets: list[CausalSet], examples: LabelledExamples, units: Units) -> pd.DataFrame:
    """In the texts of the examples, and in neutral ones that ship with the package."""
    edits: dict[Any, Any] = {"before": {}}
    for emotion, own in enumerate(sets):
        for control in (False, True) if len(own) else ():
            edits[Inserted(emotion, control)] = _insertion(
                session, own.by_layer(control=control), examples.rows[examples.members(emotion)]
            )
    texts = [session.examples[r][1].text for r in examples.rows]
    texts += [e.text for e in load_corpus("vignettes", split="discover", labels=[NEUTRAL])]
    after = session.logits_under(texts, edits, "insert", units=units)
    return sufficiency(after.pop("before"), after, examples)


def _insertion(session: Session, features: Features, rows: np.ndarray) -> dict[int, ResidualEdit]:
    """Sets each feature to its mean activation over the examples of its emotion on which it is active."""
    values = {}
    for layer, of_layer in features.items():
        acts = session.features(layer).acts[rows][:, of_layer].toarray()
        values[layer] = dict(zip(of_layer, typical_activations(acts).tolist(), strict=True))
    return insertion(session.saes.restricted(features), values)


def _active(session: Session, sets: list[CausalSet], examples: LabelledExamples) -> dict[tuple[int, int], np.ndarray]:
    """By (layer, feature), on which examples it is active."""
    active: dict[tuple[int, int], np.ndarray] = {}
    for layer, features in union(own.by_layer() for own in sets).items():
        acts = session.features(layer).acts[examples.rows][:, features].toarray()
        active |= {(layer, feature): acts[:, column] > 0 for column, feature in enumerate(features)}
    return active
