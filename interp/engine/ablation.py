"""Exact causal effects of features: what the model would have answered without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.cache import PromptCache
from interp.engine.capture import Captured
from interp.engine.suffix import ResidualEdit, Suffix, check_unedited, rows_that_fit, suffixes
from interp.engine.variants import Name, Read, answers_given, answers_under, answers_under_each  # noqa: F401  also found here
from interp.memory import halved
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack


@dataclass(frozen=True)
class FeatureEdits:
    """Single-feature edits at the answer position, one a row: `change` is added to the feature's activation."""

    layer: Int[Tensor, " row"]
    example: Int[Tensor, " row"]
    feature: Int[Tensor, " row"]
    change: Float[Tensor, " row"]

    def __len__(self) -> int:
        return len(self.layer)

    @classmethod
    def joined(cls, parts: Sequence["FeatureEdits"]) -> "FeatureEdits":
        """The edits of several, one behind the other."""
        if not parts:
            none = torch.zeros(0, dtype=torch.long)
            return cls(none, none, none, none.float())
        columns = zip(*((p.layer, p.example, p.feature, p.change) for p in parts), strict=True)
        return cls(*(torch.cat(tensors) for tensors in columns))


@torch.no_grad()
def edited_logits(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    edits: FeatureEdits,
    *,
    rows_in_flight: int | None = None,
) -> Float[Tensor, "row answer"]:
    """Answer logits under each edit alone, exactly: one token through the layers above it.

    Edits of all layers share one sweep: each joins at its own layer. Every pass carries rows without an edit; the run
    stops if they do not reproduce the capture. Where memory runs out, the rows in flight are halved, with a warning.

    Args:
        rows_in_flight: edited tokens computed together; None sizes them from the free memory.

    Raises:
        EngineError: an unedited row moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    logits = torch.empty(len(edits), captured.answer_logits.shape[1], device=captured.answer_logits.device)
    size = rows_that_fit(model, captured) if rows_in_flight is None else rows_in_flight
    for suffix in suffixes(model, captured):
        waiting = _bundles(suffix.cache, edits, size)
        while waiting:
            count = max(1, size // (len(waiting[0].edits) + 1))
            try:
                _sweep(suffix, saes, edits, waiting[:count], logits)
                waiting = waiting[count:]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                size = halved(size, "rows in flight", error, least=2)
                waiting = [half for bundle in waiting for half in bundle.split(size - 1)]
    return logits


class _Bundle(NamedTuple):
    """Edits of one prompt that are computed together, as (layer, row of the edits), lowest layers first."""

    prompt: int
    edits: list[tuple[int, int]]

    def split(self, most: int) -> "list[_Bundle]":
        return [_Bundle(self.prompt, self.edits[k : k + most]) for k in range(0, len(self.edits), most)]


def _bundles(cache: PromptCache, edits: FeatureEdits, size: int) -> list[_Bundle]:
    """The edits of a cache's prompts, prompts with alike numbers of them side by side."""
    of_example: dict[int, list[tuple[int, int]]] = {}
    for row, (example, layer) in enumerate(zip(edits.example.tolist(), edits.layer.tolist(), strict=True)):
        of_example.setdefault(example, []).append((layer, row))
    bundles = [
        bundle
        for prompt, example in enumerate(cache.examples)
        for bundle in _Bundle(prompt, sorted(of_example.get(example, []))).split(max(1, size - 1))
    ]
    return sorted(bundles, key=lambda bundle: (-len(bundle.edits), bundle.prompt, bundle.edits[0][1]))


def _sweep(
    suffix: Suffix,
    saes: SaeStack,
    edits: FeatureEdits,
    bundles: Sequence[_Bundle],
    logits: Float[Tensor, "row answer"],
) -> None:
    """Fills in the logits of some bundles: rows [prompt, slot] enter at their layers, one slot at least stays empty."""
    layers = sorted({layer for bundle in bundles for layer, _ in bundle.edits})
    suffix = suffix.select([bundle.prompt for bundle in bundles], above=layers[0])
    entering: dict[int, Tensor] = {}
    slots = []
    for layer in layers:
        rows = [[row for after, row in bundle.edits if after == layer] for bundle in bundles]
        width = max(map(len, rows)) + (layer == layers[0])
        slot = torch.tensor([[*own, *[-1] * (width - len(own))] for own in rows], device=logits.device)
        edited = slot >= 0
        row = slot[edited]
        residuals = suffix.clean(layer)[:, None].repeat(1, width, 1)
        change = edits.change[row, None] * saes.directions(layer, edits.feature[row])
        residuals[edited] += change.to(residuals.dtype)
        entering[layer] = residuals
        slots.append(slot)
    scores = suffix.scores(entering)
    slot = torch.cat(slots, dim=1)
    check_unedited(suffix.model, layers[0], (scores - suffix.clean_scores[:, None])[slot < 0])
    logits[slot[slot >= 0]] = scores[slot >= 0]


