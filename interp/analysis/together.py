"""Causal features together: are they necessary, are they sufficient, whose answer do they hold back, who shares them?

Necessity: what an emotion's answer loses on its own texts when its features are removed together. Sufficiency: what it
gains on texts of other emotions when they are set as they are in its own (activation patching; Vig et al. 2020). Both
are exact effects on log-probabilities over the label set, in nats, beside as many controls.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.special import log_softmax

from interp.analysis.effect_rows import causal_features, effects_on
from interp.analysis.labelled import LabelledExamples, seed_for
from interp.analysis.rules import JOINT_SIZES

Array = np.ndarray
NEUTRAL = "neutral"

Features = Mapping[int, list[int]]
"""Feature indices by layer."""


class Removed(NamedTuple):
    """Which of an emotion's features are removed together."""

    phase: str
    """Its number as text, or "all"."""
    k: int
    control: bool


class Inserted(NamedTuple):
    """All causal features of an emotion, or as many controls, set in texts of others."""

    emotion: int
    control: bool


@dataclass(frozen=True)
class CausalSet:
    """An emotion's causal features, strongest first, and its controls, in an order of their own.

    Attributes:
        causal, controls: columns layer, phase, feature.
    """

    emotion: str
    causal: pd.DataFrame
    controls: pd.DataFrame

    def __len__(self) -> int:
        return len(self.causal)

    def by_layer(self, *, control: bool = False) -> Features:
        """All causal features, or as many controls."""
        return _by_layer(self.controls.head(len(self)) if control else self.causal)

    def removals(self) -> dict[Removed, Features]:
        """The strongest features in growing sets, as many controls, and the features of each phase."""
        sizes = sorted({k for k in JOINT_SIZES if k <= len(self)} | {len(self)} - {0})
        sets = {Removed("all", k, False): self.causal.head(k) for k in sizes}
        sets |= {Removed("all", k, True): self.controls.head(k) for k in sizes if k <= len(self.controls)}
        sets |= {Removed(str(phase), len(own), False): own for phase, own in self.causal.groupby("phase")}
        return {removed: _by_layer(table) for removed, table in sets.items()}


def _by_layer(table: pd.DataFrame) -> Features:
    return {int(layer): list(rows["feature"]) for layer, rows in table.groupby("layer")}


def causal_sets(effects: pd.DataFrame, labels: Sequence[str], seed: int) -> list[CausalSet]:
    """Every label's set, of at most as many features as are removed together; empty for one without a causal feature.

    Args:
        effects: columns emotion, layer, phase, feature, effect, causal, control, role.
        seed: of the order of controls.
    """
    sets = []
    for label in labels:
        own = effects_on(effects[effects["emotion"] == label])
        strongest = causal_features(own).sort_values("effect", ascending=False, kind="stable").head(JOINT_SIZES[-1])
        controls = own[own["control"]].sample(frac=1, random_state=seed_for(seed, f"controls {label}"))
        sets.append(CausalSet(label, strongest, controls))
    return sets


def union(sets: Iterable[Features]) -> dict[int, list[int]]:
    """All features of some sets, by layer."""
    out: dict[int, set[int]] = {}
    for features in sets:
        for layer, indices in features.items():
            out.setdefault(layer, set()).update(indices)
    return {layer: sorted(indices) for layer, indices in out.items()}


class Necessity(NamedTuple):
    """Tables of what an emotion's answer loses, and of what every answer gains."""

    joint: pd.DataFrame
    overshadowing: pd.DataFrame


