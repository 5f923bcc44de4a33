"""What components add to the residual at the answer position, and what they read of each other: the pieces of a graph.

In a block without norms behind attention and MLP a head adds W_O z, a neuron its activation times its row of W_down.
Where a norm stands behind (Gemma) it scales the sum of all heads; a head's contribution is then its own part of the
scaled sum, so that contributions always add up to what the block adds. Of an MLP whose neurons are nodes of their own,
the contribution is that of its other neurons.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

import torch
from jaxtyping import Float
from torch import Tensor, nn

from interp.engine.capture import Captured
from interp.engine.components import WITHIN, Component, Kind, check_components, columns_of, site_values
from interp.errors import UserError
from interp.models.language_model import LanguageModel, Site
from interp.saes.stack import SaeStack

Of = dict[int, list[int]]
"""By layer, places of nodes."""


@dataclass(frozen=True)
class Nodes:
    """Components of a graph, in the order in which a pass computes them. Made by `nodes_of`.

    Attributes:
        writes: of every head and neuron, what a unit of its value adds, [width, d_model]; of features, their direction.
    """

    components: tuple[Component, ...]
    writes: Mapping[int, Float[Tensor, "width d_model"]]
    parallel: bool

    def __len__(self) -> int:
        return len(self.components)

    def of(self, kind: Kind) -> Of:
        """Places of the nodes of a kind, by layer."""
        places = [k for k, c in enumerate(self.components) if c.kind == kind]
        return {layer: list(own) for layer, own in groupby(places, key=lambda k: self.components[k].layer)}

    def feeds(self, source: int, target: int) -> bool:
        """Whether what a node writes can be read by another; `target` = number of nodes: by the answer."""
        if target == len(self):
            return True
        a, b = self.components[source], self.components[target]
        if a.layer != b.layer:
            return a.layer < b.layer
        if WITHIN[a.kind] == 0 and WITHIN[b.kind] == 1:
            return not self.parallel
        return WITHIN[a.kind] < WITHIN[b.kind]

    @cached_property
    def edges(self) -> list[tuple[int, int]]:
        """All pairs (source, target) of which one can be read by the other; the answer is the last target."""
        n = len(self)
        return [(u, v) for u in range(n) for v in range(u + 1, n + 1) if self.feeds(u, v)]


def nodes_of(model: LanguageModel, saes: SaeStack | None, components: Iterable[Component]) -> Nodes:
    """The nodes of a graph: heads, MLPs, neurons and features, each once.

    Raises:
        UserError: a component that the model or its SAEs do not have, or a whole attention module.
    """
    ordered = tuple(sorted(set(components), key=lambda c: c.order))
    check_components(model, saes, ordered)
    writes: dict[int, Tensor] = {}
    for k, one in enumerate(ordered):
        if one.kind == "attention":
            raise UserError(f"A graph's nodes are heads, MLPs, neurons and features; got {one.name}.")
        if one.kind == "feature":
            assert saes is not None
            writes[k] = saes.directions(one.layer, [one.number]).to(model.device, torch.float32)
        elif one.kind != "mlp":
            writes[k] = _writes(model, one).float()
    return Nodes(ordered, writes, model.parallel)


@torch.no_grad()
def _writes(model: LanguageModel, component: Component) -> Float[Tensor, "width d_model"]:
    """Rows of a projection, read by passing unit vectors, however it stores its weights."""
    part: Site = ("heads" if component.kind == "head" else "neurons", component.layer)
    columns = columns_of(model, component)
    width = model.n_heads * model.d_head if component.kind == "head" else model.n_neurons
    device = model.device_of(component.layer)
    units = torch.zeros(1 + columns.stop - columns.start, width, dtype=model.dtype, device=device)
    units[torch.arange(1, len(units)), torch.arange(columns.start, columns.stop)] = 1
    passed: Tensor = model.part(part)(units)
    return (passed[1:] - passed[:1]).to(model.device)


class Scale:
    """By what the norm behind a module multiplies, given the sum of what the module puts out; 1 where there is none."""

    def __init__(self, norm: nn.Module | None, d_model: int) -> None:
        self.norm = norm
        if norm is not None:
            device = next(norm.parameters()).device
            self.eps = float(getattr(norm, "eps", getattr(norm, "variance_epsilon", 0.0)))
            with torch.no_grad():
                ones = torch.ones(1, d_model, device=device)
                self.weight = norm(ones)[0].float() * (1 + self.eps) ** 0.5

    def __call__(self, total: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"] | float:
        if self.norm is None:
            return 1.0
        rms = (total.float().pow(2).mean(-1, keepdim=True) + self.eps).sqrt()
        scale: Tensor = self.weight.to(total.device) / rms
        return scale


@dataclass(frozen=True)
class Parts:
    """Examples taken apart at the answer position, in float32. Made by `parts_of`.

    Attributes:
        before: residual that enters each layer, and after the last: `before[m]` is that after layer m - 1.
        middle: what an MLP reads, before its norm.
        totals: what attention and MLP of a layer put out, before the norms behind them, if any.
        values: of each node, what it holds (`components`); of an MLP, what its other neurons put out.
        raw: of each node but features, its part of the totals.
        adds: of each node, its contribution to the residual.
    """

    before: Float[Tensor, "layer_and_last example d_model"]
    middle: Float[Tensor, "layer example d_model"]
    totals: Mapping[Site, Float[Tensor, "example d_model"]]
    values: Mapping[int, Float[Tensor, "example _"]]
    raw: Float[Tensor, "example node d_model"]
    adds: Float[Tensor, "example node d_model"]


@torch.no_grad()
def parts_of(model: LanguageModel, saes: SaeStack | None, captured: Captured, nodes: Nodes) -> Parts:
    """Takes the examples of a capture apart.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    layers, n = range(model.n_layers), len(captured.n_tokens)
    sites: list[Site] = [-1, *((part, k) for k in layers for part in ("heads", "attention", "neurons", "mlp"))]
    seen = {site: values.float() for site, values in site_values(model, captured, sites).items()}
    before = torch.stack([seen[-1], *captured.residuals.float()])
    scale = {k: Scale(model.norm(k, "attention_after"), model.d_model) for k in layers}
    attended = [before[k] + seen["attention", k] * scale[k](seen["attention", k]) for k in layers]
    middle = before[:-1] if model.parallel else torch.stack(attended)
    raw = torch.zeros(n, len(nodes), model.d_model, device=model.device)
    adds, values = torch.zeros_like(raw), dict[int, Tensor]()
    for k, one in enumerate(nodes.components):
        if one.kind in ("head", "neuron"):
            part: Site = ("heads" if one.kind == "head" else "neurons", one.layer)
            values[k] = seen[part][:, columns_of(model, one)]
            raw[:, k] = values[k] @ nodes.writes[k]
    for layer, (k,) in nodes.of("mlp").items():
        own = nodes.of("neuron").get(layer, [])
        values[k] = raw[:, k] = seen["mlp", layer] - raw[:, own].sum(1)
    for layer, own in nodes.of("feature").items():
        assert saes is not None
        index = torch.tensor([nodes.components[k].number for k in own])
        acts = saes.encode_features(layer, captured.residuals[layer], index).to(model.device, torch.float32)
        for column, k in enumerate(own):
            values[k] = acts[:, column, None]
            adds[:, k] = values[k] * nodes.writes[k]
    for k, one in enumerate(nodes.components):
        if one.kind != "feature":
            total = seen[("attention" if one.kind == "head" else "mlp"), one.layer]
            adds[:, k] = raw[:, k] * behind(model, one)(total)
    totals = {(part, k): seen[part, k] for k in layers for part in ("attention", "mlp")}
    return Parts(before, middle, totals, values, raw, adds)  # type: ignore[arg-type]


