"""Stage `phases`: how layers group by what they know and do of emotions."""

import numpy as np

from interp.analysis.phases import find_phases, verdict
from interp.analysis.signals import CAUSAL, REPRESENTATIONAL
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage


@stage("phases", reads=("signals.parquet", "signals_draws.npz"), writes=("phases.json",))
def run(session: Session) -> None:
    """Writes `phases.json`, from the signals that speak of emotions.

    Structural signals (L0, FVU, format, overlap) change with depth in any model, also where labels are noise.
    """
    table = tables.read(session.folder / "signals.parquet")
    about_emotions = table["signal"].isin(REPRESENTATIONAL + CAUSAL)
    wide = table[about_emotions].pivot(index="layer", columns="signal", values="value").dropna(axis=1)
    with np.load(session.folder / "signals_draws.npz") as stored:
        draws = np.stack(
            [np.stack([stored[f"{name}/{layer}"] for name in wide.columns], -1) for layer in wide.index], axis=1
        )
    phases = find_phases(wide.to_numpy(), draws, [int(k) for k in wide.index])
    tables.write(
        session.folder / "phases.json",
        {
            **phases.as_dict(),
            "signals": list(wide.columns),
            "verdict": verdict(phases, {name: wide[name].to_numpy() for name in wide.columns}),
            "n": int(table["n"].max()),
            "seed": session.config.seed,
        },
    )
