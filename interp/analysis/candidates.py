"""Which features are traced: what attribution proposes, and the random features they are compared with."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from interp.analysis.rules import JOINT_FEATURES

Array = np.ndarray
NEAREST = 5
"""A control is drawn from this many unused features of nearest strength and firing rate."""


@dataclass(frozen=True)
class Candidate:
    """A feature to be traced for an emotion, within its phase."""

    layer: int
    phase: int
    feature: int
    emotion: int
    attribution: float
    control: bool


class Activity(NamedTuple):
    """How strong and how frequent a layer's features are on each emotion's examples.

    Attributes:
        strength: mean norm of a feature's contribution to the residual; 0: never active.
        firing: share of the examples on which it is active.
    """

    strength: Float[Array, "d_sae emotion"]
    firing: Float[Array, "d_sae emotion"]


def activity(acts: csr_array, norms: Float[Array, " d_sae"], gold: Int[Array, " example"], n_labels: int) -> Activity:
    """Of every feature of a layer, over each emotion's examples.

    Args:
        acts: [example, d_sae], in residual units.
        norms: of the features' directions.
    """
    member = np.eye(n_labels)[gold]
    member /= np.maximum(member.sum(0), 1)
    return Activity((acts.T @ member) * norms[:, None], (acts > 0).T @ member)


def strongest(attribution: Float[Array, "d_sae emotion"], count: int = JOINT_FEATURES) -> list[int]:
    """The features of highest attribution, averaged over emotions."""
    return [int(feature) for feature in np.argsort(-attribution.mean(1), kind="stable")[:count]]


def choose_candidates(
    attribution: dict[int, Float[Array, "d_sae emotion"]],
    strength: dict[int, Float[Array, "d_sae emotion"]],
    firing: dict[int, Float[Array, "d_sae emotion"]],
    phase_of: dict[int, int],
    count: int,
    seed: int,
) -> list[Candidate]:
    """Per phase and emotion, the `count` active features of highest mean attribution, and as many controls.

    A control is a random feature of the same phase that is active for the emotion and no candidate of it, matched to
    one candidate by strength and firing rate; where too few are left there are fewer controls.

    Args:
        attribution: per layer, mean attribution over each emotion's examples.
        strength: per layer, mean norm of the feature's contribution over each emotion's examples; 0: never active.
        firing: per layer, share of each emotion's examples on which the feature is active.
    """
    rng = np.random.default_rng(seed)
    n_emotions = next(iter(attribution.values())).shape[1]
    chosen = []
    for phase in sorted(set(phase_of.values())):
        layers = [k for k in sorted(attribution) if phase_of[k] == phase]
        place = np.concatenate(
            [np.stack([np.full(len(attribution[k]), k), np.arange(len(attribution[k]))], 1) for k in layers]
        )
        score = np.concatenate([attribution[k] for k in layers])
        power = np.concatenate([strength[k] for k in layers])
        rate = np.concatenate([firing[k] for k in layers])
        for emotion in range(n_emotions):
            active = np.flatnonzero(power[:, emotion] > 0)
            ranked = active[np.argsort(-score[active, emotion], kind="stable")]
            proposed = ranked[:count][score[ranked[:count], emotion] > 0]
            traits = np.stack([np.log(np.maximum(power[:, emotion], 1e-12)), rate[:, emotion]], 1)
            controls = matched(traits, active, proposed, rng)
            chosen += [
                Candidate(
                    int(place[i, 0]), phase, int(place[i, 1]), emotion, float(score[i, emotion]), bool(is_control)
                )
                for group, is_control in ((proposed, False), (controls, True))
                for i in group
            ]
    return chosen


def candidate_table(candidates: Sequence[Candidate], labels: Sequence[str]) -> pd.DataFrame:
    """Columns layer, phase (a number as text), feature, emotion (a label), attribution, control."""
    names = ("layer", "phase", "feature", "emotion", "attribution", "control")
    kinds = list(zip(names, (int, int, int, int, float, bool), strict=True))
    table = pd.DataFrame(np.array([astuple(c) for c in candidates], dtype=kinds))
    return table.assign(phase=table["phase"].astype(str), emotion=np.asarray(labels, dtype=object)[table["emotion"]])


def matched(traits: Float[Array, "feature trait"], active: Array, proposed: Array, rng: np.random.Generator) -> Array:
    """One unused active feature of about the same traits for each of `proposed`, those of largest first trait first."""
    spread = traits[active].std(0) if len(active) else np.ones(traits.shape[1])
    scaled = traits / np.where(spread > 0, spread, 1.0)
    free = np.setdiff1d(active, proposed)
    picked = []
    for feature in proposed[np.argsort(-traits[proposed, 0], kind="stable")]:
        if not len(free):
            break
        near = np.argsort(np.square(scaled[free] - scaled[feature]).sum(1), kind="stable")[:NEAREST]
        at = int(rng.choice(near))
        picked.append(free[at])
        free = np.delete(free, at)
    return np.array(picked, dtype=int)