def behind(model: LanguageModel, component: Component) -> Scale:
    """By what a head's, a neuron's or an MLP's output is scaled before it is added."""
    return Scale(
        model.norm(component.layer, "attention_after" if component.kind == "head" else "mlp_after"), model.d_model
    )


@dataclass(frozen=True)
class Reference:
    """Means over many examples of what a graph is made of: what stands where a node is cut off.

    Attributes: as those of `Parts`, without the examples.
    """

    before: Float[Tensor, "layer_and_last d_model"]
    middle: Float[Tensor, "layer d_model"]
    totals: Mapping[Site, Float[Tensor, " d_model"]]
    values: Mapping[int, Float[Tensor, " width"]]
    raw: Float[Tensor, "node d_model"]
    adds: Float[Tensor, "node d_model"]


def reference_of(model: LanguageModel, saes: SaeStack | None, captures: Iterable[Captured], nodes: Nodes) -> Reference:
    """The means over all examples of some captures.

    Raises:
        ValueError: no captures, or some made without `keep_cache=True`.
    """
    n, sums = 0, dict[object, Tensor]()
    for captured in captures:
        parts, n = parts_of(model, saes, captured, nodes), n + len(captured.n_tokens)
        new: dict[object, Tensor] = {"before": parts.before.sum(1), "middle": parts.middle.sum(1)}
        new |= {"raw": parts.raw.sum(0), "adds": parts.adds.sum(0)}
        new |= {("total", site): x.sum(0) for site, x in parts.totals.items()}
        new |= {("value", k): x.sum(0) for k, x in parts.values.items()}
        sums = {key: x + sums[key] if key in sums else x for key, x in new.items()}
    if not n:
        raise ValueError("a reference needs at least one example")
    means = {key: x / n for key, x in sums.items()}
    totals = {key[1]: x for key, x in means.items() if isinstance(key, tuple) and key[0] == "total"}
    values = {key[1]: x for key, x in means.items() if isinstance(key, tuple) and key[0] == "value"}
    return Reference(means["before"], means["middle"], totals, values, means["raw"], means["adds"])
