"""The ablations that the field uses, for comparison with features: directions of the residual, whole modules."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from interp.analysis.labelled import LabelledExamples
from interp.engine.capture import Captured
from interp.engine.modules import Part, module_outputs, residuals_with
from interp.engine.variants import Given, answers_under_each
from interp.models.language_model import LanguageModel

Array = np.ndarray
PARTS: tuple[Part, ...] = ("attention", "mlp")
Module = tuple[int, Part]
"""A part of a layer."""


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
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))


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


class ModuleSums(NamedTuple):
    """By layer and module, its outputs at the answer position summed over `n` examples, in float64 on the CPU."""

    totals: Mapping[Module, Float[Tensor, " d_model"]]
    n: int


@torch.no_grad()
def module_sums(model: LanguageModel, captured: Captured) -> ModuleSums:
    """
    Args:
        captured: with keys and values.
    """
    totals = {
        (layer, part): module_outputs(model, captured, layer=layer, part=part).double().sum(0).cpu()
        for layer in range(model.n_layers)
        for part in PARTS
    }
    return ModuleSums(totals, len(captured.n_tokens))


def module_means(
    model: LanguageModel, captures: Iterable[Captured | ModuleSums]
) -> dict[Module, Float[Tensor, " d_model"]]:
    """By layer and module, its mean output at the answer position.

    Args:
        captures: with keys and values, of at least one example; or what `module_sums` made of them.
    """
    totals, n = dict[Module, Tensor](), 0
    for captured in captures:
        sums = module_sums(model, captured) if isinstance(captured, Captured) else captured
        totals = {key: total + totals.get(key, 0) for key, total in sums.totals.items()}
        n += sums.n
    return {key: (total / n).to(model.device, model.dtype) for key, total in totals.items()}


@torch.no_grad()
def ablation_effects(
    model: LanguageModel,
    captured: Captured,
    gold: Int[Tensor, " example"],
    directions: Mapping[Ablation, Directions],
    means: Mapping[tuple[int, Part], Float[Tensor, " d_model"]],
) -> dict[Ablation, Float[Tensor, " example"]]:
    """Fall of every example's gold log-probability (nats) under each ablation at the answer position.

    Of directions, the projection of the centred residual on the gold emotion's direction is set to zero (Arditi et al.
    2024). The attention's and the MLP's outputs are set to zero, and to their means.

    Args:
        captured: with keys and values.
        means: of `module_means`.
    """
    target = gold.to(model.device)
    edits: dict[Ablation, dict[int, Given]] = {}
    for ablation, of_layer in directions.items():
        x = captured.residuals[ablation.layer]
        units, centre = (torch.from_numpy(part).float().to(x) for part in of_layer)
        unit = units[target]
        edits[ablation] = {ablation.layer: Given(x - ((x - centre) * unit).sum(-1, keepdim=True) * unit)}
    zero = torch.zeros(model.d_model, device=model.device, dtype=model.dtype)
    for layer in range(model.n_layers):
        values = {part: [zero, means[layer, part]] for part in PARTS}
        for part, rows in residuals_with(model, captured, layer=layer, values=values).items():
            for column, how in enumerate(("zero", "mean")):
                edits[Ablation(layer, f"{part}, {how}")] = {layer: Given(rows[:, column])}

    def of_gold(logits: Float[Tensor, "example answer"]) -> Float[Tensor, " example"]:
        return logits.log_softmax(-1).gather(1, target[:, None])[:, 0]

    clean = of_gold(captured.answer_logits)
    return {a: clean - of_gold(logits) for a, logits in answers_under_each(model, captured, edits).items()}


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
        mean, low, high = examples.bootstrap(members, f"baselines {label}").means(values)
        part = pd.DataFrame(ablations, columns=["layer", "method"])
        parts.append(part.assign(emotion=label, n=len(members), effect=mean, ci_low=low, ci_high=high))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()
