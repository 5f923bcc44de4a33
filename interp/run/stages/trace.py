"""Stage `trace`: the exact causal effect of every candidate and control, phase by phase."""

import shutil
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from interp.analysis.candidates import Candidate, choose_candidates
from interp.analysis.effect_rows import causal_features
from interp.engine.capture import Captured
from interp.files.folder import read_json, write_arrays
from interp.run import tables
from interp.run.session import Session
from interp.run.stages.signals import traced_rows
from interp.run.stages.specificity import Wanted, ablated, restrict, with_specificity
from interp.saes.stack import SaeStack
from interp.statistics import mean_estimates, resample_weights

CONTROL_QUANTILE = 0.99
"""A causal feature's effect exceeds this quantile of its controls'."""
SHARD = 128
COLUMNS = ("row", "layer", "feature", "effect", "flipped")
EFFECTS = {
    **dict.fromkeys(("layer", "phase", "feature"), int),
    **dict.fromkeys(("emotion", "role"), object),
    **dict.fromkeys(("n", "n_active"), int),
    **dict.fromkeys(("effect", "ci_low", "ci_high", "flip_rate", "attribution"), float),
    "control": bool,
}
"""Columns of `effects.parquet` before it is said which are causal."""


def run(session: Session) -> None:
    """Writes `effects.parquet`, `concentration.parquet` and `effects_by_example.parquet`.

    Causal: effect above zero and above the controls', and larger where the emotion is than where it is not. Effects of
    candidates and controls are measured on the discover examples of their emotion, and once more, for those found
    causal, on the fit examples.
    """
    candidates, pool = _candidates(session)
    rows = traced_rows(session)
    measured = _measure(session, candidates, rows, "discover")
    effects = _summary(session, candidates, rows, measured, "discover")
    effects["causal"] = _is_causal(effects)
    chosen = [c for c, causal in zip(candidates, effects["causal"], strict=True) if causal]
    effects = with_specificity(session, effects, chosen, pool, rows)
    kept = [c for c, causal in zip(candidates, effects["causal"], strict=True) if causal]
    if kept:
        again = session.role("fit")
        replicated = _summary(session, kept, again, _measure(session, kept, again, "fit"), "fit")
        replicated["causal"] = True
        effects = pd.concat([effects, replicated], ignore_index=True)
    tables.write(session.folder / "concentration.parquet", concentration(effects, session.labels))
    gold = dict(zip(rows.tolist(), session.table["gold"].iloc[rows], strict=True))
    tables.write(session.folder / "effects_by_example.parquet", by_example(measured, effects, gold))
    tables.write(session.folder / "effects.parquet", effects)
    shutil.rmtree(session.folder / "tracing", ignore_errors=True)


def _candidates(session: Session) -> tuple[list[Candidate], int]:
    """The features to be traced, and the number of (active feature, emotion) pairs that they were chosen from."""
    rows = traced_rows(session)
    member = np.eye(len(session.labels))[session.gold(rows)]
    member /= np.maximum(member.sum(0), 1)
    strength, firing = {}, {}
    for layer in session.saes.layers:
        norms = session.saes.directions(layer).norm(dim=-1).cpu().numpy()
        acts = session.features(layer).acts[rows]
        strength[layer] = (acts.T @ member) * norms[:, None]
        firing[layer] = (acts > 0).T @ member
    with np.load(session.folder / "attribution.npz") as stored:
        attribution = {k: stored[f"layer_{k:02d}"] for k in session.saes.layers}
    spans = read_json(session.folder / "phases.json")["phases"]
    phase_of = {k: s["phase"] for s in spans for k in session.saes.layers if s["first"] <= k <= s["last"]}
    count = session.config.tracing.candidates
    pool = sum(int((s > 0).sum()) for s in strength.values())
    return choose_candidates(attribution, strength, firing, phase_of, count, session.seed("controls")), pool


def _measure(session: Session, candidates: list[Candidate], rows: np.ndarray, role: str) -> pd.DataFrame:
    """Exact effect of each feature on each example of its emotion where it is active: columns `COLUMNS`."""
    wanted: Wanted = defaultdict(lambda: defaultdict(set))
    for c in candidates:
        wanted[c.layer][c.emotion].add(c.feature)
    parts = []
    few = restrict(session, wanted)
    for start in range(0, len(rows), SHARD):
        unit = session.folder / f"tracing/{role}_{start // SHARD:05d}.npz"
        if not unit.exists():
            found = _measure_shard(
                session, few, wanted, rows[start : start + SHARD], f"trace {role} {start // SHARD + 1}"
            )
            write_arrays(unit, {name: np.concatenate(values) for name, values in found.items()})
        parts.append(_read_unit(unit))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _measure_shard(
    session: Session, saes: SaeStack, wanted: Wanted, rows: np.ndarray, description: str
) -> dict[str, list[np.ndarray]]:
    found: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in COLUMNS}
    gold_of = dict(zip(rows.tolist(), session.gold(rows).tolist(), strict=True))
    everywhere = list(wanted) if session.config.tracing.position == "all" else []
    for chunk, captured in session.cached(rows, description, everywhere):
        gold = torch.tensor([gold_of[r] for r in chunk])
        for name, values in _effects(session, saes, captured, wanted, gold, chunk).items():
            found[name].append(values)
    return found


