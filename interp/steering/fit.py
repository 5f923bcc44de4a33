"""How gains and vectors are fitted, on labelled examples that are never scored.

Everything runs on cached keys and values: a step costs one token per example through the layers above the lowest
steered one.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from interp.engine.capture import Captured
from interp.engine.suffix import ResidualEdit, Suffix
from interp.engine.variants import Name, answers_under_each
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.steering.gates import fit_gate
from interp.steering.steering import Gains, Gate, SteeredFeature, Steering, steered

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
class FitData:
    """What steerings are fitted on: captures of labelled examples, keys and values included, and texts to leave alone.

    Attributes:
        labels: names of the emotions, which the gold numbers index.
        parts: captures with the gold emotions of their examples.
        groups: the source of every example, in the order of the parts.
        anchors: by corpus, texts whose answers should stay as they are; their labels are not used.
    """

    model: LanguageModel
    saes: SaeStack
    labels: Sequence[str]
    parts: Sequence[tuple[Captured, Int[Tensor, " example"]]]
    groups: Sequence[object] = ()
    anchors: Mapping[str, Sequence[Captured]] = field(default_factory=dict)

    @property
    def gold(self) -> Int[Tensor, " example"]:
        return torch.cat([g for _, g in self.parts])

    @property
    def wanted(self) -> list[Captured]:
        return [captured for captured, _ in self.parts]

    @property
    def anchor_captures(self) -> list[Captured]:
        """Those of all corpora, one after another."""
        return [captured for parts in self.anchors.values() for captured in parts]

    def residuals(self, layer: int) -> Float[Tensor, "example d_model"]:
        return torch.cat([c.residuals[layer] for c in self.wanted])

    def anchor_residuals(self, layer: int) -> Float[Tensor, "anchor d_model"]:
        return torch.cat([c.residuals[layer] for c in self.anchor_captures])

    def predicted(self, edits: Mapping[int, ResidualEdit]) -> Int[np.ndarray, " example"]:
        """The examples' answers under edits, as label numbers."""
        return answers(self.model, self.wanted, edits).argmax(-1).cpu().numpy()


@dataclass(frozen=True)
class Rows:
    """Which examples a fit may learn from; the others are predicted."""

    examples: Int[Tensor, " example"]
    anchors: Int[Tensor, " anchor"]
    """Places in the anchors of all corpora, one after another."""

    @classmethod
    def whole(cls, data: FitData) -> "Rows":
        n_anchors = sum(len(c.n_tokens) for c in data.anchor_captures)
        return cls(torch.arange(len(data.gold)), torch.arange(n_anchors))

    @classmethod
    def drawn(cls, data: FitData, n: int, seed: Sequence[int]) -> "Rows":
        """Some examples at random, and all anchors."""
        order = np.random.default_rng(seed).permutation(len(data.gold))[:n]
        return cls(torch.from_numpy(np.sort(order)), cls.whole(data).anchors)


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


def fit(data: FitData, plan: Plan, rows: Rows | None = None, steps: int = STEPS, note: Note | None = None) -> Steering:
    """Lowers the cross-entropy of the gold answers plus `KEEP` x KL on the anchors plus the pull, by Adam.

    Args:
        rows: what may be learnt from, gates included; None: all.
        note: called after each of `SNAPSHOTS` steps with the answer logits of all examples and all anchors.
    """
    rows = rows or Rows.whole(data)
    learnt = _Learnt.start(data, plan, rows)
    edits, loss = learnt.edits(data.saes), _loss(data, rows, lowest=min(plan.layers))
    optimiser = torch.optim.Adam([*learnt.log_gains.values(), *learnt.vectors.values()], lr=RATE)
    for step in range(steps + 1):
        if note is not None and step in SNAPSHOTS:
            nothing = torch.zeros(0, len(data.labels), device=data.model.device)
            with torch.no_grad():
                kept = answers(data.model, data.anchor_captures, edits) if data.anchors else nothing
                note(step, answers(data.model, data.wanted, edits), kept)
        if step == steps:
            break
        with torch.enable_grad():
            value = loss(edits) + plan.pull * learnt.size()
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
    return learnt.steering(plan)


