"""Exact causal effects of features: what the model would have answered without them."""

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.capture import Captured, PromptCache
from interp.engine.suffix import answer_scores, tails_above, with_continuation
from interp.errors import InterpWarning
from interp.memory import free_memory, out_of_memory
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack

ResidualEdit = Callable[[Float[Tensor, "*row d_model"]], Float[Tensor, "*row d_model"]]

Name = TypeVar("Name", bound=Hashable)

ROWS_IN_FLIGHT = 1024
"""Edited tokens computed together, at most; beyond a few hundred, more of them are no faster."""
LEAST_ROWS = 16
"""Edited tokens computed together, at least, however little memory seems free."""

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest answer-logit difference that a row without an edit may show: above it, something is wrong."""


class EngineError(RuntimeError):
    """The recomputation does not reproduce the unedited model. Never the user's fault."""


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
    if not captured.caches:
        raise ValueError("edited_logits needs captured = capture(..., keep_cache=True).")
    logits = torch.empty(len(edits), captured.answer_logits.shape[1], device=captured.answer_logits.device)
    size = rows_that_fit(model, captured) if rows_in_flight is None else rows_in_flight
    for cache in captured.caches:
        waiting = _pieces(cache, edits, size)
        while waiting:
            count = max(1, size // (len(waiting[0].rows) + 1))
            try:
                _sweep(model, saes, captured, cache, edits, waiting[:count], logits)
                waiting = waiting[count:]
            except (torch.OutOfMemoryError, RuntimeError) as error:
                if not out_of_memory(error) or size <= 2:
                    raise
                size //= 2
                warnings.warn(f"Out of memory: going on with {size} rows in flight.", InterpWarning, stacklevel=2)
                waiting = [half for piece in waiting for half in piece.split(size - 1)]
    return logits


@dataclass(frozen=True)
class _Piece:
    """Edits of one prompt that are computed together, in order of their layers."""

    column: int
    rows: list[int]

    def split(self, most: int) -> "list[_Piece]":
        return [_Piece(self.column, self.rows[k : k + most]) for k in range(0, len(self.rows), most)]


def _pieces(cache: PromptCache, edits: FeatureEdits, size: int) -> list[_Piece]:
    """The edits of a cache's prompts, prompts with alike numbers of them side by side."""
    rows_of: dict[int, list[int]] = {}
    layer = edits.layer.tolist()
    for row, example in enumerate(edits.example.tolist()):
        rows_of.setdefault(example, []).append(row)
    whole = [
        _Piece(column, sorted(rows_of[example], key=layer.__getitem__))
        for column, example in enumerate(cache.examples)
        if example in rows_of
    ]
    parts = [part for piece in whole for part in piece.split(max(1, size - 1))]
    return sorted(parts, key=lambda part: (-len(part.rows), part.column, part.rows[0]))


def _sweep(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    cache: PromptCache,
    edits: FeatureEdits,
    pieces: Sequence[_Piece],
    logits: Float[Tensor, "row answer"],
) -> None:
    """Fills in the logits of some pieces: rows [prompt, row] enter at their layers, one column stays unedited."""
    device = captured.residuals.device
    layer = edits.layer.tolist()
    lowest = min(layer[row] for piece in pieces for row in piece.rows)
    few = select_prompts(cache, [piece.column for piece in pieces], above=lowest)
    examples = torch.tensor(few.examples, device=device)
    by_layer: dict[int, list[list[int]]] = {}
    for k in sorted({layer[row] for piece in pieces for row in piece.rows}):
        by_layer[k] = [[row for row in piece.rows if layer[row] == k] for piece in pieces]
    first = min(by_layer)
    entering: dict[int, Tensor] = {}
    slots = []
    for k, rows_of in by_layer.items():
        width = max(map(len, rows_of)) + (k == first)
        slot = torch.full((len(pieces), width), -1)
        for p, own in enumerate(rows_of):
            slot[p, : len(own)] = torch.tensor(own, dtype=torch.long)
        slot = slot.to(device)
        used = slot >= 0
        rows = captured.residuals[k, examples][:, None].repeat(1, width, 1)
        row = slot[used]
        change = edits.change[row, None] * saes.directions(k, edits.feature[row])
        rows[used] += change.to(rows.dtype)
        entering[k] = rows
        slots.append(slot)
    out = answer_scores(model, captured, few, entering.pop(first), first, join=entering)
    slot = torch.cat(slots, dim=1)
    used = slot >= 0
    check_unedited(model, first, (out - captured.answer_logits[examples][:, None])[~used])
    logits[slot[used]] = out[used]


def rows_that_fit(model: LanguageModel, captured: Captured) -> int:
    """Edited rows that a tenth of the free memory holds, between 2 and `ROWS_IN_FLIGHT`.

    A row has one token, and the answers' continuation tokens where these are scored whole.
    """
    return min(ROWS_IN_FLIGHT, rows_in_memory(model, captured))


def rows_in_memory(model: LanguageModel, captured: Captured) -> int:
    """Edited rows that a tenth of the free memory holds in one layer, at least 2, and 16 of a single token."""
    n_own = len(captured.answers.offsets)
    tokens = n_own + max(cache.mask.shape[1] for cache in captured.caches)
    wide = 4 * model.d_hidden
    # bytes: hidden layers of the MLP, attention scores
    per_row = 4 * (wide + 3 * model.backbone.config.num_attention_heads * tokens) * n_own
    return max(2, LEAST_ROWS // n_own, free_memory(model.device) // 10 // per_row)


def in_parts(captured: Captured, most: int) -> Iterator[PromptCache]:
    """The caches of a capture, those of more than `most` prompts in several parts."""
    for cache in captured.caches:
        columns = range(len(cache.examples))
        for start in range(0, len(columns), max(1, most)):
            yield select_prompts(cache, columns[start : start + max(1, most)])


def select_prompts(cache: PromptCache, columns: Sequence[int], *, above: int = -1) -> PromptCache:
    """Some prompts of a cache, in that order, without the padding that they do not need.

    Args:
        above: keys and values of layers up to this one are left out.
    """
    if list(columns) == list(range(len(cache.examples))):
        return cache
    index = torch.tensor(columns, device=cache.mask.device)
    mask = cache.mask[index]
    start = int(mask.any(0).long().argmax())
    return PromptCache(
        examples=[cache.examples[c] for c in columns],
        keys=[k[index.to(k.device), :, start:] if i > above else k[:0] for i, k in enumerate(cache.keys)],
        values=[v[index.to(v.device), :, start:] if i > above else v[:0] for i, v in enumerate(cache.values)],
        mask=mask[:, start:],
        position=cache.position[index],
        embedded=cache.embedded[index],
        continued=[x[index] for x in cache.continued],
        everywhere={layer: x[index, start:] for layer, x in cache.everywhere.items()},
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


@torch.no_grad()
def answers_given(
    model: LanguageModel, captured: Captured, layer: int, rows: Float[Tensor, "example row d_model"]
) -> Float[Tensor, "example row answer"]:
    """Answer logits with the answer position's residual after `layer` replaced, once by each row.

    Raises:
        EngineError: the unedited row that accompanies every pass moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    if not captured.caches:
        raise ValueError("answers_given needs captured = capture(..., keep_cache=True).")
    logits = captured.answer_logits[:, None].repeat(1, rows.shape[1], 1)
    for cache in in_parts(captured, rows_in_memory(model, captured) // (1 + rows.shape[1])):
        examples = torch.tensor(cache.examples, device=logits.device)
        beside = torch.cat([captured.residuals[layer, examples, None], rows[examples]], dim=1)
        out = answer_scores(model, captured, cache, beside, layer)
        check_unedited(model, layer, out[:, 0] - captured.answer_logits[examples])
        logits[examples] = out[:, 1:]
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


@torch.no_grad()
def answers_under(
    model: LanguageModel, captured: Captured, edits: Mapping[int, ResidualEdit]
) -> Float[Tensor, "example answer"]:
    """Answer logits of every example when residuals at the answer position are replaced layer by layer.

    Raises:
        EngineError: the unedited row that accompanies every batch moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    return answers_under_each(model, captured, {"edited": edits})["edited"]


Read = Callable[[Float[Tensor, "prompt row d_model"]], Float[Tensor, "prompt row column"]]
"""What is made of last-layer residuals at the answer position."""


@torch.no_grad()
def answers_under_each(
    model: LanguageModel,
    captured: Captured,
    edits: Mapping[Name, Mapping[int, ResidualEdit]],
    *,
    read: Read | None = None,
    rows_in_flight: int | None = None,
) -> dict[Name, Float[Tensor, "example column"]]:
    """By name, answer logits of every example under those edits alone; no edits give the clean ones.

    Variants share their passes: each joins at its lowest edited layer, and one unedited row accompanies them all.

    Args:
        edits: by name and layer, what replaces residuals at the answer position.
        read: other values than the answer logits.
        rows_in_flight: edited tokens computed together; None sizes them from the free memory.

    Raises:
        EngineError: the unedited row that accompanies every pass moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    if not captured.caches:
        raise ValueError("answers_under needs captured = capture(..., keep_cache=True).")
    size = rows_that_fit(model, captured) if rows_in_flight is None else rows_in_flight
    names = sorted(edits, key=lambda name: min(edits[name], default=model.n_layers))
    found: dict[Name, list[Tensor]] = {name: [] for name in names}
    parts = list(in_parts(captured, size // 2))  # each prompt has an unedited row beside an edited one
    for cache in parts:
        count = max(1, size // len(cache.examples) - 1)
        for k in range(0, len(names), count):
            together = {name: edits[name] for name in names[k : k + count]}
            for name, values in _variants(model, captured, cache, together, read).items():
                found[name].append(values)
    order = [example for cache in parts for example in cache.examples]
    back = torch.tensor(order, device=captured.residuals.device).argsort()
    return {name: torch.cat(found[name])[back] for name in edits}


def _variants(
    model: LanguageModel,
    captured: Captured,
    cache: PromptCache,
    edits: Mapping[Name, Mapping[int, ResidualEdit]],
    read: Read | None,
) -> dict[Name, Float[Tensor, "prompt column"]]:
    """Each variant of a cache's prompts; `edits` in the order of their lowest layers, those without any last."""
    examples = torch.tensor(cache.examples, device=captured.residuals.device)
    edited = [name for name in edits if edits[name]]
    first = min((min(edits[name]) for name in edited), default=model.n_layers - 1)
    clean = captured.residuals[first, examples]
    entering: dict[int, list[Tensor]] = {first: [clean]}
    for name in edited:
        layer = min(edits[name])
        entering.setdefault(layer, []).append(edits[name][layer](captured.residuals[layer, examples]))
    later: dict[int, dict[int, ResidualEdit]] = {}
    for row, name in enumerate(edited, start=1):
        for layer, edit in edits[name].items():
            if layer > min(edits[name]):
                later.setdefault(layer, {})[row] = edit
    rows = {layer: torch.stack(parts, dim=1) for layer, parts in entering.items()}
    tail = tails_above(
        model,
        captured,
        cache,
        with_continuation(cache, rows.pop(first), first),
        first,
        join=rows,
        edits={layer: _by_row(of_rows) for layer, of_rows in later.items()},
    )
    check_unedited(model, first, captured.answers.score(model, tail[:, :1])[:, 0] - captured.answer_logits[examples])
    values = captured.answers.score(model, tail) if read is None else read(tail[..., 0, :])
    found = dict(zip(edited, values[:, 1:].unbind(1), strict=True))
    unedited = captured.answer_logits[examples] if read is None else values[:, 0]
    return {name: found.get(name, unedited) for name in edits}


def _by_row(edits: Mapping[int, ResidualEdit]) -> ResidualEdit:
    """Each row's own edit."""

    def edit(x: Float[Tensor, "prompt row d_model"]) -> Float[Tensor, "prompt row d_model"]:
        out = x.clone()
        for row, change in edits.items():
            out[:, row] = change(x[:, row])
        return out

    return edit


def check_unedited(model: LanguageModel, layer: int, difference: Tensor) -> None:
    """The engine's self-test.

    Raises:
        EngineError: logits of a row without an edit differ from the capture's by more than `TOLERANCE`.
    """
    moved = difference.abs().max().item()
    if not moved <= TOLERANCE[model.dtype]:
        raise EngineError(f"above layer {layer}, a row without an edit moved the answer logits by {moved:.2g}.")