def _effects(
    session: Session,
    saes: SaeStack,
    captured: Captured,
    wanted: Wanted,
    gold: torch.Tensor,
    chunk: np.ndarray,
) -> dict[str, np.ndarray]:
    """Edits of a chunk, and what each does to the gold answer."""
    edits, logits = ablated(session, saes, captured, wanted, gold)
    target = gold.to(logits.device)[edits.example, None]
    drop = captured.answer_log_probabilities[edits.example] - logits.log_softmax(-1)
    flipped = logits.argmax(-1) != captured.answer_logits[edits.example].argmax(-1)
    return {
        "row": chunk[edits.example.cpu().numpy()],
        "layer": edits.layer.cpu().numpy(),
        "feature": edits.feature.cpu().numpy(),
        "effect": drop.gather(1, target)[:, 0].cpu().numpy(),
        "flipped": flipped.cpu().numpy(),
    }


def _read_unit(path: Path) -> pd.DataFrame:
    with np.load(path) as stored:
        table = pd.DataFrame({name: stored[name] for name in COLUMNS})
    return table.astype({"row": int, "layer": int, "feature": int, "flipped": bool})


def _summary(
    session: Session, candidates: list[Candidate], rows: np.ndarray, measured: pd.DataFrame, role: str
) -> pd.DataFrame:
    """Mean effect over all of an emotion's examples (0 where the feature is inactive), with clustered intervals."""
    gold = session.gold(rows)
    groups = session.table["group"].iloc[rows].to_numpy()
    place = {row: i for i, row in enumerate(rows)}
    by_feature = dict(iter(measured.groupby(["layer", "feature"])))
    lines = []
    for emotion, label in enumerate(session.labels):
        members = np.flatnonzero(gold == emotion)
        own = [c for c in candidates if c.emotion == emotion]
        if not len(members) or not own:
            continue
        column = np.full(len(rows), -1)
        column[members] = np.arange(len(members))
        effect, flips, active = (np.zeros((len(members), len(own))) for _ in range(3))
        for j, c in enumerate(own):
            part = by_feature.get((c.layer, c.feature))
            if part is not None:
                at = column[[place[r] for r in part["row"]]]
                mine = at >= 0
                effect[at[mine], j], flips[at[mine], j] = part["effect"][mine], part["flipped"][mine]
                active[at[mine], j] = 1
        seed = session.seed(f"effects {role} {label}")
        weights = resample_weights(groups[members], session.config.resamples, seed)
        mean, low, high = mean_estimates(effect, weights)
        lines += [
            {
                "layer": c.layer,
                "phase": c.phase,
                "feature": c.feature,
                "emotion": label,
                "role": role,
                "n": len(members),
                "n_active": int(active[:, j].sum()),
                "effect": mean[j],
                "ci_low": low[j],
                "ci_high": high[j],
                "flip_rate": flips[:, j].mean(),
                "attribution": c.attribution,
                "control": c.control,
            }
            for j, c in enumerate(own)
        ]
    order = {(c.layer, c.feature, session.labels[c.emotion], c.control): i for i, c in enumerate(candidates)}
    if not lines:
        return pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in EFFECTS.items()})
    table = pd.DataFrame(lines)
    key = [order[k] for k in zip(table["layer"], table["feature"], table["emotion"], table["control"], strict=True)]
    return table.iloc[np.argsort(key)].reset_index(drop=True)


def by_example(measured: pd.DataFrame, effects: pd.DataFrame, gold: Mapping[int, str]) -> pd.DataFrame:
    """What each causal feature does to each discover example of its emotion on which it is active.

    Resampling examples with it tells how certain sums, shares and orders of effects are.

    Args:
        measured: columns `COLUMNS`, on discover examples.
        effects: the finished table of effects.
        gold: emotion of each traced row of `examples.parquet`.

    Returns:
        Columns row (of `examples.parquet`), emotion, layer, feature, effect; where a feature is inactive there is no
        row, and its effect is 0.
    """
    causal = causal_features(effects)[["emotion", "layer", "feature"]]
    own = measured.assign(emotion=pd.Series([gold[r] for r in measured["row"]], dtype=object, index=measured.index))
    found = own.merge(causal, on=["emotion", "layer", "feature"])[["row", "emotion", "layer", "feature", "effect"]]
    return found.sort_values(["emotion", "layer", "feature", "row"], ignore_index=True)


def _is_causal(effects: pd.DataFrame) -> pd.Series:
    """Interval above zero, and effect above the 99th percentile of the emotion's controls in the same phase."""
    group = [effects["emotion"], effects["phase"]]
    bar = effects["effect"].where(effects["control"]).groupby(group).transform(lambda x: x.quantile(CONTROL_QUANTILE))
    return ~effects["control"] & (effects["ci_low"] > 0) & (effects["effect"] > bar.fillna(0.0))


def concentration(effects: pd.DataFrame, labels: list[str]) -> pd.DataFrame:
    """Per emotion, over all phases and in each: how many causal features, how strong, how concentrated.

    Effective number of features: (sum of effects)^2 / sum of squared effects.
    """
    causal = causal_features(effects)
    phases = ["all", *sorted(effects["phase"].astype(str).unique())]
    lines = []
    for label in labels:
        n = int(effects.loc[effects["emotion"] == label, "n"].max()) if (effects["emotion"] == label).any() else 0
        for phase in phases:
            mine = causal[(causal["emotion"] == label) & ((phase == "all") | (causal["phase"].astype(str) == phase))]
            e = np.sort(mine["effect"].to_numpy())[::-1]
            total = e.sum()
            share = {f"share_top_{k}": e[:k].sum() / total if len(e) else np.nan for k in (1, 5, 10)}
            lines.append(
                {
                    "emotion": label,
                    "phase": phase,
                    "n_causal": len(e),
                    "summed_effect": total,
                    **share,
                    "effective_number": total**2 / np.square(e).sum() if len(e) else np.nan,
                    "n": n,
                }
            )
    return pd.DataFrame(lines)