@dataclass(frozen=True)
class _Learnt:
    """What a fit changes, by layer: log-gains of `features`, and vectors in `units`, so that one rate serves both.

    Gates stay as they are.
    """

    features: Mapping[int, Int[Tensor, " feature"]]
    log_gains: Mapping[int, Float[Tensor, " feature"]]
    vectors: Mapping[int, Float[Tensor, " d_model"]]
    units: Mapping[int, Float[Tensor, ""]]
    gates: Mapping[int, Gate]

    @classmethod
    def start(cls, data: FitData, plan: Plan, rows: Rows) -> "_Learnt":
        """Gains of one, vectors of zero, and gates fitted on what may be learnt from."""
        zeros = partial(torch.zeros, device=data.model.device, requires_grad=True)
        layers = sorted({f.layer for f in plan.features})
        features = {k: torch.tensor([f.feature for f in plan.features if f.layer == k]) for k in layers}
        return cls(
            features,
            {k: zeros(len(index)) for k, index in features.items()},
            {k: zeros(data.model.d_model) for k in plan.vectors},
            {k: UNIT * data.residuals(k).norm(dim=-1).mean().float() for k in plan.vectors},
            {k: _gate(data, plan, rows, k) for k in (plan.layers if plan.gated else ())},
        )

    def size(self) -> Float[Tensor, ""]:
        """What is pulled towards nothing: the mean squared log-gain and the vectors' squared norms."""
        gains = [g.square() for g in self.log_gains.values()]
        size = torch.cat(gains).mean() if gains else torch.zeros(())
        return size + sum(v.square().sum() for v in self.vectors.values())

    def edits(self, saes: SaeStack) -> dict[int, ResidualEdit]:
        """As `Steering.edits`, but the gradient flows to gains and vectors."""
        read = {k: index.tolist() for k, index in self.features.items()}
        for layer, gate in self.gates.items():
            read[layer] = [*read.get(layer, ()), *gate.features.tolist()]
        restricted = saes.restricted(read)
        return {layer: self._edit(layer, restricted) for layer in sorted({*self.log_gains, *self.vectors})}

    def _edit(self, layer: int, saes: SaeStack) -> ResidualEdit:
        index, gate, vector = self.features.get(layer), self.gates.get(layer), self.vectors.get(layer)
        directions = None if index is None else saes.directions(layer, index)

        def edit(x: Tensor) -> Tensor:
            # Activations are taken as they come: the gradient flows through gains, vectors and the residual stream.
            seen, change, opening = x.detach(), torch.zeros((), device=x.device), None
            if index is not None and directions is not None:
                acts = saes.encode_features(layer, seen, index.to(directions.device))
                change = (acts * (self.log_gains[layer].exp() - 1)) @ directions
            if vector is not None:
                change = change + vector * self.units[layer]
            if gate is not None:
                acts = saes.encode_features(layer, seen, gate.features.to(seen.device))
                opening = acts @ gate.weights.to(acts.device) + gate.bias
            return steered(x, change, opening)

        return edit

    def steering(self, plan: Plan) -> Steering:
        gains = {k: Gains(self.features[k], g.detach().exp().cpu()) for k, g in self.log_gains.items()}
        vectors = {k: (v.detach() * self.units[k]).cpu() for k, v in self.vectors.items()}
        return Steering(plan.method, gains, vectors, self.gates, causal=[f for f in plan.features if f.emotion])


def _gate(data: FitData, plan: Plan, rows: Rows, layer: int) -> Gate:
    wanted = data.saes.encode(layer, data.residuals(layer)[rows.examples])
    anchors = data.saes.encode(layer, data.anchor_residuals(layer)[rows.anchors])
    return fit_gate(wanted, anchors, plan.gate_features.get(layer))


def _loss(data: FitData, rows: Rows, lowest: int) -> Callable[[Mapping[int, ResidualEdit]], Float[Tensor, ""]]:
    """Cross-entropy of the gold answers plus `KEEP` x KL(unsteered || steered) on the anchors, under edits.

    Args:
        rows: what may be learnt from; of the anchors, `ANCHORS` at most.
        lowest: the lowest layer that is edited.
    """
    anchors, gold = data.anchor_captures, data.gold.to(data.model.device)[rows.examples]
    spread = rows.anchors[:: -(-len(rows.anchors) // ANCHORS)] if len(rows.anchors) else rows.anchors
    examples = _passed(data.model, data.wanted, rows.examples, lowest)
    kept = _passed(data.model, anchors, spread, lowest)
    before = torch.cat([c.answer_logits for c in anchors]).log_softmax(-1)[spread] if anchors else None

    def loss(edits: Mapping[int, ResidualEdit]) -> Float[Tensor, ""]:
        fitted = torch.nn.functional.cross_entropy(_differentiable(examples, edits), gold)
        if before is None:
            return fitted
        after = _differentiable(kept, edits).log_softmax(-1)
        return fitted + KEEP * (before.exp() * (before - after)).sum(-1).mean()

    return loss


class _Passed(NamedTuple):
    """Prompts of one capture that are learnt from, and their places among all that are."""

    suffix: Suffix
    places: Int[Tensor, " prompt"]


def _passed(model: LanguageModel, captured: Sequence[Captured], rows: Int[Tensor, " row"], above: int) -> list[_Passed]:
    place = {row: i for i, row in enumerate(rows.tolist())}
    passed, start = [], 0
    for one in captured:
        for cache in one.caches:
            columns = [c for c, example in enumerate(cache.examples) if start + example in place]
            if columns:
                places = torch.tensor([place[start + cache.examples[c]] for c in columns])
                passed.append(_Passed(Suffix(model, one, cache).select(columns, above=above), places))
        start += len(one.n_tokens)
    return passed


def _differentiable(passed: Sequence[_Passed], edits: Mapping[int, ResidualEdit]) -> Float[Tensor, "row answer"]:
    """Answer logits under edits, with their gradients, by the prompts' places."""
    first = min(edits)
    above = {k: e for k, e in edits.items() if k > first}
    parts = []
    for suffix, _ in passed:

        def scores(suffix: Suffix = suffix) -> Tensor:
            return suffix.scores({first: edits[first](suffix.clean(first)[:, None])}, above)[:, 0]

        # Continuation tokens of many words take more memory on the way back than all prompts: they pass once more.
        many = suffix.captured.answers.n_continued > MANY
        parts.append(checkpoint(scores, use_reentrant=False) if many else scores())
    back = torch.cat([p.places for p in passed]).argsort()
    return torch.cat(parts)[back.to(parts[0].device)]


def gains_on(features: Sequence[SteeredFeature], gain: Sequence[float], method: str) -> Steering:
    """One gain per feature."""
    gains = {}
    for layer in sorted({f.layer for f in features}):
        pairs = [(f.feature, float(g)) for f, g in zip(features, gain, strict=True) if f.layer == layer]
        index, multipliers = zip(*pairs, strict=True)
        gains[layer] = Gains(torch.tensor(index), torch.tensor(multipliers))
    return Steering(method, gains, causal=[f for f in features if f.emotion])
