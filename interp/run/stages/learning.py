"""Stage `learning`: how many labelled examples a steering needs."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.evaluation.recognition import paired_gains
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.stages.rivals import fitted_vector_plan
from interp.run.stages.steer import causal_features, fit_data, remembered
from interp.statistics import from_draws, resample_weights
from interp.steering.choosing import gated_plans, global_plans
from interp.steering.fit import FitData, Plan, Rows, fit

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
    data = fit_data(session)
    sizes = [s for s in SIZES if s <= len(data.gold)]
    made = {
        (plan.method, size, k): remembered(
            units,
            f"{plan.method} {size} {k}",
            partial(fit, session.model, session.saes, data, plan, _drawn(session, data, size, k), STEPS),
        )
        for plan in session.progress(_plans(session), "learning curve", "method")
        for size in sizes
        for k in range(draws)
    }
    rows = session.role("test")
    edits: dict[Any, Any] = {"plain": {}} | {key: steering.edits(session.saes) for key, steering in made.items()}
    guesses = {k: v.argmax(1) for k, v in session.logits_under(rows, edits, "learning curve", units=units).items()}
    plain = guesses["plain"]
    lines = []
    table = session.table.iloc[rows]
    for corpus, part in table.groupby("corpus", sort=False):
        at = np.flatnonzero(table["corpus"] == corpus)
        gold = session.gold(rows[at])
        ones = resample_weights(part["group"].tolist(), 2, 0)
        for method, size in dict.fromkeys((m, s) for m, s, _ in made):
            gains = [
                paired_gains(gold, plain[at], guesses[method, size, k][at], session.labels, ones)["macro_f1_gain"].value
                for k in range(draws)
            ]
            e = from_draws(float(np.mean(gains)), np.array(gains), len(at))
            values = {"value": e.value, "ci_low": e.low, "ci_high": e.high, "draws": draws, "n": e.n}
            lines.append({"method": method, "corpus": corpus, "examples": size} | values)
    return lines


def _plans(session: Session) -> list[Plan]:
    """One plan a method: the mildest pull, all gated layers together."""
    gated = gated_plans(session.saes, session.model.n_layers, causal_features(session)) if session.anchors else []
    return [
        *global_plans(causal_features(session))[:1],
        *gated[-1:],
        fitted_vector_plan(session),
    ]


def _drawn(session: Session, data: FitData, size: int, draw: int) -> Rows:
    order = np.random.default_rng([session.seed("learning"), size, draw]).permutation(len(data.gold))[:size]
    return Rows(torch.from_numpy(np.sort(order)), Rows.whole(data).anchors)