def ablate(
    model: LanguageModel, saes: SaeStack, captured: Captured, *, layer: int, features: Sequence[int]
) -> Float[Tensor, "example feature answer"]:
    """Answer logits with each feature alone set to zero at the answer position: `x <- x - a * direction`.

    Examples where a feature is inactive keep their logits and cost nothing.

    Raises:
        UserError: no SAE at that layer, or a feature it does not have.
    """
    index = saes.check_features(layer, features).to(model.device)
    acts = saes.encode_features(layer, captured.residuals[layer], index)  # [example, feature]
    logits = captured.answer_logits[:, None].repeat(1, len(features), 1)
    example, column = acts.nonzero(as_tuple=True)
    if len(example):
        edits = FeatureEdits(torch.full_like(example, layer), example, index[column], -acts[example, column])
        logits[example, column] = edited_logits(model, saes, captured, edits)
    return logits


def patch(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    *,
    layer: int,
    features: Sequence[int],
    values: Float[Tensor, "example feature"],
) -> Float[Tensor, "example answer"]:
    """Answer logits with the features' activations set to `values`, together, at the answer position.

    With another example's activations as values, this inserts that example's features (activation patching).

    Raises:
        UserError: no SAE at that layer, or a feature it does not have.
    """
    index = saes.check_features(layer, features).to(model.device)
    directions = saes.directions(layer, index)
    clean = captured.residuals[layer]
    change = (values.to(model.device) - saes.encode_features(layer, clean, index)) @ directions
    return answers_given(model, captured, layer, (clean + change.to(clean.dtype))[:, None])[:, 0]


def ablate_jointly(
    model: LanguageModel, saes: SaeStack, captured: Captured, features: Mapping[int, Sequence[int]]
) -> Float[Tensor, "example answer"]:
    """Answer logits with features of one or several layers set to zero together, at the answer position.

    A higher layer's activations are those that the lower layers' edits leave, not the clean ones.

    Args:
        features: feature indices by layer.

    Raises:
        UserError: no SAE at a layer, or a feature it does not have.
    """
    return answers_under(model, captured, removal(model, saes, features))


def removal(model: LanguageModel, saes: SaeStack, features: Mapping[int, Sequence[int]]) -> dict[int, ResidualEdit]:
    """By layer, what takes features out of a residual, as they are active in it.

    Raises:
        UserError: no SAE at a layer, or a feature it does not have.
    """

    def without(layer: int) -> ResidualEdit:
        index = saes.check_features(layer, features[layer]).to(model.device)
        directions = saes.directions(layer, index)

        def edit(x: Tensor) -> Tensor:
            return x - (saes.encode_features(layer, x, index) @ directions).to(x.dtype)

        return edit

    return {layer: without(layer) for layer in features if len(features[layer])}


def insertion(saes: SaeStack, values: Mapping[int, Mapping[int, float]]) -> dict[int, ResidualEdit]:
    """By layer, what sets features of a residual to given activations, whatever they are in it.

    Args:
        values: activation by layer and feature, in residual units.

    Raises:
        UserError: no SAE at a layer, or a feature it does not have.
    """

    def setting(layer: int) -> ResidualEdit:
        index = saes.check_features(layer, list(values[layer])).to(saes.device(layer))
        directions, target = saes.directions(layer, index), torch.tensor(list(values[layer].values())).to(index.device)

        def edit(x: Tensor) -> Tensor:
            return x + ((target - saes.encode_features(layer, x, index)) @ directions).to(x.dtype)

        return edit

    return {layer: setting(layer) for layer in values if len(values[layer])}
