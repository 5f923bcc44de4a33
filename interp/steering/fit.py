"""How gains and vectors are fitted, on labelled examples that are never scored.

Everything runs on cached keys and values: a step costs one token per example through the layers above the lowest
steered one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from interp.engine.ablation import Name, ResidualEdit, answers_under_each, select_prompts
from interp.engine.capture import Captured, PromptCache
from interp.engine.suffix import answer_scores
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.steering.gates import fit_gate
from interp.steering.steering import Gains, Gate, Steering

SNAPSHOTS = (10, 20, 40)
"""Steps of a fit that are compared: early stopping."""
MANY = 16
"""Continuation tokens of the answers above which a batch's activations are computed anew on the way back."""
STEPS, RATE = SNAPSHOTS[-1], 0.05
UNIT = 0.1
"""Vectors are fitted in units of this share of the layer's mean residual norm."""
ANCHORS = 300
"""Anchor texts that a fit learns from, at most."""
KEEP = 3.0
"""Weight of KL(unsteered || steered) on the anchor texts, beside the cross-entropy of the fit examples."""


@dataclass(frozen=True)
class SteeredFeature:
    """A causal feature that may be steered."""

    layer: int
    feature: int
    emotion: str
    effect: float


@dataclass(frozen=True)
class FitData:
    """Captures of the fit examples, keys and values included, with their gold emotions; and texts to leave alone."""

    parts: Sequence[tuple[Captured, Int[Tensor, " example"]]]
    n_labels: int
    groups: Sequence[object] = ()
    """The source of every example, in the order of the parts."""
    anchors: Mapping[str, Sequence[Captured]] = field(default_factory=dict)
    """By corpus, texts whose answers should stay as they are; their labels are not used."""

    @property
    def gold(self) -> Int[Tensor, " example"]:
        return torch.cat([g for _, g in self.parts])

    @property
    def wanted(self) -> list[Captured]:
        return [captured for captured, _ in self.parts]

    def residuals(self, layer: int) -> Float[Tensor, "example d_model"]:
        return torch.cat([c.residuals[layer] for c in self.wanted])

    def anchor_residuals(self, layer: int) -> Float[Tensor, "anchor d_model"]:
        return torch.cat([c.residuals[layer] for parts in self.anchors.values() for c in parts])


@dataclass(frozen=True)
class Rows:
    """Which examples a fit may learn from; the others are predicted."""

    examples: Int[Tensor, " example"]
    anchors: Int[Tensor, " anchor"]
    """Places in the anchors of all corpora, one after another."""

    @classmethod
    def whole(cls, data: FitData) -> "Rows":
        n = sum(len(c.n_tokens) for parts in data.anchors.values() for c in parts)
        return cls(torch.arange(len(data.gold)), torch.arange(n))


@dataclass(frozen=True)
class Plan:
    """What is fitted: gains of features, vectors, or both; behind gates or not."""

    method: str
    setting: str
    features: Sequence[SteeredFeature] = ()
    vectors: Sequence[int] = ()
    """Layers that get a vector."""
    gated: bool = False
    pull: float = 0.003
    """Weight of the mean squared log-gain, and of the vectors' squared norms: the pull towards doing nothing."""
    gate_features: Mapping[int, np.ndarray] = field(default_factory=dict)
    """By layer, the only features a gate may use; none: all."""

    @property
    def layers(self) -> list[int]:
        return sorted({*self.vectors, *(f.layer for f in self.features)})


Note = Callable[[int, Float[Tensor, "example answer"], Float[Tensor, "anchor answer"]], None]


def answers(
    model: LanguageModel, captured: Sequence[Captured], edits: Mapping[int, ResidualEdit]
) -> Float[Tensor, "example answer"]:
    """Answer logits of all parts under edits, without gradients, with the engine's check."""
    return answers_each(model, captured, {"edited": edits})["edited"]


def answers_each(
    model: LanguageModel, captured: Sequence[Captured], edits: Mapping[Name, Mapping[int, ResidualEdit]]
) -> dict[Name, Float[Tensor, "example answer"]]:
    """The same under each of several edits alone."""
    parts = [answers_under_each(model, c, edits) for c in captured]
    return {name: torch.cat([p[name] for p in parts]) for name in edits}


