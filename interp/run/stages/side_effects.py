"""Stage `side_effects`: every steering from mild to strong: what it gains where, and what else it changes."""

from typing import Any

import pandas as pd

from interp.evaluation.ability import load_cloze
from interp.evaluation.curves import STRENGTHS, Dose, dose_rows
from interp.evaluation.side_effects import side_effects
from interp.run import tables
from interp.run.behaviours import behaviours
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.steerings import load_steerings, steered_by, steering_quality
from interp.statistics import Bootstrap, Estimate

COLUMNS = ["corpus", "method", "strength", "value", "ci_low", "ci_high", "n", "changed"]


@stage(
    "side_effects",
    reads=("examples.parquet", "steering.safetensors", "steering.json", "steerings"),
    writes=("dose.parquet", "side_effects.parquet", "units/side_effects"),
    fields=("fluency", "resamples", "seed"),
)
def run(session: Session) -> None:
    """Writes `dose.parquet` (corpus, method, strength) and `side_effects.parquet` (method, metric)."""
    steerings, rows = load_steerings(session), session.role("test")
    units = session.units("side_effects").of(steered_by(session, steerings))
    unsteered = Dose("unsteered", 0.0)
    edits: dict[Dose, Any] = {unsteered: {}} | {
        Dose(method, strength): steering.scaled(strength).edits(session.saes)
        for method, steering in steerings.items()
        for strength in (STRENGTHS if steering.layers else ())
    }
    logits = session.logits_under(rows, edits, "strengths", units=units)
    lines: list[dict[str, Any]] = []
    table = session.table.iloc[rows].reset_index(drop=True)
    for corpus, part in table.groupby("corpus", sort=False):
        places = part.index.to_numpy()
        bootstrap = Bootstrap(part["group"].tolist(), session.config.resamples, session.seed(f"dose {corpus}"))
        answers = {dose: values[places].argmax(1) for dose, values in logits.items()}
        gold, before = session.gold(rows[places]), answers.pop(unsteered)
        lines += dose_rows(str(corpus), gold, before, answers, len(session.labels), bootstrap)
    chosen = steerings["steered"]

    def price(strength: float) -> dict[str, Estimate]:
        return steering_quality(session, chosen.scaled(strength), units)

    strengths = STRENGTHS if chosen.layers else ()
    for strength, quality in zip(strengths, session.each(price, strengths, "language", "strength"), strict=True):
        about = {"corpus": "plain text", "strength": strength}
        lines += [{**about, "method": metric, **e.row()} for metric, e in quality.items()]
    tables.write(session.folder / "dose.parquet", pd.DataFrame(lines, columns=COLUMNS))
    items, free = load_cloze(), rows[table["keyword_free"].to_numpy(dtype=bool, na_value=False)]
    measured = behaviours(session, steerings, items, rows, free, units)

    def bootstrap_of(metric: str, n: int) -> Bootstrap:
        return Bootstrap(range(n), session.config.resamples, session.seed(f"effect {metric}"))

    effects = side_effects(measured, [item.kind for item in items], session.gold(free), bootstrap_of)
    tables.write(session.folder / "side_effects.parquet", effects)
    units.clear()