def necessity(
    before: Mapping[int, Float[Array, "member answer"]],
    after: Mapping[int, Mapping[Removed, Float[Array, "member answer"]]],
    examples: LabelledExamples,
) -> Necessity:
    """Effect of removing features together on the emotion's own examples, and where the answer's probability goes.

    Args:
        before: by emotion, answer logits of its members among the examples.
        after: the same without features.

    Returns:
        `joint`: columns emotion, phase, k, control, n, and effect (mean fall of the emotion's log-probability, nats)
        with its interval. `overshadowing`: columns emotion, answer, n, effect (mean rise of each answer's probability
        without all causal features) with its interval, moved (share of the examples whose answer becomes that one).
    """
    joint, moved = [], []
    for emotion, removals in after.items():
        label, members, clean = (
            examples.labels[emotion],
            examples.members(emotion),
            log_softmax(before[emotion], axis=1),
        )
        edited = {removed: log_softmax(logits, axis=1) for removed, logits in removals.items()}
        for removed, scores in edited.items():
            fall = examples.mean(clean[:, emotion] - scores[:, emotion], members, f"joint {label}")
            joint.append({"emotion": label, **removed._asdict(), **fall})
        whole = edited[max((r for r in edited if r.phase == "all" and not r.control), key=lambda r: r.k)]
        for other, answer in enumerate(examples.labels):
            rise = examples.mean(np.exp(whole[:, other]) - np.exp(clean[:, other]), members, f"joint {label}")
            becomes = (clean.argmax(1) == emotion) & (whole.argmax(1) == other)
            moved.append({"emotion": label, "answer": answer, "moved": float(becomes.mean()), **rise})
    return Necessity(pd.DataFrame(joint), pd.DataFrame(moved))


def typical_activations(acts: Float[Array, "example feature"]) -> Float[Array, " feature"]:
    """Mean activation of each feature over the examples on which it is active; 0 where it never is."""
    return np.asarray(acts.sum(0) / np.maximum((acts > 0).sum(0), 1))


def sufficiency(
    before: Float[Array, "text answer"],
    after: Mapping[Inserted, Float[Array, "text answer"]],
    examples: LabelledExamples,
) -> pd.DataFrame:
    """What an emotion's answer gains in texts of other emotions, and neutral ones, when its features are set in them.

    Args:
        before: answer logits of all texts: those of the examples, then the neutral ones.
        after: the same with the features set.

    Returns:
        Columns emotion, target (of the texts), control, n, effect (mean rise of the emotion's log-probability, nats)
        with its interval, n_answered_otherwise, and follows: share of these whose answer becomes the emotion.
    """
    clean, n_neutral, lines = log_softmax(before, axis=1), len(before) - len(examples), []
    kinds = list(dict.fromkeys([*examples.labels, NEUTRAL]))
    gold = np.append(examples.gold, np.full(n_neutral, kinds.index(NEUTRAL)))
    groups = np.append(examples.groups.astype(object), np.arange(n_neutral))
    texts = replace(examples, labels=kinds, gold=gold, groups=groups, rows=np.arange(len(before)))
    for (emotion, control), logits in after.items():
        scores = log_softmax(logits, axis=1)
        for kind, target in enumerate(kinds):
            members = texts.members(kind)
            if not len(members) or kind == emotion:
                continue
            rise = scores[members, emotion] - clean[members, emotion]
            otherwise = members[clean[members].argmax(1) != emotion]
            follows = scores[otherwise].argmax(1) == emotion
            lines.append(
                {"emotion": kinds[emotion], "target": target, "control": control}
                | texts.mean(rise, members, f"insert {emotion} {target}")
                | {"n_answered_otherwise": len(otherwise), "follows": float(follows.mean()) if len(follows) else np.nan}
            )
    return pd.DataFrame(lines)


def cofiring(
    sets: Sequence[CausalSet],
    active: Mapping[tuple[int, int], Bool[Array, " example"]],
    examples: LabelledExamples,
) -> pd.DataFrame:
    """On texts of one emotion, which share of another's causal features is active.

    Features that are causal for both are left out of the share, and counted as *common*.

    Args:
        active: by (layer, feature), on which examples it is active; all features of all sets.

    Returns:
        Columns emotion (of the texts), features_of, n, n_features, common, and share with its interval.
    """
    features, lines = [set(zip(s.causal["layer"], s.causal["feature"], strict=True)) for s in sets], []
    for of, owner in enumerate(sets):
        for on, texts in enumerate(sets):
            members, common = examples.members(on), features[of] & features[on] if on != of else set()
            shown = sorted(features[of] - common)
            if not shown or not len(members):
                continue
            share = np.stack([active[key][members] for key in shown], 1).mean(1)
            names = {"emotion": texts.emotion, "features_of": owner.emotion}
            counts = {"n_features": len(shown), "common": len(common)}
            lines.append(names | counts | examples.mean(share, members, f"cofiring {of} {on}"))
    return pd.DataFrame(lines).rename(columns={"effect": "share"})
