"""Ablation of a layer's attention or MLP output at the answer position, exactly, at the cost of one token."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.engine.ablation import answers_given, check_unedited, in_parts, rows_in_memory
from interp.engine.capture import Captured
from interp.engine.suffix import run_block
from interp.models.language_model import LanguageModel

Part = Literal["attention", "mlp"]
NAMES = {"attention": ("self_attn", "attention", "attn"), "mlp": ("mlp",)}


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
) -> dict[Part, Float[Tensor, "example value d_model"]]:
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
    """Unedited outputs of modules [example, d_model], and residuals after the layer under each edit."""

    outputs: dict[Part, Tensor]
    residuals: dict[Part, Float[Tensor, "example value d_model"]]


def _run(model: LanguageModel, captured: Captured, layer: int, values: Mapping[Part, Sequence[Tensor]]) -> _Passed:
    """One block, with a row for every value beside an unedited one."""
    if not captured.caches:
        raise ValueError("Modules need captured = capture(..., keep_cache=True).")
    n_examples, n_rows = captured.residuals.shape[1], 1 + sum(map(len, values.values()))
    outputs = {part: captured.residuals.new_empty(n_examples, model.d_model) for part in values}
    residuals = captured.residuals.new_empty(n_examples, n_rows, model.d_model)
    first = dict(zip(values, accumulate(map(len, values.values()), initial=1), strict=False))
    for cache in in_parts(captured, rows_in_memory(model, captured) // n_rows):
        index = torch.tensor(cache.examples, device=residuals.device)
        entering = cache.embedded if layer == 0 else captured.tail(cache, layer - 1)
        rows = entering[:, None].repeat(1, n_rows, 1, 1)

        def replace(part: Part, output: Tensor, index: Tensor = index) -> Tensor:
            by_row = output.view(len(index), -1, *output.shape[1:])
            outputs[part][index] = by_row[:, 0, 0].to(residuals.device)
            edited = by_row.clone()
            for row, value in enumerate(values[part], start=first[part]):
                edited[:, row, 0] = value.to(edited)
            return edited.view_as(output)

        with ExitStack() as hooks:
            for part in values:
                hooks.enter_context(_output_of(model.blocks[layer], part, partial(replace, part)))
            tail = run_block(model, captured, cache, rows, layer)
        residuals[index] = tail[..., 0, :].to(residuals.device)
    clean = captured.residuals[layer]
    scale = clean.abs().max().clamp(min=1)
    check_unedited(model, layer, (residuals[:, 0] - clean) / scale)
    return _Passed(outputs, {p: residuals[:, first[p] : first[p] + len(values[p])] for p in values})


@contextmanager
def _output_of(block: nn.Module, part: Part, replace: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Lets `replace` see and change what a block's attention or MLP puts out."""
    module = next(getattr(block, name) for name in NAMES[part] if hasattr(block, name))

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (replace(output[0]), *output[1:])
        return replace(output)

    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
