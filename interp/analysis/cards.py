"""What a reader asks of a causal feature: where it fires, what it writes, which features are alike.

Numbers of a card have four significant digits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.effect_rows import candidate_effects
from interp.models.language_model import LanguageModel

Array = np.ndarray
PER_EMOTION = 10
"""Causal features of an emotion that get a card, those of largest effect first."""
CANDIDATES = 3
"""Candidates of largest effect that get one where an emotion has no causal feature."""
TEXTS = 5
BINS = 20
NEIGHBOURS = 5

Key = tuple[int, int]
"""(layer, feature)."""
Weighted = tuple[str, float]
"""A token or a label, and what a unit of the feature adds to its logit."""


@dataclass(frozen=True)
class EmotionActivity:
    """A feature on one emotion's texts: how many there are, on how many it is active, and how strongly (histogram)."""

    emotion: str
    n: int
    active: int
    counts: list[int]


@dataclass(frozen=True)
class Neighbour:
    """A feature of like direction."""

    layer: int
    feature: int
    cosine: float


@dataclass(frozen=True)
class FiringText:
    """A text of the run on which a feature fires, token by token."""

    id: str
    corpus: str
    gold: str
    predicted: str
    tokens: list[str]
    activations: list[float]


@dataclass(frozen=True)
class FeatureCard:
    """Of one feature.

    Attributes:
        norm: of its direction.
        neuronpedia: its page there, where it has one.
        edges: of the histogram's bins, in units of activation.
        promotes, suppresses: tokens whose logits it raises and lowers most.
        answers: what it adds to the labels' first tokens, minus the mean of these.
        neighbours: of nearest direction: of the same layer, and of other cards.
        texts: on which it fires most at the answer position.
    """

    layer: int
    feature: int
    norm: float
    neuronpedia: str | None
    edges: list[float]
    emotions: list[EmotionActivity]
    promotes: list[Weighted]
    suppresses: list[Weighted]
    answers: list[Weighted]
    neighbours: list[Neighbour]
    texts: list[FiringText]


def short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")


def features_with_cards(effects: pd.DataFrame, labels: Sequence[str]) -> list[Key]:
    """In order: causal features of every emotion, or its strongest candidates where it has none."""
    traced = candidate_effects(effects).sort_values("effect", ascending=False, kind="stable")
    keys: set[Key] = set()
    for label in labels:
        own = traced[traced["emotion"] == label]
        causal = own[own["causal"].astype(bool)].head(PER_EMOTION)
        best = causal if len(causal) else own.head(CANDIDATES)
        keys |= {(int(layer), int(feature)) for layer, feature in zip(best["layer"], best["feature"], strict=True)}
    return sorted(keys)


def bin_edges(acts: Float[Array, " example"]) -> Float[Array, " edge"]:
    """Of a histogram of the activations above zero."""
    return np.linspace(0, max(float(acts.max()), 1e-6), BINS + 1)


def firing(
    acts: Float[Array, " example"], gold: Int[Array, " example"], labels: Sequence[str]
) -> list[EmotionActivity]:
    """Where a feature is active, by emotion, in the bins of `bin_edges`."""
    of_emotion = [acts[gold == emotion] for emotion in range(len(labels))]
    counts = [np.histogram(own[own > 0], bin_edges(acts))[0].tolist() for own in of_emotion]
    return [
        EmotionActivity(label, len(own), int((own > 0).sum()), count)
        for label, own, count in zip(labels, of_emotion, counts, strict=True)
    ]


def logit_weights(
    model: LanguageModel,
    directions: Float[Tensor, "*row d_model"],
    at: Float[Tensor, " d_model"],
    tokens: Int[Tensor, " token"] | None = None,
) -> Float[Tensor, "*row vocabulary"]:
    """What a unit of a direction adds to tokens' logits on the direct path: final norm linearised at `at`.

    Args:
        tokens: the only ones that are looked at; None: the whole vocabulary.
    """
    norm = model.final_norm
    weight = next(norm.parameters())
    along = directions.to(weight.device, weight.dtype)
    x = at.to(weight.device, weight.dtype).expand_as(along).clone()
    _, change, *_ = torch.func.jvp(norm, (x,), (along,))
    head = model.head_weight if tokens is None else model.head_weight[tokens.to(model.head_weight.device)]
    logits: Tensor = change.to(head.device, head.dtype) @ head.T
    return logits.float().cpu()


def neighbours(
    key: Key, of_layer: Float[Tensor, "d_sae d_model"], of_cards: Mapping[Key, Float[Tensor, " d_model"]]
) -> list[Neighbour]:
    """Features of nearest direction (cosine): of the same layer, and of the other layers' cards.

    Args:
        of_layer: directions of all features of the feature's layer.
        of_cards: directions of the features that have cards, its own among them.
    """
    layer, feature = key
    own = of_cards[key]
    cosines = (of_layer @ own) / (of_layer.norm(dim=-1) * own.norm()).clamp(min=1e-12)
    cosines[feature] = -torch.inf
    best = cosines.topk(min(NEIGHBOURS, len(cosines) - 1))
    near = [Neighbour(layer, f, c) for f, c in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    others = [
        Neighbour(k, f, torch.cosine_similarity(own, d.to(own.device), dim=0).item())
        for (k, f), d in of_cards.items()
        if k != layer
    ]
    near += sorted(others, key=lambda n: -n.cosine)[:NEIGHBOURS]
    return [Neighbour(n.layer, n.feature, short(n.cosine)) for n in sorted(near, key=lambda n: -n.cosine)]


def strongest_examples(acts: Float[Array, "example feature"]) -> list[list[int]]:
    """Of every feature, the examples on which it fires most, at most `TEXTS`."""
    order = np.argsort(-acts, axis=0, kind="stable")[:TEXTS]
    return [[int(i) for i in column if acts[i, f] > 0] for f, column in enumerate(order.T)]
