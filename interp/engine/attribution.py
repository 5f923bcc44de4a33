"""First-order effects of all features of all layers from one backward pass: they propose, exact ablation decides."""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.suffix import rows_in_memory, suffixes
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack

ROWS_AT_ONCE = 512
"""Examples whose slopes along every direction of a layer are held together."""


def answer_gradients(
    model: LanguageModel, captured: Captured, targets: Int[Tensor, " example"]
) -> Float[Tensor, "layer example d_model"]:
    """Gradient of the target answer's log-probability (over the label set) with respect to every layer's residual.

    One token forward and backward through all layers; earlier positions are constants of the answer position.

    Args:
        targets: index into the answers, per example.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    gradients = torch.empty_like(captured.residuals)
    # On the way back every layer's activations are needed.
    for suffix in suffixes(model, captured, rows_in_memory(model, captured) // model.n_layers):
        residuals: list[Tensor] = []

        def note(residual: Tensor, residuals: list[Tensor] = residuals) -> Tensor:
            residuals.append(residual)
            return residual

        with torch.enable_grad():
            note(suffix.clean(0)[:, None].clone().requires_grad_())
            scores = suffix.scores({0: residuals[0]}, dict.fromkeys(range(1, model.n_layers), note))
            target = targets[suffix.examples.to(targets.device), None]
            log_probability = scores[:, 0].log_softmax(-1).gather(1, target).sum()
            slopes = torch.autograd.grad(log_probability, residuals)
        gradients[:, suffix.examples] = torch.stack(slopes)[:, :, 0]
    return gradients


def attribute(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    *,
    layer: int,
    targets: Int[Tensor, " example"],
    gradients: Float[Tensor, "layer example d_model"] | None = None,
) -> Float[Tensor, "example d_sae"]:
    """First-order effect of every feature: activation x gradient along its direction, in nats.

    Positive: removing the feature would lower the target answer's log-probability. Zero where it is inactive.

    Args:
        gradients: from `answer_gradients`, to share them between layers.

    Raises:
        UserError: no SAE at that layer.
    """
    slopes = (answer_gradients(model, captured, targets) if gradients is None else gradients)[layer]
    acts = saes.encode(layer, captured.residuals[layer])
    return acts * (slopes.to(acts.dtype) @ saes.directions(layer).T)


def mean_attribution(
    acts: csr_array,
    gradients: Float[Tensor, "example d_model"],
    directions: Float[Tensor, "d_sae d_model"],
    gold: Int[Tensor, " example"],
    n_labels: int,
) -> Float[np.ndarray, "d_sae emotion"]:
    """Attribution of every feature of a layer, averaged over each emotion's examples; 0 for an emotion without any.

    Args:
        acts: [example, d_sae], activations in residual units.
        gradients: of the gold answer's log-probability with respect to the layer's residual (`answer_gradients`).
        gold: emotion of each example.
    """
    member = torch.nn.functional.one_hot(gold, n_labels).float()
    total = torch.zeros(len(directions), n_labels)
    for part in np.array_split(np.arange(len(gold)), max(1, len(gold) // ROWS_AT_ONCE)):
        slopes = gradients[part].to(directions.device, directions.dtype) @ directions.T
        total += (torch.from_numpy(acts[part].toarray()) * slopes.float().cpu()).T @ member[part]
    return (total / torch.bincount(gold, minlength=n_labels).clamp(min=1)).numpy()
