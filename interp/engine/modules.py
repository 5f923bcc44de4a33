"""Ablation of a layer's attention or MLP output at the answer position, exactly, at the cost of one token."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.suffix import check_unedited, rows_in_memory, suffixes
from interp.engine.variants import answers_given
from interp.models.language_model import LanguageModel

Part = Literal["attention", "mlp"]


@torch.no_grad()
def module_outputs(
    model: LanguageModel, captured: Captured, *, layer: int, part: Part
) -> Float[Tensor, "example d_model"]:
    """What the attention or the MLP of a layer puts out at the answer position.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    return _run(model, captured, layer, {part: []}).outputs[part]


@torch.no_grad()
def residuals_with(
    model: LanguageModel, captured: Captured, *, layer: int, values: Mapping[Part, Sequence[Float[Tensor, " d_model"]]]
) -> dict[Part, Float[Tensor, "example _ d_model"]]:
    """Residuals after a layer, at the answer position, with its attention's or its MLP's output replaced.

    In layers with a norm behind the module (Gemma), what that norm makes of the value is added to the residual.

    Args:
        values: by module, each of the vectors that its output is replaced with in turn.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
        EngineError: the unedited row that accompanies every pass is not the capture's.
    """
    return _run(model, captured, layer, values).residuals


@torch.no_grad()
def ablate_module(
    model: LanguageModel,
    captured: Captured,
    *,
    layer: int,
    part: Part,
    value: Float[Tensor, " d_model"] | None = None,
) -> Float[Tensor, "example answer"]:
    """Answer logits with the module's output at the answer position replaced (see `residuals_with`).

    Args:
        value: zero where None (zero ablation); the mean over examples for mean ablation.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    zero = torch.zeros(model.d_model, device=model.device, dtype=model.dtype)
    rows = residuals_with(model, captured, layer=layer, values={part: [zero if value is None else value]})[part]
    return answers_given(model, captured, layer, rows)[:, 0]


class _Passed(NamedTuple):
    """Unedited outputs of modules, and residuals after the layer under each edit."""

    outputs: dict[Part, Float[Tensor, "example d_model"]]
    residuals: dict[Part, Float[Tensor, "example _ d_model"]]


def _run(model: LanguageModel, captured: Captured, layer: int, values: Mapping[Part, Sequence[Tensor]]) -> _Passed:
    """One block, with a row for every value beside an unedited one."""
    n_examples, n_rows = captured.residuals.shape[1], 1 + sum(map(len, values.values()))
    outputs = {part: captured.residuals.new_empty(n_examples, model.d_model) for part in values}
    residuals = captured.residuals.new_empty(n_examples, n_rows, model.d_model)
    first = dict(zip(values, accumulate(map(len, values.values()), initial=1), strict=False))
    for suffix in suffixes(model, captured, rows_in_memory(model, captured) // n_rows):
        entering = suffix.cache.embedded if layer == 0 else captured.tail(suffix.cache, layer - 1)

        def replaced(part: Part, output: Tensor, examples: Tensor = suffix.examples) -> Tensor:
            by_row = output.view(len(examples), n_rows, *output.shape[1:])
            outputs[part][examples] = by_row[:, 0, 0].to(residuals.device)
            edited = by_row.clone()
            for row, value in enumerate(values[part], start=first[part]):
                edited[:, row, 0] = value.to(edited)
            return edited.view_as(output)

        with model.edited({(part, layer): partial(replaced, part) for part in values}):
            tail = suffix.block(entering[:, None].repeat(1, n_rows, 1, 1), layer)
        residuals[suffix.examples] = tail[..., 0, :].to(residuals.device)
    clean = captured.residuals[layer]
    check_unedited(model, layer, (residuals[:, 0] - clean) / clean.abs().max().clamp(min=1))
    return _Passed(outputs, {part: residuals[:, k : k + len(values[part])] for part, k in first.items()})
