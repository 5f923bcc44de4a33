"""What the model would have answered with other residuals at the answer position: any edits, by name."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.suffix import ResidualEdit, Suffix, check_unedited, rows_in_memory, rows_that_fit, suffixes
from interp.models.language_model import LanguageModel

Name = TypeVar("Name", bound=Hashable)
Read = Callable[[Float[Tensor, "prompt row d_model"]], Float[Tensor, "prompt row column"]]
"""What is made of last-layer residuals at the answer position."""


@dataclass(frozen=True)
class Given:
    """In the place of a variant's lowest edit: residuals after that layer, one for each example of the capture."""

    rows: Float[Tensor, "example d_model"]


@torch.no_grad()
def answers_given(
    model: LanguageModel, captured: Captured, layer: int, rows: Float[Tensor, "example row d_model"]
) -> Float[Tensor, "example row answer"]:
    """Answer logits with the answer position's residual after `layer` replaced, once by each row.

    Raises:
        EngineError: the unedited row that accompanies every pass moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    logits = captured.answer_logits[:, None].repeat(1, rows.shape[1], 1)
    for suffix in suffixes(model, captured, rows_in_memory(model, captured) // (1 + rows.shape[1])):
        beside = torch.cat([suffix.clean(layer)[:, None], rows[suffix.examples]], dim=1)
        scores = suffix.scores({layer: beside})
        check_unedited(model, layer, scores[:, 0] - suffix.clean_scores)
        logits[suffix.examples] = scores[:, 1:]
    return logits


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


@torch.no_grad()
def answers_under_each(
    model: LanguageModel,
    captured: Captured,
    edits: Mapping[Name, Mapping[int, ResidualEdit | Given]],
    *,
    read: Read | None = None,
    rows_in_flight: int | None = None,
) -> dict[Name, Float[Tensor, "example column"]]:
    """By name, answer logits of every example under those edits alone; no edits give the clean ones.

    Variants share their passes: each joins at its lowest edited layer, and one unedited row accompanies them all.

    Args:
        edits: by name and layer, what replaces residuals at the answer position, or (`Given`) the replacements.
        read: other values than the answer logits.
        rows_in_flight: edited tokens computed together; None sizes them from the free memory.

    Raises:
        EngineError: the unedited row that accompanies every pass moved by more than `TOLERANCE`.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    size = rows_that_fit(model, captured) if rows_in_flight is None else rows_in_flight
    names = sorted(edits, key=lambda name: min(edits[name], default=model.n_layers))
    parts = list(suffixes(model, captured, size // 2))  # each prompt has an unedited row beside an edited one
    values: dict[Name, list[Tensor]] = {name: [] for name in names}
    for suffix in parts:
        count = max(1, size // len(suffix.examples) - 1)
        for k in range(0, len(names), count):
            for name, columns in _variants(suffix, {name: edits[name] for name in names[k : k + count]}, read).items():
                values[name].append(columns)
    back = torch.cat([suffix.examples for suffix in parts]).argsort()
    return {name: torch.cat(values[name])[back] for name in edits}


def _variants(
    suffix: Suffix, edits: Mapping[Name, Mapping[int, ResidualEdit | Given]], read: Read | None
) -> dict[Name, Float[Tensor, "prompt column"]]:
    """Each variant of some prompts; `edits` in the order of their lowest layers, those without any last."""
    model, answers = suffix.model, suffix.captured.answers
    lowest = {name: min(edits[name]) for name in edits if edits[name]}
    first = min(lowest.values(), default=model.n_layers - 1)
    entering = {first: [suffix.clean(first)]}
    later: dict[int, dict[int, ResidualEdit]] = {}
    for row, (name, layer) in enumerate(lowest.items(), start=1):
        edit = edits[name][layer]
        rows = edit.rows[suffix.examples] if isinstance(edit, Given) else edit(suffix.clean(layer))
        entering.setdefault(layer, []).append(rows)
        for above in edits[name].keys() - {layer}:
            edit = edits[name][above]
            assert not isinstance(edit, Given), "residuals are given at the lowest edited layer alone"
            later.setdefault(above, {})[row] = edit
    tail = suffix.tails(
        {layer: torch.stack(parts, dim=1) for layer, parts in entering.items()},
        {layer: _by_row(of_rows) for layer, of_rows in later.items()},
    )
    check_unedited(model, first, answers.score(model, tail[:, :1])[:, 0] - suffix.clean_scores)
    values = answers.score(model, tail) if read is None else read(tail[..., 0, :])
    unedited = suffix.clean_scores if read is None else values[:, 0]
    return dict.fromkeys(edits, unedited) | dict(zip(lowest, values[:, 1:].unbind(1), strict=True))


def _by_row(edits: Mapping[int, ResidualEdit]) -> ResidualEdit:
    """Each row's own edit."""

    def edit(x: Float[Tensor, "prompt row d_model"]) -> Float[Tensor, "prompt row d_model"]:
        out = x.clone()
        for row, change in edits.items():
            out[:, row] = change(x[:, row])
        return out

    return edit
