"""Stage `causes`: causal features together - are they necessary, are they sufficient, whose place do they take?"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from torch import Tensor

from interp.analysis.effect_rows import effects_on
from interp.engine import removal
from interp.engine.ablation import ResidualEdit
from interp.run import tables
from interp.run.session import Session
from interp.run.stages.signals import traced_rows
from interp.run.units import Units
from interp.saes.stack import SaeStack
from interp.statistics import mean_estimates, resample_weights
from interp.texts.examples import load_corpus

JOINT_SIZES = (1, 2, 4, 8, 16, 32)
MOST = JOINT_SIZES[-1]
"""At most this many features of an emotion are removed or inserted together."""
NEUTRAL = "neutral"

Features = Mapping[int, list[int]]
"""Feature indices by layer."""


@dataclass(frozen=True)
class CausalSet:
    """An emotion's causal features, strongest first, and its controls, in an order of their own."""

    emotion: str
    causal: pd.DataFrame
    controls: pd.DataFrame

    def by_layer(self, count: int, *, control: bool = False, phase: int | None = None) -> Features:
        table = self.controls if control else self.causal
        if phase is not None:
            table = table[table["phase"] == phase]
        return table.head(count).groupby("layer")["feature"].apply(list).to_dict()


def run(session: Session) -> None:
    """Writes `joint.parquet`, `overshadowing.parquet`, `insertion.parquet` and `cofiring.parquet`."""
    units = session.units("causes")
    sets = causal_sets(session)
    joint, moved = _necessity(session, sets, units)
    tables.write(session.folder / "joint.parquet", joint)
    tables.write(session.folder / "overshadowing.parquet", moved)
    tables.write(session.folder / "insertion.parquet", _sufficiency(session, sets, units))
    tables.write(session.folder / "cofiring.parquet", _cofiring(session, sets))
    units.clear()


def causal_sets(session: Session) -> list[CausalSet]:
    """Every label's set; emotions without a causal feature have an empty one."""
    effects = effects_on(tables.read(session.folder / "effects.parquet"))
    out = []
    for label in session.labels:
        mine = effects[effects["emotion"] == label]
        causal = mine[mine["causal"]].sort_values("effect", ascending=False, kind="stable").head(MOST)
        controls = mine[mine["control"]].sample(frac=1, random_state=session.seed(f"controls {label}"))
        out.append(CausalSet(label, causal, controls))
    return out


