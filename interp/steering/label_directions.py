"""Directions of a layer that may say a label, for a model without sparse autoencoders."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine import answer_gradients
from interp.engine.capture import Captured
from interp.models.language_model import LanguageModel

Array = np.ndarray


def label_gradients(
    model: LanguageModel, captured: Sequence[Captured], n_labels: int
) -> Float[Array, "layer label d_model"]:
    """Gradient of each label's log-probability with respect to every layer's residual, mean over captured texts.

    Args:
        captured: with keys and values.
    """
    total = torch.zeros(n_labels, model.n_layers, model.d_model, dtype=torch.float64)
    for label in range(n_labels):
        for part in captured:
            targets = torch.full((len(part.n_tokens),), label, device=model.device)
            total[label] += answer_gradients(model, part, targets).double().sum(1).cpu()
    return np.asarray((total / sum(len(part.n_tokens) for part in captured)).transpose(0, 1))


def label_directions(
    gradients: Float[Array, "label d_model"],
    residuals: Float[Tensor, "text d_model"],
    scores: Float[Array, "text label"],
) -> Float[Array, "direction d_model"]:
    """Two unit directions a label, which `spoken` measures and combines.

    - *gradient*: of the label's log-probability, less that of all labels;
    - *mean difference*: the residual where the label's score is high less where it is low (Marks & Tegmark 2023, with
      the model's own evidence in the place of labels): their covariance.

    Args:
        gradients: of the layer, see `label_gradients`.
        scores: what speaks for each label in each text, centred over labels.
    """
    x = residuals.double().cpu().numpy()
    covariance = (scores - scores.mean(0)).T @ (x - x.mean(0))
    return units(np.concatenate([gradients - gradients.mean(0), covariance]))


def units(rows: Float[Array, "direction d_model"]) -> Float[Array, "direction d_model"]:
    """Of length 1, but for those of length 0."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(np.divide(rows, norms, out=np.zeros_like(rows), where=norms > 0))
