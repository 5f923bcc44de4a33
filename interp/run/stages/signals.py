"""Stages `attribution`, `signals` and `phases`: what every layer knows and does, and how layers group."""

import numpy as np
import pandas as pd
import torch

from interp.analysis.phases import find_phases, verdict
from interp.analysis.signals import (
    CAUSAL,
    REPRESENTATIONAL,
    Signal,
    control_labels,
    neighbour_agreement,
    per_example_signal,
    probe_signals,
    selective_signal,
    structural_signals,
)
from interp.engine import answer_gradients, answers_under_each, removal
from interp.run import tables
from interp.run.session import Session
from interp.statistics import resample_weights

JOINT_FEATURES = 16
"""Features per layer that the joint-ablation signal removes: those with the highest mean attribution."""
PROBE_LIMIT = 2000
"""Examples per probe; more make it slower, hardly better."""
PHASE_RESAMPLES = 200
ROWS_AT_ONCE = 512
"""Examples whose slopes along every direction of a layer are held together."""


def run_attribution(session: Session) -> None:
    """Writes `attribution.npz`: per layer [d_sae, emotion], mean attribution over that emotion's discover examples."""
    rows = traced_rows(session)
    gold = torch.tensor(session.gold(rows))
    place = {row: i for i, row in enumerate(rows)}
    count = torch.bincount(gold, minlength=len(session.labels)).clamp(min=1)
    layers = session.saes.layers
    gradients = torch.empty(len(layers), len(rows), session.model.d_model, dtype=session.model.dtype)
    for chunk, captured in session.cached(rows, "attribution"):
        at = [place[r] for r in chunk]
        found = answer_gradients(session.model, captured, gold[at].to(session.model.device))
        gradients[:, at] = found[layers].cpu()
    member = torch.nn.functional.one_hot(gold, len(session.labels)).float()
    means = {}
    for layer, gradient in zip(layers, gradients, strict=True):
        total = torch.zeros(session.saes.d_sae(layer), len(session.labels))
        directions = session.saes.directions(layer)
        acts = session.features(layer).acts[rows]
        for part in np.array_split(np.arange(len(rows)), max(1, len(rows) // ROWS_AT_ONCE)):
            slopes = gradient[part].to(directions.device, directions.dtype) @ directions.T
            total += (torch.from_numpy(acts[part].toarray()) * slopes.float().cpu()).T @ member[part]
        means[f"layer_{layer:02d}"] = (total / count).numpy()
    tables.write(session.folder / "attribution.npz", means)


def traced_rows(session: Session) -> np.ndarray:
    """Discover examples that are traced: all, or the correctly answered ones."""
    rows = session.role("discover")
    if session.config.tracing.examples == "correct":
        table = session.table.iloc[rows]
        rows = rows[(table["gold"] == table["predicted"]).to_numpy()]
    return rows


def run_signals(session: Session) -> None:
    """Writes `signals.parquet`, and the signals' bootstrap draws to `signals_draws.npz`."""
    rows = session.role("discover")
    gold, table = session.gold(rows), session.table.iloc[rows]
    weights = resample_weights(table["group"].tolist(), session.config.resamples, session.seed("signals"))
    causal = _causal_signals(session, rows)
    probed = _probe_rows(session, gold)
    texts = [session.examples[r][1].text for r in rows[probed]]
    control = control_labels(texts, len(session.labels), session.seed("control task"))
    found: list[tuple[int, Signal]] = []
    for layer in session.progress(session.saes.layers, "signals", "layer"):
        features, residuals = session.features(layer).rows(rows), session.residuals(layer)[rows].float()
        seed = session.seed(f"signals {layer}")
        signals = structural_signals(features, weights, seed)
        signals += probe_signals(
            features.rows(probed), residuals[probed].numpy(), gold[probed], control, weights[:, probed], seed
        )
        if layer + 1 < session.model.n_layers:
            following = session.residuals(layer + 1)[rows[probed]].float().numpy()
            agreement = neighbour_agreement(residuals[probed].numpy(), following)
            signals.append(per_example_signal("neighbour_agreement", agreement, weights[:, probed]))
        signals.append(selective_signal(features.acts, gold, len(session.labels), session.config.resamples, seed))
        signals += [per_example_signal(name, values[layer], weights) for name, values in causal.items()]
        found += [(layer, s) for s in signals]
    draws = {f"{s.name}/{layer}": s.draws[:PHASE_RESAMPLES] for layer, s in found}
    tables.write(session.folder / "signals_draws.npz", draws)
    tables.write(
        session.folder / "signals.parquet",
        pd.DataFrame(
            [
                {"layer": layer, "signal": s.name, "value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.n}
                for layer, s in found
                for e in (s.estimate,)
            ]
        ),
    )


def run_phases(session: Session) -> None:
    """Writes `phases.json`, from the signals that speak of emotions.

    Structural signals (L0, FVU, format, overlap) change with depth in any model, also where labels are noise.
    """
    table = tables.read(session.folder / "signals.parquet")
    about_emotions = table["signal"].isin(REPRESENTATIONAL + CAUSAL)
    wide = table[about_emotions].pivot(index="layer", columns="signal", values="value")
    wide = wide.dropna(axis=1)
    with np.load(session.folder / "signals_draws.npz") as stored:
        draws = np.stack(
            [np.stack([stored[f"{name}/{layer}"] for name in wide.columns], -1) for layer in wide.index], axis=1
        )
    phases = find_phases(wide.to_numpy(), draws, [int(k) for k in wide.index])
    text = verdict(phases, {name: wide[name].to_numpy() for name in wide.columns})
    tables.write(
        session.folder / "phases.json",
        {
            **phases.as_dict(),
            "signals": list(wide.columns),
            "verdict": text,
            "n": int(table["n"].max()),
            "seed": session.config.seed,
        },
    )


@torch.no_grad()
def _causal_signals(session: Session, rows: np.ndarray) -> dict[str, dict[int, np.ndarray]]:
    """Per layer, each example's direct evidence and joint effect.

    Direct evidence: the gold emotion's answer log-probability when the layer's residual is read out as if it were the
    last. Joint effect: of removing the layer's `JOINT_FEATURES` most attributed features together.
    """
    gold = session.gold(rows)
    place = {row: i for i, row in enumerate(rows)}
    with np.load(session.folder / "attribution.npz") as stored:
        top = {
            k: np.argsort(-stored[f"layer_{k:02d}"].mean(1), kind="stable")[:JOINT_FEATURES].tolist()
            for k in session.saes.layers
        }
    few = session.saes.restricted(top)
    found = {name: {k: np.zeros(len(rows)) for k in top} for name in ("direct_evidence", "joint_ablation")}
    for chunk, captured in session.cached(rows, "joint ablation"):
        at = np.array([place[r] for r in chunk])
        target = torch.from_numpy(gold[at]).to(session.model.device)[:, None]

        def of_gold(scores: torch.Tensor, target: torch.Tensor = target) -> np.ndarray:
            return scores.log_softmax(-1).gather(1, target)[:, 0].cpu().numpy()

        clean = of_gold(captured.answer_logits)
        without = {layer: removal(session.model, few, {layer: features}) for layer, features in top.items()}
        for layer, edited in answers_under_each(session.model, captured, without).items():
            found["direct_evidence"][layer][at] = of_gold(captured.read_out(session.model, layer))
            found["joint_ablation"][layer][at] = clean - of_gold(edited)
    return found


def _probe_rows(session: Session, gold: np.ndarray) -> np.ndarray:
    """A stratified sample of at most `PROBE_LIMIT` examples, as positions within the discover examples."""
    if len(gold) <= PROBE_LIMIT:
        return np.arange(len(gold))
    order = np.random.default_rng(session.seed("probe")).permutation(len(gold))
    rank = np.empty(len(gold))
    for emotion in np.unique(gold):
        members = order[gold[order] == emotion]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(rank, kind="stable")[:PROBE_LIMIT])