def _necessity(session: Session, sets: list[CausalSet], units: Units) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Effect of removing an emotion's k strongest causal features together, and where the answer's probability goes.

    Over all layers and within each phase; beside it as many controls.
    """
    rows = traced_rows(session)
    gold = session.gold(rows)
    joint, moved = [], []
    for emotion, own in enumerate(sets):
        members = rows[gold == emotion]
        asked = _removals(own)
        if not asked or not len(members):
            continue
        few = session.saes.restricted(_union(asked.values()))
        edits: dict[Any, Any] = {"before": {}} | {
            key: removal(session.model, few, features) for key, features in asked.items()
        }
        logits = session.logits_under(members, edits, f"remove {own.emotion}", units=units)
        changed = {key: log_softmax(found, axis=1) for key, found in logits.items()}
        before = changed.pop("before")
        weights = _weights(session, members, f"joint {own.emotion}")
        for (phase, k, control), after in changed.items():
            effect = before[:, emotion] - after[:, emotion]
            values = _interval(effect, weights)
            joint.append(
                {"emotion": own.emotion, "phase": phase, "k": k, "control": control, "n": len(members), **values}
            )
        whole = changed["all", min(MOST, len(own.causal)), False]
        for other, label in enumerate(session.labels):
            gain = np.exp(whole[:, other]) - np.exp(before[:, other])
            answered = (before.argmax(1) == emotion) & (whole.argmax(1) == other)
            values = _interval(gain, weights)
            share = float(answered.mean())
            moved.append({"emotion": own.emotion, "answer": label, "n": len(members), "moved": share, **values})
    columns = ["emotion", "phase", "k", "control", "n", "effect", "ci_low", "ci_high"]
    return pd.DataFrame(joint, columns=columns), pd.DataFrame(
        moved, columns=["emotion", "answer", "n", "moved", "effect", "ci_low", "ci_high"]
    )


def _union(sets: Iterable[Features]) -> Features:
    """All features of some sets, by layer."""
    out: dict[int, set[int]] = {}
    for features in sets:
        for layer, own in features.items():
            out.setdefault(layer, set()).update(own)
    return {layer: sorted(own) for layer, own in out.items()}


def _removals(own: CausalSet) -> dict[tuple[str, int, bool], Features]:
    """(phase, number of features, whether controls) -> the features to remove."""
    whole = len(own.causal)
    sizes = sorted({k for k in JOINT_SIZES if k <= whole} | ({whole} if whole else set()))
    asked: dict[tuple[str, int, bool], Features] = {("all", k, False): own.by_layer(k) for k in sizes}
    asked |= {("all", k, True): own.by_layer(k, control=True) for k in sizes if k <= len(own.controls)}
    for phase, part in own.causal.groupby("phase"):
        asked[str(phase), len(part), False] = own.by_layer(len(part), phase=int(str(phase)))
    return asked


def _sufficiency(session: Session, sets: list[CausalSet], units: Units) -> pd.DataFrame:
    """Set an emotion's causal features, in texts of other emotions and neutral ones, as they are in its own texts.

    Each feature is set to its mean activation over the examples of its emotion on which it is active.
    `effect`: rise of the emotion's log-probability; `follows`: share of the texts answered otherwise before whose
    answer becomes the emotion; the neutral texts are those that ship with the package.
    """
    rows = session.role("discover")
    gold = session.gold(rows)
    edits: dict[Any, Any] = {
        (e, control): _insertion(session, own, rows[gold == e], control=control)
        for e, own in enumerate(sets)
        if len(own.causal)
        for control in (False, True)
    }
    neutral = [e.text for e in load_corpus("vignettes", split="discover", labels=[NEUTRAL])]
    texts = [session.examples[r][1].text for r in rows] + neutral
    kinds = np.array([session.labels[g] for g in gold] + [NEUTRAL] * len(neutral), dtype=object)
    groups = [*session.table["group"].iloc[rows], *range(len(neutral))]
    logits = session.logits_under(texts, {"before": {}} | edits, "insert", units=units)
    after = {key: log_softmax(found, axis=1) for key, found in logits.items()}
    before = after.pop("before")
    lines = []
    for (e, control), found in after.items():
        for target in [*session.labels, NEUTRAL]:
            at = np.flatnonzero(kinds == target)
            if not len(at) or target == session.labels[e]:
                continue
            weights = resample_weights(
                [groups[i] for i in at], session.config.resamples, session.seed(f"insert {e} {target}")
            )
            other = before[at].argmax(1) != e
            follows = (found[at].argmax(1) == e)[other]
            lines.append(
                {
                    "emotion": session.labels[e],
                    "target": target,
                    "control": control,
                    "n": len(at),
                    **_interval(found[at, e] - before[at, e], weights),
                    "n_answered_otherwise": int(other.sum()),
                    "follows": float(follows.mean()) if len(follows) else np.nan,
                }
            )
    columns = ["emotion", "target", "control", "n", "effect", "ci_low", "ci_high", "n_answered_otherwise", "follows"]
    return pd.DataFrame(lines, columns=columns)


def _insertion(session: Session, own: CausalSet, rows: np.ndarray, *, control: bool) -> dict[int, ResidualEdit]:
    edits = {}
    chosen = own.by_layer(len(own.causal), control=control)
    few = session.saes.restricted(chosen)
    for layer, features in chosen.items():
        acts = session.features(layer).acts[rows][:, features].toarray()
        active = acts > 0
        typical = acts.sum(0) / np.maximum(active.sum(0), 1)
        edits[layer] = _set_to(few, layer, features, torch.from_numpy(typical).float())
    return edits


def _set_to(saes: SaeStack, layer: int, features: list[int], values: Tensor) -> ResidualEdit:
    index = torch.tensor(features, device=saes.device(layer))
    directions, target = saes.directions(layer, index), values.to(index.device)

    def edit(x: Tensor) -> Tensor:
        return x + ((target - saes.encode_features(layer, x, index)) @ directions).to(x.dtype)

    return edit


def _cofiring(session: Session, sets: list[CausalSet]) -> pd.DataFrame:
    """On texts of one emotion, which share of another's causal features is active; `common`: causal for both.

    Features that are causal for both are left out of the share.
    """
    rows = session.role("discover")
    gold = session.gold(rows)
    keys = [set(zip(s.causal["layer"], s.causal["feature"], strict=True)) for s in sets]
    lines = []
    for of, owner in enumerate(sets):
        active = {
            (layer, feature): session.features(layer).acts[rows][:, [feature]].toarray()[:, 0] > 0
            for layer, feature in sorted(keys[of])
        }
        for on, texts in enumerate(sets):
            members = np.flatnonzero(gold == on)
            chosen = [k for k in active if of == on or k not in keys[on]]
            if not chosen or not len(members):
                continue
            share = np.stack([active[k][members] for k in chosen], 1).mean(1)
            weights = _weights(session, rows[members], f"cofiring {of} {on}")
            lines.append(
                {
                    "emotion": texts.emotion,
                    "features_of": owner.emotion,
                    "n": len(members),
                    "n_features": len(chosen),
                    "common": len(keys[of] & keys[on]) if of != on else 0,
                    **_interval(share, weights),
                }
            )
    columns = ["emotion", "features_of", "n", "n_features", "common", "effect", "ci_low", "ci_high"]
    return pd.DataFrame(lines, columns=columns).rename(columns={"effect": "share"})


def _weights(session: Session, rows: np.ndarray, purpose: str) -> np.ndarray:
    groups = session.table["group"].iloc[rows].tolist()
    return resample_weights(groups, session.config.resamples, session.seed(purpose))


def _interval(values: np.ndarray, weights: np.ndarray) -> dict[str, float]:
    mean, low, high = mean_estimates(values[:, None], weights)
    return {"effect": float(mean[0]), "ci_low": float(low[0]), "ci_high": float(high[0])}
