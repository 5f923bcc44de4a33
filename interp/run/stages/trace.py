"""Stage `trace`: the exact causal effect of every candidate and control, phase by phase."""

import numpy as np
import pandas as pd

from interp.analysis.candidates import activity, candidate_table, choose_candidates
from interp.analysis.effects import by_example, concentration, exceeds_controls, mean_effects, with_specificity
from interp.files.folder import read_json
from interp.run import tables
from interp.run.measuring import measured
from interp.run.session import Session
from interp.run.stage import stage


@stage(
    "trace",
    reads=("examples.parquet", "features", "attribution.npz", "phases.json"),
    writes=("units/trace", "effects.parquet", "concentration.parquet", "effects_by_example.parquet"),
    fields=("tracing", "resamples", "seed"),
    # candidates and controls, in three phases perhaps; about a quarter of them are active
    cost=lambda work: work.discover * 2 * work.config.tracing.candidates * 3 / 4 * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `effects.parquet`, `concentration.parquet` and `effects_by_example.parquet`.

    Effects of candidates and controls are measured on the discover examples of their emotion, and once more, for those
    found causal, on the fit examples.
    """
    rows, units = session.traced_rows(), session.units("trace")
    examples, strength, firing = session.labelled(rows), {}, {}
    for layer in session.saes.layers:
        norms = session.saes.directions(layer).norm(dim=-1).cpu().numpy()
        acts = session.features(layer).acts[rows]
        strength[layer], firing[layer] = activity(acts, norms, examples.gold, len(session.labels))
    candidates = _candidates(session, strength, firing)
    on_own = measured(session, candidates, examples, "discover", units=units)
    effects = mean_effects(on_own, candidates, examples, "discover")
    tested = effects[exceeds_controls(effects)]
    on_all = measured(session, tested, examples, "all emotions", on_all=True)
    effects = with_specificity(effects, on_all, examples, pool=sum(int((s > 0).sum()) for s in strength.values()))
    causal = effects.loc[effects["causal"], list(candidates)]
    if len(causal):
        fresh = session.labelled(session.role("fit"))
        again = mean_effects(measured(session, causal, fresh, "fit", units=units), causal, fresh, "fit")
        effects = pd.concat([effects, again.assign(causal=True)], ignore_index=True)
    tables.write(session.folder / "concentration.parquet", concentration(effects, session.labels))
    tables.write(session.folder / "effects_by_example.parquet", by_example(on_own, effects, examples))
    tables.write(session.folder / "effects.parquet", effects)
    units.clear()


def _candidates(session: Session, strength: dict[int, np.ndarray], firing: dict[int, np.ndarray]) -> pd.DataFrame:
    with np.load(session.folder / "attribution.npz") as stored:
        attribution = {k: stored[f"layer_{k:02d}"] for k in session.saes.layers}
    spans = read_json(session.folder / "phases.json")["phases"]
    phase_of = {k: s["phase"] for s in spans for k in session.saes.layers if s["first"] <= k <= s["last"]}
    count, seed = session.config.tracing.candidates, session.seed("controls")
    return candidate_table(choose_candidates(attribution, strength, firing, phase_of, count, seed), session.labels)
