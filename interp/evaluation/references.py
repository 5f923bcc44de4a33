"""What a steering is compared with that changes no residual: other prompts, a shift of the answers, a probe."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interp.analysis.signals import probe_right
from interp.engine.capture import capture
from interp.engine.prefixes import last_residuals
from interp.models.answers import LabelTokens
from interp.models.language_model import LanguageModel
from interp.texts.examples import Example
from interp.texts.prompts import Prompt, build_prompts, choose_shots

SHOTS = (1, 5)
"""Solved examples per label in the few-shot prompts."""
PROMPTS = ("unsteered", *(f"few_shot_{n}" for n in SHOTS))
"""Methods that change nothing but the prompt; a steering that is worth its trouble beats the best of them."""
SHOT_FRAME = 16
"""Tokens that a template adds to each solved example, about."""
FRAME_SHARE = 0.8
"""How much of the context solved examples may take; the rest is for the text."""
BIAS_PENALTY = 0.01
FEW_PENALTY = 0.01
LEAST = 5
"""Examples of each emotion without which no probe is trained."""
NEVER = -30.0
"""Log-probability of an emotion that a probe has never seen."""

Array = np.ndarray


def without_prior(
    log_probs: Float[Array, "example label"], unlabelled: Float[Array, "text label"]
) -> Float[Array, "example label"]:
    """Log-probabilities less their means over texts of unknown label: contextual calibration (Zhao et al. 2021)."""
    return np.asarray(log_probs - unlabelled.mean(0))


def with_bias(
    log_probs: Float[Array, "example label"], fit_log_probs: Float[Array, "fit label"], fit_gold: Int[Array, " fit"]
) -> Float[Array, "example label"]:
    """Log-probabilities plus a constant per answer, fitted on labelled examples."""
    return np.asarray(log_probs + answer_bias(fit_log_probs, fit_gold))


def answer_bias(log_probs: Float[Array, "example label"], gold: Int[Array, " example"]) -> Float[Array, " label"]:
    """The constant per answer that makes labelled examples most likely, with a light pull towards none."""
    before, target = torch.tensor(log_probs), torch.tensor(gold)
    bias = torch.zeros(before.shape[1], dtype=before.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(before + bias, target) + BIAS_PENALTY * bias.square().mean()
        value.backward()
        return value.item()

    with torch.enable_grad():
        optimiser.step(loss)
    return bias.detach().numpy()


def residual_probe(
    states: Float[Array, "text d_model"],
    places: Int[Array, " example"],
    gold: Int[Array, " example"],
    asked: Float[Array, "row d_model"],
    n_labels: int,
) -> Float[Array, "row label"]:
    """Log-probabilities of a logistic regression on few labelled residuals, standardised by all texts."""
    scaler = StandardScaler().fit(states)
    trained = LogisticRegression(C=FEW_PENALTY, max_iter=300).fit(scaler.transform(states[places]), gold)
    logits = np.full((len(asked), n_labels), NEVER)
    logits[:, trained.classes_] = trained.predict_log_proba(scaler.transform(asked))
    return logits


def few_shot(
    model: LanguageModel, prompts: Sequence[Prompt], labels: Sequence[str], label_tokens: LabelTokens
) -> Float[Array, "example label"]:
    """Answer logits of prompts that all begin with the same solved examples, and pass them once.

    Args:
        label_tokens: the labels as they continue the prompts.
    """
    if label_tokens.whole:
        return capture(model, prompts, answers=labels).answer_logits.float().cpu().numpy()
    logits = np.zeros((len(prompts), len(labels)))
    sequences = [e.ids for e in model.encode(prompts)]
    with torch.no_grad():
        for rows, residuals in last_residuals(model, sequences):
            logits[rows] = model.unembed(residuals, label_tokens.first).float().cpu().numpy()
    return logits


def shots_that_fit(
    model: LanguageModel, examples: Sequence[Example], labels: Sequence[str], template: str, n_shots: int, seed: int
) -> list[Example] | None:
    """Solved examples, drawn among the texts short enough for all of them to take about two thirds of the context."""
    room = model.context * 2 // 3 // (n_shots * len(labels)) - SHOT_FRAME
    lengths = model.tokenizer([e.text for e in examples], add_special_tokens=False)["input_ids"]
    short = [e for e, ids in zip(examples, lengths, strict=True) if len(ids) <= room]
    present = [label for label in labels if any(e.gold == label for e in examples)]
    if any(sum(e.gold == label for e in short) < n_shots for label in present):
        return None
    shots = choose_shots(short, present, n_shots, seed)
    (frame,) = build_prompts([""], labels, template=template, shots=shots)
    return shots if len(model.ids(frame)) <= model.context * FRAME_SHARE else None


class ProbeData(NamedTuple):
    """Residuals of all examples by layer, the rows that a probe is trained on, and the gold numbers of these."""

    residuals: Callable[[int], Float[Array, "example d_model"]]
    fit: Int[Array, " fit"]
    gold: Int[Array, " fit"]
    n_labels: int


def probe(
    data: ProbeData, layers: Iterable[int], rows: Int[Array, " row"], seed: int
) -> Float[Array, "row label"] | None:
    """Log-probabilities of a logistic regression on the residuals of the layer where it does best: a ceiling.

    None where there are too few examples to train one.

    Args:
        layers: perhaps shown as they pass.
        rows: the examples that it answers.
    """
    present, counts = np.unique(data.gold, return_counts=True)
    if len(present) < 2 or counts.min() < LEAST:
        return None
    right = {layer: probe_right(data.residuals(layer)[data.fit], data.gold, seed).mean() for layer in layers}
    best = data.residuals(max(right, key=lambda k: right[k]))
    trained = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(best[data.fit], data.gold)
    logits = np.full((len(rows), data.n_labels), NEVER)
    logits[:, trained.classes_] = trained.predict_log_proba(best[rows])
    return logits