def fit(
    model: LanguageModel,
    saes: SaeStack,
    data: FitData,
    plan: Plan,
    rows: Rows,
    steps: int = STEPS,
    note: Note | None = None,
) -> Steering:
    """Lowers the cross-entropy of the gold answers plus `KEEP` x KL on the anchors plus the pull, by Adam.

    Args:
        rows: what may be learnt from, gates included.
        note: called after each of `SNAPSHOTS` steps with the answer logits of all examples and all anchors.
    """
    gates = _gates(saes, data, plan, rows) if plan.gated else {}
    index = {k: torch.tensor([f.feature for f in plan.features if f.layer == k]) for k in plan.layers}
    few = saes.restricted(
        {k: [*index[k].tolist(), *(gates[k].features.tolist() if k in gates else ())] for k in plan.layers}
        if plan.features or gates
        else {}
    )
    log_gain = {k: torch.zeros(len(i), device=model.device, requires_grad=True) for k, i in index.items() if len(i)}
    vector = {k: torch.zeros(model.d_model, device=model.device, requires_grad=True) for k in plan.vectors}
    unit = {k: UNIT * data.residuals(k).norm(dim=-1).mean().float() for k in plan.vectors}

    def edit(layer: int) -> ResidualEdit:
        gate = gates.get(layer)
        directions = few.directions(layer, index[layer]) if layer in log_gain else None

        def change(x: Tensor) -> Tensor:
            # Activations are taken as they come: the gradient flows through gains, vectors and the residual stream.
            seen, total = x.detach(), torch.zeros((), device=x.device)
            if directions is not None:
                acts = few.encode_features(layer, seen, index[layer].to(directions.device))
                total = (acts * (log_gain[layer].exp() - 1)) @ directions
            if layer in vector:
                total = total + vector[layer] * unit[layer]
            if gate is not None:
                acts = few.encode_features(layer, seen, gate.features.to(seen.device))
                total = total * torch.sigmoid(acts @ gate.weights.to(acts.device) + gate.bias)[..., None]
            return x + total.to(x.device, x.dtype)

        return change

    edits = {layer: edit(layer) for layer in plan.layers}
    optimiser = torch.optim.Adam([*log_gain.values(), *vector.values()], lr=RATE)
    gold = data.gold.to(model.device)[rows.examples]
    anchors = [c for parts in data.anchors.values() for c in parts]
    spread = rows.anchors[:: -(-len(rows.anchors) // ANCHORS)] if len(rows.anchors) else rows.anchors
    lowest = min(plan.layers)
    learnt, kept = _chosen(data.wanted, rows.examples, lowest), _chosen(anchors, spread, lowest)
    before = torch.cat([c.answer_logits for c in anchors]).log_softmax(-1)[spread] if anchors else None
    for step in range(steps + 1):
        if note is not None and step in SNAPSHOTS:
            with torch.no_grad():
                none = gold.new_zeros(0, data.n_labels, dtype=torch.float32)
                note(step, answers(model, data.wanted, edits), answers(model, anchors, edits) if anchors else none)
        if step == steps:
            break
        with torch.enable_grad():
            logits = _differentiable(model, learnt, edits, len(gold))
            loss = torch.nn.functional.cross_entropy(logits, gold) + plan.pull * _size(log_gain, vector)
            if before is not None:
                after = _differentiable(model, kept, edits, len(spread)).log_softmax(-1)
                loss = loss + KEEP * (before.exp() * (before - after)).sum(-1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    gains = {k: Gains(index[k], g.detach().exp().cpu()) for k, g in log_gain.items()}
    vectors = {k: (v.detach() * unit[k]).cpu() for k, v in vector.items()}
    return Steering(plan.method, gains, vectors, gates)


def _size(log_gain: Mapping[int, Tensor], vector: Mapping[int, Tensor]) -> Tensor:
    gains = [g.square() for g in log_gain.values()]
    size = torch.cat(gains).mean() if gains else torch.zeros(())
    return size + sum(v.square().sum() for v in vector.values())


def _gates(saes: SaeStack, data: FitData, plan: Plan, rows: Rows) -> dict[int, Gate]:
    """A gate per steered layer, from the fit examples and the anchors that may be learnt from."""
    gates = {}
    for layer in plan.layers:
        wanted = saes.encode(layer, data.residuals(layer)[rows.examples])
        anchors = saes.encode(layer, data.anchor_residuals(layer)[rows.anchors])
        gates[layer] = fit_gate(wanted, anchors, plan.gate_features.get(layer))
    return gates


Chosen = Sequence[tuple[Captured, PromptCache, Int[Tensor, " prompt"]]]
"""Captures with the prompts of a cache that are wanted, and their places among all that are."""


def _chosen(captured: Sequence[Captured], rows: Int[Tensor, " row"], above: int) -> Chosen:
    place = {row: i for i, row in enumerate(rows.tolist())}
    found, start = [], 0
    for one in captured:
        for cache in one.caches:
            columns = [c for c, example in enumerate(cache.examples) if start + example in place]
            if columns:
                places = torch.tensor([place[start + cache.examples[c]] for c in columns])
                found.append((one, select_prompts(cache, columns, above=above), places))
        start += len(one.n_tokens)
    return found


def _differentiable(
    model: LanguageModel, chosen: Chosen, edits: Mapping[int, ResidualEdit], n: int
) -> Float[Tensor, "row answer"]:
    """Answer logits of `n` rows under edits, with their gradients."""
    first = min(edits)
    above = {k: e for k, e in edits.items() if k > first}
    parts, order = [], []
    for captured, cache, places in chosen:

        def scores(captured: Captured = captured, cache: PromptCache = cache) -> Tensor:
            examples = torch.tensor(cache.examples, device=model.device)
            rows = edits[first](captured.residuals[first, examples][:, None])
            return answer_scores(model, captured, cache, rows, first, edits=above)[:, 0]

        # Continuation tokens of many words take more memory on the way back than all prompts: they pass once more.
        many = captured.answers.n_continued > MANY
        parts.append(checkpoint(scores, use_reentrant=False) if many else scores())
        order.append(places)
    back = torch.empty(n, dtype=torch.long)
    back[torch.cat(order)] = torch.arange(n)
    return torch.cat(parts)[back.to(parts[0].device)]


def gains_on(features: Sequence[SteeredFeature], gain: Sequence[float], method: str) -> Steering:
    """One gain per feature."""
    gains = {}
    for layer in sorted({f.layer for f in features}):
        mine = [(f.feature, g) for f, g in zip(features, gain, strict=True) if f.layer == layer]
        gains[layer] = Gains(torch.tensor([f for f, _ in mine]), torch.tensor([float(g) for _, g in mine]))
    return Steering(method, gains)
