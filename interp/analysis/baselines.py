"""The ablations that the field uses, for comparison with features: directions of the residual, whole modules."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp.analysis.labelled import LabelledExamples
from interp.statistics import mean_estimates

Array = np.ndarray


class Directions(NamedTuple):
    """A unit direction for every emotion (zero where there is none), and the mean residual."""

    units: Float[Array, "emotion d_model"]
    centre: Float[Array, " d_model"]


class Ablation(NamedTuple):
    """What is ablated: at which layer, by which method."""

    layer: int
    method: str


def emotion_directions(
    residuals: Float[Array, "example d_model"], gold: Int[Array, " example"], n_labels: int, seed: int
) -> dict[str, Directions]:
    """Each emotion's direction in a layer's residuals, found in three ways.

    *mean difference*: mean residual of the emotion minus that of the others (Marks & Tegmark 2023); *probe*: the
    emotion's weights of a logistic regression; *random*: a normal vector.

    Args:
        seed: of the random directions.
    """
    vectors = {
        "mean difference direction": mean_differences(residuals, gold, n_labels),
        "probe direction": probe_weights(residuals, gold, n_labels),
        "random direction": np.random.default_rng(seed).standard_normal((n_labels, residuals.shape[1])),
    }
    return {name: Directions(_units(v), residuals.mean(0)) for name, v in vectors.items()}


def _units(vectors: Float[Array, "emotion d_model"]) -> Float[Array, "emotion d_model"]:
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


def mean_differences(
    residuals: Float[Array, "example d_model"], gold: Int[Array, " example"], n_labels: int
) -> Float[Array, "emotion d_model"]:
    """Mean residual of each emotion minus that of the others; zero where either side is empty."""
    out = np.zeros((n_labels, residuals.shape[1]))
    for emotion in np.unique(gold):
        inside = gold == emotion
        if not inside.all():
            out[emotion] = residuals[inside].mean(0) - residuals[~inside].mean(0)
    return out


def probe_weights(
    residuals: Float[Array, "example d_model"], gold: Int[Array, " example"], n_labels: int
) -> Float[Array, "emotion d_model"]:
    """Weights of a logistic regression in residual units, those of the mean class taken off."""
    out = np.zeros((n_labels, residuals.shape[1]))
    classes = np.unique(gold)
    if len(classes) < 2:
        return out
    scaler = StandardScaler().fit(residuals)
    weights = LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(residuals), gold).coef_
    weights = np.concatenate([-weights, weights]) if len(classes) == 2 else weights - weights.mean(0)
    out[classes] = weights / scaler.scale_
    return out


def baseline_effects(effects: Mapping[Ablation, Float[Array, " example"]], examples: LabelledExamples) -> pd.DataFrame:
    """Per layer, method and emotion, the mean effect of an ablation on the gold answer.

    Args:
        effects: fall of every example's gold log-probability, in nats.

    Returns:
        Columns layer, method, emotion, n, effect, ci_low, ci_high.
    """
    ablations, parts = sorted(effects), []
    for emotion, label in enumerate(examples.labels):
        members = examples.members(emotion)
        if not len(members):
            continue
        values = np.stack([effects[a][members] for a in ablations], 1)
        mean, low, high = mean_estimates(values, examples.weights(members, f"baselines {label}"))
        part = pd.DataFrame(ablations, columns=["layer", "method"])
        parts.append(part.assign(emotion=label, n=len(members), effect=mean, ci_low=low, ci_high=high))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
