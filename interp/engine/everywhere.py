"""Ablation at all positions: recomputed from the first token where the feature fires."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.suffix import Suffix, check_unedited, suffixes
from interp.memory import halved
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack

TOKENS_IN_FLIGHT = 4096


@torch.no_grad()
def ablate_everywhere(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    *,
    layer: int,
    example: Int[Tensor, " row"],
    feature: Int[Tensor, " row"],
    tokens_in_flight: int = TOKENS_IN_FLIGHT,
) -> Float[Tensor, "row answer"]:
    """Answer logits of `example[row]` with `feature[row]` set to zero at every position but the first.

    The first token is left alone: its residual is a constant far from all others, which SAEs are not trained on. A
    feature that fires nowhere keeps the clean logits and costs nothing. Where memory runs out, the tokens in flight
    are halved, with a warning.

    Args:
        captured: from `capture(..., keep_cache=True, everywhere=[layer])`.

    Raises:
        UserError: no SAE at that layer, or a feature it does not have.
        ValueError: the residuals at all positions were not captured.
        EngineError: an unedited row moved.
    """
    saes.check_features(layer, feature.unique().tolist())
    if not captured.caches or layer not in captured.caches[0].everywhere:
        raise ValueError(f"capture(..., keep_cache=True, everywhere=[{layer}]) is needed first.")
    logits = captured.answer_logits[example].clone()
    for suffix in suffixes(model, captured):
        for prompt, place in enumerate(suffix.cache.examples):
            rows = (example == place).nonzero()[:, 0]
            if len(rows):
                logits[rows] = _one_prompt(suffix.select([prompt]), saes, layer, feature[rows], tokens_in_flight)
    return logits


def _one_prompt(
    suffix: Suffix, saes: SaeStack, layer: int, features: Int[Tensor, " feature"], tokens_in_flight: int
) -> Float[Tensor, "feature answer"]:
    """Features in the order in which they first fire, so that rows computed together share a long prefix."""
    residual, clean = suffix.cache.everywhere[layer][0], suffix.clean_scores[0]  # [token, d_model], [answer]
    acts = saes.encode_features(layer, residual, features)
    acts[int(suffix.cache.mask[0].long().argmax())] = 0
    n_tokens = len(acts)
    fires = acts > 0
    first = torch.where(fires.any(0), fires.long().argmax(0), n_tokens)
    logits = clean.repeat(len(features), 1)
    waiting = [int(f) for f in first.argsort() if first[f] < n_tokens]
    while waiting:
        start = int(first[waiting[0]])
        size = max(1, tokens_in_flight // (n_tokens - start) - 1)
        together = torch.tensor(waiting[:size], device=residual.device)
        change = acts[start:, together].T[..., None] * saes.directions(layer, features[together])[:, None]
        unedited = residual[None, start:]
        rows = torch.cat([unedited, unedited - change.to(residual.dtype)])  # [1 + feature, token, d_model]
        try:
            scores = suffix.scores_from(rows, layer)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            least = 2 * (n_tokens - start)
            tokens_in_flight = halved(len(rows) * (n_tokens - start), "tokens in flight", error, least=least)
            continue
        check_unedited(suffix.model, layer, scores[0] - clean)
        logits[together] = scores[1:]
        waiting = waiting[size:]
    return logits
