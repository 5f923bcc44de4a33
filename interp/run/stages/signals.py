"""Stage `signals`: what every layer knows and does, in one number each."""

import numpy as np
import pandas as pd
import torch

from interp.analysis.candidates import strongest
from interp.analysis.signals import Probed, Signal, control_labels, layer_signals, stratified_sample
from interp.engine import answers_under_each, removal
from interp.engine.capture import Captured
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage

PROBE_LIMIT = 2000
"""Examples per probe; more make it slower, hardly better."""
PHASE_RESAMPLES = 200


@stage(
    "signals",
    reads=("examples.parquet", "activations", "features", "attribution.npz"),
    writes=("signals.parquet", "signals_draws.npz"),
    fields=("resamples", "seed"),
    cost=lambda work: work.discover * work.layers * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `signals.parquet`, and the signals' bootstrap draws to `signals_draws.npz`."""
    rows = session.role("discover")
    examples = session.labelled(rows)
    weights = examples.weights(np.arange(len(rows)), "signals")
    probed = stratified_sample(examples.gold, PROBE_LIMIT, session.seed("probe"))
    texts = session.table["text"].iloc[rows[probed]].tolist()
    control = control_labels(texts, len(session.labels), session.seed("control task"))
    causal = _causal_signals(session, rows, examples.gold)
    found: list[tuple[int, Signal]] = []
    for layer in session.progress(session.saes.layers, "signals", "layer"):
        last = layer + 1 == session.model.n_layers
        signals = layer_signals(
            session.features(layer).rows(rows),
            session.residuals(layer)[rows].float().numpy(),
            None if last else session.residuals(layer + 1)[rows].float().numpy(),
            {name: values[:, layer] for name, values in causal.items()},
            Probed(probed, control),
            examples,
            weights,
            session.seed(f"signals {layer}"),
        )
        found += [(layer, s) for s in signals]
    draws = {f"{s.name}/{layer}": s.draws[:PHASE_RESAMPLES] for layer, s in found}
    tables.write(session.folder / "signals_draws.npz", draws)
    lines = [
        {"layer": layer, "signal": s.name, "value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.n}
        for layer, s in found
        for e in (s.estimate,)
    ]
    tables.write(session.folder / "signals.parquet", pd.DataFrame(lines))


@torch.no_grad()
def _causal_signals(session: Session, rows: np.ndarray, gold: np.ndarray) -> dict[str, np.ndarray]:
    """[example, layer], each example's direct evidence and joint effect (NaN where a layer has no SAE).

    Direct evidence: the gold emotion's answer log-probability when the layer's residual is read out as if it were the
    last. Joint effect: of removing the layer's `JOINT_FEATURES` most attributed features together.
    """
    model = session.model
    with np.load(session.folder / "attribution.npz") as stored:
        top = {k: strongest(stored[f"layer_{k:02d}"]) for k in session.saes.layers}
    restricted = session.saes.restricted(top)

    def signals(captured: Captured, places: list[int]) -> dict[str, torch.Tensor]:
        target = torch.from_numpy(gold[places]).to(model.device)[:, None]
        edits = {layer: removal(model, restricted, {layer: features}) for layer, features in top.items()}
        shape = len(places), model.n_layers
        read, lost = (torch.full(shape, torch.nan, dtype=torch.float64) for _ in range(2))
        clean = captured.answer_log_probabilities.gather(1, target)[:, 0]
        for layer, edited in answers_under_each(model, captured, edits).items():
            read[:, layer] = captured.read_out(model, layer).log_softmax(-1).gather(1, target)[:, 0].cpu()
            lost[:, layer] = (clean - edited.log_softmax(-1).gather(1, target)[:, 0]).cpu()
        return {"direct_evidence": read, "joint_ablation": lost}

    return {name: values.numpy() for name, values in session.collect(rows, signals, "joint ablation").items()}
