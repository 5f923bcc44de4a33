"""Stage `learning`: how many labelled examples a steering needs."""

from functools import partial
from itertools import product, starmap
from typing import Any

import pandas as pd

from interp.evaluation.curves import LearntFrom, learning_rows
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.steerings import causal_features, fit_data, remembered
from interp.steering.fit import Plan, Rows, fit
from interp.steering.trials import fitted_vector_plan, gated_plans, global_plans

SIZES = (8, 16, 32, 64, 128, 256)
STEPS = 20
COLUMNS = ["method", "corpus", "examples", "value", "ci_low", "ci_high", "draws", "n"]


@stage(
    "learning",
    reads=("examples.parquet", "effects.parquet", "steering.json"),  # whose settings and anchors it shares
    writes=("learning.parquet", "units/learning"),
    fields=("steering.learning_curve", "seed"),
)
def run(session: Session) -> None:
    """Writes `learning.parquet`: change of macro-F1 on the test corpora by method and number of labelled examples.

    Each value is a mean over draws of examples; the interval spans 95 % of the draws. Settings are fixed, not chosen.
    """
    draws = session.config.steering.learning_curve
    units = session.units("learning")
    lines = _curves(session, draws, units) if draws else []
    tables.write(session.folder / "learning.parquet", pd.DataFrame(lines, columns=COLUMNS))
    units.clear()


def _curves(session: Session, draws: int, units: Units) -> list[dict[str, Any]]:
    data, rows = fit_data(session), session.role("test")
    unsteered = LearntFrom("unsteered", 0, 0)
    sizes = [size for size in SIZES if size <= len(data.gold)]
    edits: dict[LearntFrom, Any] = {unsteered: {}}
    for plan in session.progress(_plans(session), "learning curve", "method"):
        for learnt in starmap(LearntFrom, product([plan.method], sizes, range(draws))):
            drawn = Rows.drawn(data, learnt.examples, [session.seed("learning"), learnt.examples, learnt.draw])
            make = partial(fit, data, plan, drawn, STEPS)
            edits[learnt] = remembered(units, " ".join(map(str, learnt)), make).edits(session.saes)
    logits = session.logits_under(rows, edits, "learning curve", units=units)
    table = session.table.iloc[rows].reset_index(drop=True)
    lines = []
    for corpus, part in table.groupby("corpus", sort=False):
        places = part.index.to_numpy()
        answers = {key: values[places].argmax(1) for key, values in logits.items()}
        before = answers.pop(unsteered)
        lines += learning_rows(str(corpus), session.gold(rows[places]), before, answers, len(session.labels))
    return lines


def _plans(session: Session) -> list[Plan]:
    """One plan a method: the mildest pull, all gated layers together."""
    features, n_layers = causal_features(session), session.model.n_layers
    gated = gated_plans(session.saes, n_layers, features) if session.anchors else []
    return [*global_plans(features)[:1], *gated[-1:], fitted_vector_plan(session.saes, n_layers)]
