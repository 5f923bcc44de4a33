"""Stage `signals`: what every layer knows and does, in one number each."""

import numpy as np
import pandas as pd
import torch

from interp.analysis.candidates import strongest
from interp.analysis.signals import (
    Probed,
    Signal,
    causal_signals,
    control_labels,
    direct_evidence,
    layer_signals,
    stratified_sample,
)
from interp.engine.capture import Captured
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage

PROBE_LIMIT = 2000
"""Examples per probe; more make it slower, hardly better."""
PHASE_RESAMPLES = 200


@stage(
    "signals",
    reads=("examples.parquet", "activations"),
    may_read=("features", "attribution.npz"),
    writes=("signals.parquet", "signals_draws.npz"),
    fields=("resamples", "seed"),
    cost=lambda work: work.discover * work.layers * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `signals.parquet`, and the signals' bootstrap draws to `signals_draws.npz`.

    Without SAEs: probes of residuals, agreement of neighbouring layers, and what residuals say if read out directly.
    """
    rows = session.role("discover")
    examples = session.labelled(rows)
    weights = examples.bootstrap(np.arange(len(rows)), "signals").weights
    probed = stratified_sample(examples.gold, PROBE_LIMIT, session.seed("probe"))
    texts = session.table["text"].iloc[rows[probed]].tolist()
    control = control_labels(texts, len(session.labels), session.seed("control task"))
    causal = (_causal if session.has_saes else _read_out)(session, rows, examples.gold)

    def of_layer(layer: int) -> list[Signal]:
        last = layer + 1 == session.model.n_layers
        return layer_signals(
            session.features(layer).rows(rows) if session.has_saes else None,
            session.residuals(layer)[rows].float().numpy(),
            None if last else session.residuals(layer + 1)[rows].float().numpy(),
            {name: values[:, layer] for name, values in causal.items()},
            Probed(probed, control),
            examples,
            weights,
            session.seed(f"signals {layer}"),
        )

    layers = session.saes.layers
    by_layer = zip(layers, session.each_layer(of_layer, layers, "signals"), strict=True)
    found = [(layer, s) for layer, signals in by_layer for s in signals]
    draws = {f"{s.name}/{layer}": s.draws[:PHASE_RESAMPLES] for layer, s in found}
    tables.write(session.folder / "signals_draws.npz", draws)
    lines = [
        {"layer": layer, "signal": s.name, "value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.n}
        for layer, s in found
        for e in (s.estimate,)
    ]
    tables.write(session.folder / "signals.parquet", pd.DataFrame(lines))


def _causal(session: Session, rows: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """[example, layer], of the features with the highest mean attribution."""
    with np.load(session.folder / "attribution.npz") as stored:
        top = {k: strongest(stored[f"layer_{k:02d}"]) for k in session.saes.layers}
    restricted = session.saes.restricted(top)

    def signals(captured: Captured, places: list[int]) -> dict[str, torch.Tensor]:
        return causal_signals(session.model, restricted, captured, torch.from_numpy(gold[places]), top)

    return {name: values.numpy() for name, values in session.collect(rows, signals, "joint ablation").items()}


def _read_out(session: Session, rows: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """[example, layer], of no features."""

    def signals(captured: Captured, places: list[int]) -> dict[str, torch.Tensor]:
        return {"direct_evidence": direct_evidence(session.model, captured, torch.from_numpy(gold[places]))}

    return {name: values.numpy() for name, values in session.collect(rows, signals, "read-out").items()}
