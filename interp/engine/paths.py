"""Edges of a graph of components, cut one at a time: exactly.

An edge leads from a source that writes to the residual to a target that reads it. Cutting it takes what the source adds
(its difference from the reference) out of what this one target reads; the target's changed value goes on, and all above
it is computed again. What arrives at the target is computed in either of two ways, and results say in which:

- *held*: by the residual stream alone, with all else between source and target as it was, features that are nodes
  included. This is the direct edge, of which graphs are made (path patching: Goldowsky-Dill et al. 2023, arXiv
  2304.05969; Wang et al. 2023, 2211.00593).
- *recomputed*: by every way there is, since all between them answers to the source being set to its reference.

The residual stream is a sum, so that the first needs no pass at all up to the target, and the second one pass per
source for all of its targets.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.components import Kind, Variant, answers_with, columns_of, passed_with, site_gradients, site_of
from interp.engine.contributions import Nodes, Parts, Reference, parts_of
from interp.engine.suffix import Suffix, rows_in_memory, suffixes
from interp.errors import UserError
from interp.models.language_model import LanguageModel, Site
from interp.saes.stack import SaeStack

Through = Literal["held", "recomputed"]
Edge = tuple[int, int]
"""Places of source and target among the nodes; the number of nodes stands for the answer."""


class CutEdges(NamedTuple):
    """Edges cut one at a time.

    Attributes:
        logits: of the answers without each edge.
        arrives: how far the target's value moves: of features and neurons the change of activation, of heads and MLPs
            the length of the change; of the answer 0.
        through: how what arrives was computed.
    """

    logits: Float[Tensor, "example edge answer"]
    arrives: Float[Tensor, "example edge"]
    through: Through


def check_first_tokens(captured: Captured) -> None:
    """Graphs are of the answer position alone.

    Raises:
        UserError: the answers are told apart by later tokens only.
    """
    if captured.answers.whole:
        raise UserError(
            "Circuits need answers that differ in their first token; these are scored as whole words:"
            f" {', '.join(w.strip() for w in captured.answers.words)}. Choose other labels."
        )


@torch.no_grad()
def cut_edges(
    model: LanguageModel,
    saes: SaeStack | None,
    captured: Captured,
    nodes: Nodes,
    edges: Sequence[Edge],
    reference: Reference | None = None,
    *,
    through: Through = "held",
) -> CutEdges:
    """Answer logits with each edge cut alone.

    Args:
        reference: what a source is cut down to: its mean contribution; None: nothing.
        through: by which ways the source's absence arrives at the target.

    Raises:
        UserError: answers that their first tokens do not tell apart.
        ValueError: an edge from what is computed later, or `captured` was made without `keep_cache=True`.
        EngineError: an unedited row moved.
    """
    check_first_tokens(captured)
    if wrong := [edge for edge in edges if not nodes.feeds(*edge) or edge[0] >= len(nodes)]:
        raise ValueError(f"no such edges: {wrong[:3]}")
    answer = len(nodes)
    logits = captured.answer_logits[:, None].repeat(1, len(edges), 1)
    arrives = torch.zeros(*logits.shape[:2], device=model.device)
    parts = parts_of(model, saes, captured, nodes)
    arriving = (_held if through == "held" else _recomputed)(
        model, saes, captured, _Edges(nodes, edges, parts, reference)
    )
    inside = [edge for edge in dict.fromkeys(edges) if edge[1] != answer]
    variants = {edge: {nodes.components[edge[1]]: _set_to(nodes, parts, edge[1], arriving[edge])} for edge in inside}
    found = answers_with(model, captured, variants, saes=saes)
    for column, edge in enumerate(edges):
        if edge[1] == answer:
            logits[:, column] = arriving[edge]
            continue
        logits[:, column] = found[edge]
        change = arriving[edge] - parts.values[edge[1]]
        arrives[:, column] = change[:, 0] if change.shape[1] == 1 else change.norm(dim=-1)
    return CutEdges(logits, arrives, through)


class _Edges(NamedTuple):
    """The edges that are cut, and what their nodes hold and add."""

    nodes: Nodes
    edges: Sequence[Edge]
    parts: Parts
    reference: Reference | None

    @property
    def lost(self) -> Float[Tensor, "example node d_model"]:
        """What a source adds beyond its reference."""
        return self.parts.adds if self.reference is None else self.parts.adds - self.reference.adds

    def into(self, layer: int, kinds: Sequence[Kind]) -> list[Edge]:
        """Edges to the nodes of some kinds in a layer."""
        there = {k for kind in kinds for k in self.nodes.of(kind).get(layer, [])}
        return [edge for edge in dict.fromkeys(self.edges) if edge[1] in there]


def _set_to(nodes: Nodes, parts: Parts, target: int, value: Tensor) -> Tensor:
    """What `answers_with` sets a component to: of an MLP, the output of all its neurons."""
    return value + _neurons_beside(nodes, parts.raw, target)


def _neurons_beside(nodes: Nodes, raw: Float[Tensor, "example node d_model"], node: int) -> Tensor | float:
    """What those neurons of an MLP put out that are nodes of their own."""
    one = nodes.components[node]
    return raw[:, nodes.of("neuron").get(one.layer, [])].sum(1) if one.kind == "mlp" else 0.0


class _Lost:
    """What the stream lacks of each source on its direct way up; features that are nodes are held, and keep theirs."""

    def __init__(self, suffix: Suffix, saes: SaeStack | None, cut: _Edges) -> None:
        self.saes, self.nodes, self.before = saes, cut.nodes, cut.parts.before[:, suffix.examples]
        self.now = cut.lost[suffix.examples].clone()  # [prompt, node, d_model]

    def without(self, reads: Float[Tensor, "prompt d_model"], sources: Sequence[int]) -> Float[Tensor, "prompt row d"]:
        return reads[:, None] - self.now[:, list(sources)]

    def pass_features(self, layer: int) -> dict[Edge, Float[Tensor, "prompt 1"]]:
        """Goes by the features of a layer: by edge, their activation without the source."""
        features = self.nodes.of("feature").get(layer, [])
        if not features:
            return {}
        assert self.saes is not None
        sources = [u for u in range(len(self.nodes)) if self.nodes.feeds(u, features[0])]
        index = torch.tensor([self.nodes.components[v].number for v in features])
        rows = torch.cat([self.before[layer + 1][:, None], self.without(self.before[layer + 1], sources)], dim=1)
        acts = self.saes.encode_features(layer, rows, index).to(self.now)  # [prompt, clean and sources, feature]
        directions = torch.cat([self.nodes.writes[v] for v in features])
        self.now[:, sources] -= (acts[:, :1] - acts[:, 1:]) @ directions
        return {(u, v): acts[:, 1 + r, c, None] for r, u in enumerate(sources) for c, v in enumerate(features)}


def _held(
    model: LanguageModel, saes: SaeStack | None, captured: Captured, cut: _Edges
) -> dict[Edge, Float[Tensor, "example _"]]:
    """By edge, the target's value without the source's part of what it reads; the answer's: its logits."""
    nodes, parts, edges = cut.nodes, cut.parts, {*cut.edges}
    found: dict[Edge, Tensor] = {}
    for suffix in suffixes(model, captured, max(1, rows_in_memory(model, captured) // (1 + len(nodes)))):
        here, lost = suffix.examples, _Lost(suffix, saes, cut)

        def put(edge: Edge, value: Tensor, here: Tensor = here) -> None:
            if edge not in found:
                found[edge] = torch.zeros(len(captured.n_tokens), value.shape[-1], device=model.device)
            found[edge][here] = value.to(model.device, torch.float32)

        for layer in range(model.n_layers):
            for kinds, reads in ((HEADS, parts.before[layer]), (NEURONS, parts.middle[layer])):
                if own := cut.into(layer, kinds):
                    sources = sorted({u for u, _ in own})
                    rows = lost.without(reads[here], sources).to(model.dtype)
                    read = heads_reading(suffix, rows, layer) if kinds == HEADS else neurons_reading(model, rows, layer)
                    for u, v in own:
                        put((u, v), value_read(model, nodes, v, read)[:, sources.index(u)])
            for edge, acts in lost.pass_features(layer).items():
                if edge in edges:
                    put(edge, acts)
        if own := [edge for edge in dict.fromkeys(cut.edges) if edge[1] == len(nodes)]:
            rows = lost.without(parts.before[-1][here], [u for u, _ in own]).to(model.dtype)
            for k, scores in enumerate(captured.answers.score(model, rows[:, :, None]).unbind(1)):
                put(own[k], scores)
    return found


Read = dict[Kind, Float[Tensor, "..."]]
HEADS: tuple[Kind, ...] = ("head",)
NEURONS: tuple[Kind, ...] = ("mlp", "neuron")


def heads_reading(suffix: Suffix, rows: Float[Tensor, "prompt row d_model"], layer: int) -> Read:
    """What a layer's heads gather when the answer position reads these residuals."""
    site: Site = ("heads", layer)
    with suffix.model.recorded([site]) as seen:
        suffix.attend(rows, layer)
    return {"head": rearrange(seen[site], "(prompt row) 1 d -> prompt row d", row=rows.shape[1])}


def neurons_reading(model: LanguageModel, rows: Float[Tensor, "prompt row d_model"], layer: int) -> Read:
    """What a layer's MLP makes of these residuals: its neurons and its output."""
    norm = model.norm(layer, "mlp_norm")
    assert norm is not None
    site: Site = ("neurons", layer)
    with model.recorded([site]) as seen:
        output = model.part(("mlp", layer))(norm(rows.to(model.device_of(layer))))
    return {"neuron": seen[site], "mlp": output}


def value_read(model: LanguageModel, nodes: Nodes, node: int, read: Read) -> Float[Tensor, "..."]:
    """A node's own part of what its layer read; of an MLP, without the neurons that are nodes of their own."""
    one = nodes.components[node]
    value = read[one.kind][..., columns_of(model, one)].to(model.device, torch.float32)
    for k in nodes.of("neuron").get(one.layer, []) if one.kind == "mlp" else []:
        neuron = read["neuron"][..., columns_of(model, nodes.components[k])].to(value)
        value = value - neuron @ nodes.writes[k]
    return value


def _recomputed(
    model: LanguageModel, saes: SaeStack | None, captured: Captured, cut: _Edges
) -> dict[Edge, Float[Tensor, "example _"]]:
    """The same with everything between source and target computed again; the answer hears of the source every way."""
    nodes, parts, edges = cut.nodes, cut.parts, list(dict.fromkeys(cut.edges))
    watched: set[Site] = {site_of(nodes.components[v]) for _, v in edges if v < len(nodes)}
    watched |= {
        ("neurons", nodes.components[v].layer) for _, v in edges if v < len(nodes) and nodes.components[v].kind == "mlp"
    }
    variants: dict[int, Variant] = {}
    for u in dict.fromkeys(u for u, _ in edges):
        zero = torch.zeros_like(parts.values[u])
        value = zero if cut.reference is None else zero + cut.reference.values[u]
        variants[u] = {nodes.components[u]: _set_to(nodes, parts, u, value)}
    passed = passed_with(model, captured, variants, watched, saes=saes)
    found: dict[Edge, Tensor] = {}
    for u, v in edges:
        if v == len(nodes):
            found[u, v] = passed[u].logits
            continue
        one, seen = nodes.components[v], passed[u].seen
        if one.kind == "feature":
            assert saes is not None
            value = saes.encode_features(one.layer, seen[one.layer], torch.tensor([one.number]))
            found[u, v] = value.to(model.device, torch.float32)
        else:
            read: Read = {one.kind: seen[site_of(one)]}
            if one.kind == "mlp":
                read["neuron"] = seen["neurons", one.layer]
            found[u, v] = value_read(model, nodes, v, read)
    return found


def edge_attribution(
    model: LanguageModel,
    saes: SaeStack | None,
    captured: Captured,
    nodes: Nodes,
    edges: Sequence[Edge],
    targets: Int[Tensor, " example"],
    reference: Reference | None = None,
) -> Float[Tensor, "example edge"]:
    """First-order estimate of every edge's effect: what the source adds beyond its reference x gradient at the target.

    Edge attribution patching (Syed et al. 2023, arXiv 2310.10348), one backward pass for all edges. Into features what
    arrives is exact (a feature that falls silent has no slope) and only what comes above it is first-order.

    Args:
        targets: index into the answers, per example; effects are of its log-probability, in nats.

    Raises:
        UserError: answers that their first tokens do not tell apart.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    check_first_tokens(captured)
    cut = _Edges(nodes, edges, parts_of(model, saes, captured, nodes), reference)
    parts = cut.parts
    out = torch.zeros(len(captured.n_tokens), len(edges), device=model.device)
    column = {edge: k for k, edge in enumerate(edges)}
    sites: list[Site] = [site_of(c) for c in nodes.components]
    last = model.n_layers - 1
    slopes = site_gradients(model, captured, targets, list(dict.fromkeys([*sites, last])))
    slope = {
        k: slopes[site_of(c)][:, slice(None) if c.kind == "feature" else columns_of(model, c)].float()
        for k, c in enumerate(nodes.components)
    }
    for suffix in suffixes(model, captured, max(1, rows_in_memory(model, captured) // (1 + len(nodes)))):
        here, lost = suffix.examples, _Lost(suffix, saes, cut)
        for layer in range(model.n_layers):
            for kinds, reads in ((HEADS, parts.before[layer]), (NEURONS, parts.middle[layer])):
                own = cut.into(layer, kinds)
                there = sorted({v for _, v in own})
                if not own:
                    continue
                with torch.enable_grad():
                    rows = reads[here, None].repeat(1, len(there), 1).to(model.dtype).requires_grad_()
                    read = heads_reading(suffix, rows, layer) if kinds == HEADS else neurons_reading(model, rows, layer)
                    values = [value_read(model, nodes, v, read)[:, k] for k, v in enumerate(there)]
                    worth = torch.stack([(x * slope[v][here]).sum() for x, v in zip(values, there, strict=True)])
                    (at_input,) = torch.autograd.grad(worth.sum(), [rows])
                for u, v in own:
                    out[here, column[u, v]] = (lost.now[:, u] * at_input[:, there.index(v)].float()).sum(-1)
            for (u, v), acts in lost.pass_features(layer).items():
                if (u, v) in column:
                    fall = (parts.values[v][here] - acts)[:, 0]
                    out[here, column[u, v]] = fall * (slope[v][here] * nodes.writes[v][0]).sum(-1)
        for u, v in edges:
            if v == len(nodes):
                out[here, column[u, v]] = (lost.now[:, u] * slopes[last][here].float()).sum(-1)
    return out
