"""First-order effects of all features of all layers from one backward pass: they propose, exact ablation decides."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.ablation import in_parts, rows_in_memory
from interp.engine.capture import Captured
from interp.engine.suffix import answer_scores
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack


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
    if not captured.caches:
        raise ValueError("answer_gradients needs captured = capture(..., keep_cache=True).")
    gradients = torch.empty_like(captured.residuals)
    # On the way back every layer's activations are needed.
    for cache in in_parts(captured, rows_in_memory(model, captured) // model.n_layers):
        index = torch.tensor(cache.examples, device=targets.device)
        leaves: list[Tensor] = []

        def watch(layer: int, tail: Tensor, leaves: list[Tensor] = leaves) -> None:
            leaves.append(tail)

        with torch.enable_grad():
            first = captured.residuals[0, index][:, None].clone().requires_grad_()
            log_probs = answer_scores(model, captured, cache, first, 0, watch=watch)[:, 0].log_softmax(-1)
            chosen = log_probs.gather(1, targets[index, None]).sum()
            found = torch.autograd.grad(chosen, leaves)
        for layer, gradient in enumerate(found):
            gradients[layer, index] = gradient[:, 0, 0].to(gradients.device)
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
    found = answer_gradients(model, captured, targets) if gradients is None else gradients
    acts = saes.encode(layer, captured.residuals[layer])
    return acts * (found[layer].to(acts.dtype) @ saes.directions(layer).T)
