"""Exact causal effects of features: what the model would have answered without them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.capture import Captured, PromptCache
from interp.model import LanguageModel
from interp.saes import SaeStack
from interp.tracing.suffix import run_above

ResidualEdit = Callable[[Float[Tensor, "*row d_model"]], Float[Tensor, "*row d_model"]]

ROWS_IN_FLIGHT = 1024
"""Edited tokens computed together; beyond a few hundred, more of them are no faster."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest answer-logit difference that a row without an edit may show: above it, something is wrong."""


class EngineError(RuntimeError):
    """The recomputation does not reproduce the unedited model. Never the user's fault."""


@dataclass(frozen=True)
class EditRows:
    """Edits at the answer position, one a row: `delta` is added to example `example` after layer `layer`."""

    layer: int
    example: Int[Tensor, " row"]
    delta: Float[Tensor, "row d_model"]


@torch.no_grad()
def edited_logits(
    model: LanguageModel, captured: Captured, edits: EditRows, *, rows_in_flight: int = ROWS_IN_FLIGHT
) -> Float[Tensor, "row answer"]:
    """Answer logits under each edit, exactly.

    Every pass carries rows without an edit; the run stops if they do not reproduce the capture.

    Raises:
        EngineError: an unedited row moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    if not captured.caches:
        raise ValueError("edited_logits needs captured = capture(..., keep_cache=True).")
    logits = torch.empty(len(edits.example), captured.answer_logits.shape[1], device=edits.delta.device)
    for cache, slots in _grids(captured.caches, edits.example, rows_in_flight):
        # slots [prompt, row]: which edit stands there, -1 for none; every prompt keeps at least one unedited row.
        examples = torch.tensor(cache.examples, device=slots.device)
        clean = captured.residuals[edits.layer, examples]
        used = slots >= 0
        rows = clean[:, None].repeat(1, slots.shape[1], 1)
        rows[used] += edits.delta[slots[used]].to(rows.dtype)
        out = model.unembed(run_above(model, cache, rows, edits.layer), captured.answer_tokens).float()
        _check_unedited(model, edits.layer, (out - captured.answer_logits[examples][:, None])[~used])
        logits[slots[used]] = out[used]
    return logits


def _grids(
    caches: Sequence[PromptCache], example: Int[Tensor, " row"], rows_in_flight: int
) -> Iterator[tuple[PromptCache, Int[Tensor, "prompt row"]]]:
    """Edits laid out as prompts x rows, a few prompts at a time; prompts with alike numbers of edits together."""
    edits_of: dict[int, list[int]] = {}
    for row, e in enumerate(example.tolist()):
        edits_of.setdefault(e, []).append(row)
    for cache in caches:
        columns = [c for c, e in enumerate(cache.examples) if e in edits_of]
        columns.sort(key=lambda c: (-len(edits_of[cache.examples[c]]), c))
        while columns:
            most = min(len(edits_of[cache.examples[columns[0]]]), rows_in_flight - 1)
            chosen = columns[: max(1, rows_in_flight // (most + 1))]
            slots = torch.full((len(chosen), most + 1), -1)
            for p, c in enumerate(chosen):
                waiting = edits_of[cache.examples[c]]
                taken, edits_of[cache.examples[c]] = waiting[:most], waiting[most:]
                slots[p, : len(taken)] = torch.tensor(taken)
            yield select_prompts(cache, chosen), slots.to(example.device)
            columns = [c for c in columns if edits_of[cache.examples[c]]]


def select_prompts(cache: PromptCache, columns: Sequence[int]) -> PromptCache:
    """Some prompts of a cache, in that order, without the padding that they do not need."""
    if list(columns) == list(range(len(cache.examples))):
        return cache
    index = torch.tensor(columns, device=cache.mask.device)
    mask = cache.mask[index]
    start = int(mask.any(0).long().argmax())
    return PromptCache(
        examples=[cache.examples[c] for c in columns],
        keys=[k[index, :, start:] for k in cache.keys],
        values=[v[index, :, start:] for v in cache.values],
        mask=mask[:, start:],
        position=cache.position[index],
    )


def ablate(
    model: LanguageModel, saes: SaeStack, captured: Captured, *, layer: int, features: Sequence[int]
) -> Float[Tensor, "example feature answer"]:
    """Answer logits with each feature alone set to zero at the answer position: `x <- x - a * direction`.

    Examples where a feature is inactive keep their logits and cost nothing.

    Raises:
        UserError: no SAE at that layer, or a feature it does not have.
    """
    index = saes.check_features(layer, features).to(model.device)
    acts = saes.encode(layer, captured.residuals[layer])[:, index]  # [example, feature]
    logits = captured.answer_logits[:, None].repeat(1, len(features), 1)
    example, column = acts.nonzero(as_tuple=True)
    delta = -acts[example, column, None] * saes.directions(layer, index[column])
    if len(example):
        logits[example, column] = edited_logits(model, captured, EditRows(layer, example, delta))
    return logits


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

    def without(layer: int) -> ResidualEdit:
        index = saes.check_features(layer, features[layer]).to(model.device)
        directions = saes.directions(layer, index)

        def edit(x: Tensor) -> Tensor:
            return x - (saes.encode(layer, x)[..., index] @ directions).to(x.dtype)

        return edit

    return answers_under(model, captured, {layer: without(layer) for layer in features if len(features[layer])})


@torch.no_grad()
def answers_under(
    model: LanguageModel, captured: Captured, edits: Mapping[int, ResidualEdit]
) -> Float[Tensor, "example answer"]:
    """Answer logits of every example when residuals at the answer position are replaced layer by layer.

    Raises:
        EngineError: the unedited row that accompanies every batch moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    if not edits:
        return captured.answer_logits.clone()
    if not captured.caches:
        raise ValueError("answers_under needs captured = capture(..., keep_cache=True).")
    first = min(edits)
    logits = torch.empty_like(captured.answer_logits)

    def beside_clean(edit: ResidualEdit) -> ResidualEdit:
        return lambda rows: torch.cat([rows[:, :1], edit(rows[:, 1:])], dim=1)

    for cache in captured.caches:
        index = torch.tensor(cache.examples, device=logits.device)
        clean = captured.residuals[first, index]
        rows = beside_clean(edits[first])(torch.stack([clean, clean], dim=1))
        last = run_above(model, cache, rows, first, edits={k: beside_clean(e) for k, e in edits.items() if k > first})
        out = model.unembed(last, captured.answer_tokens).float()
        _check_unedited(model, first, out[:, 0] - captured.answer_logits[index])
        logits[index] = out[:, 1]
    return logits


def _check_unedited(model: LanguageModel, layer: int, difference: Tensor) -> None:
    moved = difference.abs().max().item()
    if not moved <= TOLERANCE[model.dtype]:
        raise EngineError(f"above layer {layer}, a row without an edit moved the answer logits by {moved:.2g}.")
