"""Stage `side_effects`: every steering from mild to strong: what it gains where, and what else it changes."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from interp.evaluation.ability import ClozeTest, load_cloze
from interp.evaluation.doses import STRENGTHS, Dose, dose_rows
from interp.evaluation.side_effects import Outcome, label_mass, side_effects
from interp.files.folder import write_table
from interp.run.session import Session
from interp.run.steerings import load_steerings, lowest_layer, steering_quality
from interp.run.units import Units
from interp.statistics import Bootstrap
from interp.steering.steering import Steering
from interp.texts.examples import load_corpus

VALIDITY_PROMPTS = 200
"""Test prompts on which the whole vocabulary is looked at, at most."""

Array = np.ndarray


def run(session: Session) -> None:
    """Writes `dose.parquet` (corpus, method, strength) and `side_effects.parquet` (method, metric)."""
    units, steerings, rows = session.units("side_effects"), load_steerings(session), session.role("test")
    plain = Dose("unsteered", 0.0)
    edits: dict[Dose, Any] = {plain: {}} | {
        Dose(method, strength): steering.scaled(strength).edits(session.saes)
        for method, steering in steerings.items()
        for strength in (STRENGTHS if steering.layers else ())
    }
    logits = session.logits_under(rows, edits, "strengths", units=units)
    answers = {dose: values.argmax(1) for dose, values in logits.items()}
    lines: list[dict[str, Any]] = []
    table = session.table.iloc[rows].reset_index(drop=True)
    for corpus, part in table.groupby("corpus", sort=False):
        places = part.index.to_numpy()
        bootstrap = Bootstrap(part["group"].tolist(), session.config.resamples, session.seed(f"dose {corpus}"))
        here = {dose: predicted[places] for dose, predicted in answers.items()}
        before = here.pop(plain)
        lines += dose_rows(str(corpus), session.gold(rows[places]), before, here, len(session.labels), bootstrap)
    chosen = steerings["steered"]
    for strength in session.progress(STRENGTHS if chosen.layers else (), "language", "strength"):
        quality = steering_quality(session, chosen.scaled(strength), units, f"language {strength}")
        about = {"corpus": "plain text", "strength": strength}
        lines += [{**about, "method": metric, **e.row()} for metric, e in quality.items()]
    columns = ["corpus", "method", "strength", "value", "ci_low", "ci_high", "n", "changed"]
    write_table(session.folder / "dose.parquet", pd.DataFrame(lines, columns=columns))
    write_table(session.folder / "side_effects.parquet", _side_effects(session, rows, steerings, units))
    units.clear()


def _side_effects(session: Session, rows: Array, steerings: Mapping[str, Steering], units: Units) -> pd.DataFrame:
    """Per method: neutral texts, keyword-free texts, validity of answers, general ability."""
    edits: dict[str, Any] = {"unsteered": {}} | {name: s.edits(session.saes) for name, s in steerings.items()}
    logits_under = partial(session.logits_under, edits=edits, units=units)
    neutral = logits_under(
        [e.text for e in load_corpus("vignettes", split="all", labels=["neutral"])], description="neutral texts"
    )
    mass = label_mass(session.model, [int(ids[0]) for ids in session.answers.tokens])
    valid = logits_under(rows[:VALIDITY_PROMPTS], description="valid answers", read=mass)
    free_rows = rows[session.table["keyword_free"].iloc[rows].fillna(False).to_numpy(dtype=bool)]
    free = logits_under(free_rows, description="keyword-free")
    items = load_cloze()
    cloze = ClozeTest(session.model, items, session.saes.layers)

    def right(method: str) -> Array:
        if method == "unsteered":
            return cloze.right()
        apply = partial(steerings[method].applied, session.model, session.saes, positions="all")
        return cloze.right(apply, lowest=lowest_layer(session, steerings[method]))

    outcomes = {
        method: Outcome(
            units.array(f"cloze {method}", partial(right, method)),
            valid[method][:, 0],
            neutral[method].argmax(1),
            free[method].argmax(1),
        )
        for method in session.progress(list(edits), "effects", "method")
    }

    def bootstrap(metric: str, n: int) -> Bootstrap:
        return Bootstrap(range(n), session.config.resamples, session.seed(f"effect {metric}"))

    return side_effects(outcomes, [item.kind for item in items], session.gold(free_rows), bootstrap)
