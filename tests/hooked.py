"""Brute force for what is inside blocks: the whole model, one prompt at a time, with plain torch hooks."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import nn

from interp.engine.components import Component, columns_of
from interp.models.answers import Answers
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack

Edit = Callable[[torch.Tensor], torch.Tensor]


def named(model: LanguageModel, kind: str, layer: int) -> nn.Module:
    """The module that holds a part, by the names its family gives them."""
    block = model.blocks[layer]
    attention = next(getattr(block, n) for n in ("self_attn", "attn", "attention") if hasattr(block, n))
    projection = next(getattr(attention, n) for n in ("o_proj", "c_proj", "dense") if hasattr(attention, n))
    down = next(getattr(block.mlp, n) for n in ("down_proj", "c_proj", "dense_4h_to_h") if hasattr(block.mlp, n))
    return {"head": projection, "neuron": down, "attention": attention, "mlp": block.mlp, "feature": block}[kind]


@torch.no_grad()
def hooked_answers(
    model: LanguageModel, prompt: str, edits: Mapping[tuple[str, int], Edit], labels: list[str]
) -> torch.Tensor:
    """Logits of the labels' first tokens with the last position edited where modules hold heads, neurons, outputs.

    Args:
        edits: by kind of component and layer, what is done to [width] at the last position.
    """
    ids = torch.tensor([model.encode([prompt])[0].ids])
    with ExitStack() as hooks:
        for (kind, layer), edit in edits.items():
            module = named(model, kind, layer)
            if kind in ("head", "neuron"):
                handle = module.register_forward_pre_hook(lambda m, inputs, e=edit: (_at_last(inputs[0], e),))
            else:
                handle = module.register_forward_hook(
                    lambda m, i, o, e=edit: (_at_last(o[0], e), *o[1:]) if isinstance(o, tuple) else _at_last(o, e)
                )
            hooks.callback(handle.remove)
        logits = model.hf(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -1]
    return logits[Answers.of(model, [f" {x}" for x in labels]).first]


def _at_last(x: torch.Tensor, edit: Edit) -> torch.Tensor:
    x = x.clone()
    x[:, -1] = edit(x[:, -1])
    return x


def hooked_variant(
    model: LanguageModel, saes: SaeStack, prompt: str, variant: Mapping[Component, torch.Tensor | None], labels
) -> torch.Tensor:
    """The same with components set to values (None: zero)."""
    by_place: dict[tuple[str, int], dict[Component, torch.Tensor | None]] = {}
    for component, value in variant.items():
        by_place.setdefault((component.kind, component.layer), {})[component] = value

    def edit(own: dict[Component, torch.Tensor | None]) -> Edit:
        def inside(x: torch.Tensor) -> torch.Tensor:
            x = x.clone()
            for component, value in own.items():
                x[:, columns_of(model, component)] = 0 if value is None else value
            return x

        def features(x: torch.Tensor) -> torch.Tensor:
            change = torch.zeros_like(x)
            for (layer, _, index), value in own.items():
                wanted = 0 if value is None else value
                change += (wanted - saes.encode(layer, x)[:, index, None]) * saes.directions(layer)[index]
            return x + change

        return features if next(iter(own)).kind == "feature" else inside

    return hooked_answers(model, prompt, {place: edit(own) for place, own in by_place.items()}, labels)
