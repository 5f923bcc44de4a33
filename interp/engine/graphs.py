"""What a model would answer if only some edges of a graph carried anything: all others cut, together.

Every node and the answer read a residual of their own: the mean one (`Reference`), plus, of every source whose edge to
them is kept, what it adds beyond its mean. Sources add what they make of what they themselves read. Parts of the model
that are no nodes stay at their means; what enters the first block, and keys and values of earlier tokens, are the
example's own. With all components of a model as nodes and all edges kept this is the model itself; with all edges cut
the answer is that of the mean residual, but for positions learned with the embedding (GPT-2).

A feature stands in the stream: what it reads of the stream is taken out of every residual above it (its activation
there, along its direction) and handed on along its own edges alone.

Source: edges cut together, Conmy et al. 2023 (arXiv 2304.14997); features in the stream with their error kept, Marks et
al. 2024 (2403.19647).
"""

import torch
from einops import einsum, rearrange
from jaxtyping import Bool, Float
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.contributions import Nodes, Reference, behind
from interp.engine.paths import check_first_tokens, heads_reading, neurons_reading, value_read
from interp.engine.suffix import Suffix, rows_in_memory, suffixes
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack


def kept_edges(nodes: Nodes, edges: list[tuple[int, int]]) -> Bool[Tensor, "source target"]:
    """A graph as a matrix; the last target is the answer.

    Raises:
        ValueError: an edge from what is computed later.
    """
    if wrong := [edge for edge in edges if not nodes.feeds(*edge)]:
        raise ValueError(f"no such edges: {wrong[:3]}")
    kept = torch.zeros(len(nodes), len(nodes) + 1, dtype=torch.bool)
    for source, target in edges:
        kept[source, target] = True
    return kept


@torch.no_grad()
def graph_answers(
    model: LanguageModel,
    saes: SaeStack | None,
    captured: Captured,
    nodes: Nodes,
    kept: Bool[Tensor, "graph source target"],
    reference: Reference,
) -> Float[Tensor, "example graph answer"]:
    """Answer logits when only the kept edges of each graph carry what differs from the reference.

    Args:
        kept: from `kept_edges`, stacked.

    Raises:
        UserError: answers that their first tokens do not tell apart.
        ValueError: `captured` was made without `keep_cache=True`.
    """
    check_first_tokens(captured)
    logits = captured.answer_logits[:, None].repeat(1, len(kept), 1)
    size = max(1, rows_in_memory(model, captured) // (2 + len(nodes)))  # every node's view is a row of its own
    for suffix in suffixes(model, captured, size):
        count = max(1, size // len(suffix.examples))
        for k in range(0, len(kept), count):
            graphs = kept[k : k + count].to(model.device, torch.float32)
            residual = _Views(suffix, saes, nodes, graphs, reference).run()
            scores = captured.answers.score(model, residual[:, :, None].to(model.dtype))
            logits[suffix.examples, k : k + count] = scores
    return logits


class _Views:
    """What every node of every graph reads, as it differs from the mean residual: [prompt, graph, node, d_model]."""

    def __init__(
        self,
        suffix: Suffix,
        saes: SaeStack | None,
        nodes: Nodes,
        kept: Float[Tensor, "graph source target"],
        reference: Reference,
    ) -> None:
        self.suffix, self.model, self.saes, self.nodes = suffix, suffix.model, saes, nodes
        self.kept, self.reference = kept, reference
        entered = suffix.clean(-1).float() - reference.before[0]
        self.views = entered[:, None, None].repeat(1, len(kept), len(nodes) + 1, 1)

    def run(self) -> Float[Tensor, "prompt graph d_model"]:
        """What the answer reads."""
        reference = self.reference
        for layer in range(self.model.n_layers):
            heads = self.nodes.of("head").get(layer, [])
            if heads:
                self._pass(heads, reference.before[layer], layer)
            neurons = sorted([*self.nodes.of("mlp").get(layer, []), *self.nodes.of("neuron").get(layer, [])])
            if neurons:
                self._pass(neurons, reference.middle[layer], layer)
            features = self.nodes.of("feature").get(layer, [])
            if features:
                self._through_features(features, reference.before[layer + 1], layer)
        return reference.before[-1] + self.views[:, :, -1]

    def _pass(self, own: list[int], mean: Float[Tensor, " d_model"], layer: int) -> None:
        """Heads, or an MLP and its neurons: each reads its own view, and adds to those that its edges lead to."""
        n_graphs, first = len(self.kept), self.nodes.components[own[0]]
        rows = rearrange(mean + self.views[:, :, own], "prompt graph node d -> prompt (graph node) d").to(
            self.model.dtype
        )
        if first.kind == "head":
            read = heads_reading(self.suffix, rows, layer)
        else:
            read = neurons_reading(self.model, rows, layer)
        values = [
            rearrange(
                value_read(self.model, self.nodes, v, read),
                "prompt (graph node) w -> prompt graph node w",
                graph=n_graphs,
            )[:, :, k]
            for k, v in enumerate(own)
        ]
        raw = torch.stack(
            [
                x if self.nodes.components[v].kind == "mlp" else x @ self.nodes.writes[v]
                for x, v in zip(values, own, strict=True)
            ],
            dim=2,
        )  # [prompt, graph, node, d_model]
        moved = (raw - self.reference.raw[own]).sum(2)
        part = "attention" if first.kind == "head" else "mlp"
        scale = behind(self.model, first)(self.reference.totals[part, layer] + moved)  # type: ignore[index]
        added = raw * (scale if isinstance(scale, float) else scale[:, :, None]) - self.reference.adds[own]
        self._hand_on(own, added)

    def _hand_on(self, own: list[int], added: Float[Tensor, "prompt graph source d_model"]) -> None:
        above = max(own) + 1
        edges = self.kept[:, own, above:]
        self.views[:, :, above:] += einsum(
            edges, added, "graph source target, prompt graph source d -> prompt graph target d"
        )

    def _through_features(self, own: list[int], mean: Float[Tensor, " d_model"], layer: int) -> None:
        """Every view above loses what the features read in it, and gains along its edges what they are worth."""
        assert self.saes is not None
        index = torch.tensor([self.nodes.components[k].number for k in own])
        above = max(own) + 1
        acts = self.saes.encode_features(layer, mean + self.views[:, :, own], index).float()
        held = torch.stack([acts[:, :, k, k] for k in range(len(own))], dim=2)  # each in its own view
        typical = torch.stack([self.reference.values[k][0] for k in own])
        there = self.saes.encode_features(layer, mean + self.views[:, :, above:], index).float()
        edges = rearrange(self.kept[:, own, above:], "graph feature target -> graph target feature")
        wanted = edges * held[:, :, None] + (1 - edges) * typical
        directions = torch.stack([self.nodes.writes[k][0] for k in own])
        self.views[:, :, above:] += (wanted - there) @ directions
