"""A steering as data: gains, couplings, vectors and gates by layer; a function of the residual that sees no label."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NamedTuple, TypedDict, cast, get_args

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.engine.suffix import ResidualEdit
from interp.errors import DamagedError, UserError
from interp.files.folder import read_json, write_json, writing
from interp.models.language_model import Edit, LanguageModel
from interp.notebook import html_table, text_line
from interp.saes.loading import SaesRecord, load_recorded
from interp.saes.stack import SaeStack
from interp.steering.coupling import Coupling
from interp.steering.positions import WHERE, Positions, placed

TENSORS, FACTS = "steering.safetensors", "steering.json"


class SteeredFeature(NamedTuple):
    """A causal feature that may be steered, the emotion it was found causal for, and its effect there (nats)."""

    layer: int
    feature: int
    emotion: str
    effect: float


class ModelRecord(TypedDict, total=False):
    """The model that something was made with."""

    name: str
    identity: str


class Provenance(TypedDict, total=False):
    """What a steering was made with and how it was chosen; a run's own and those made by hand say different parts."""

    model: ModelRecord
    saes: SaesRecord
    labels: Sequence[str]
    setting: str
    reason: str
    fit_macro_f1: float
    unsteered_fit_macro_f1: float
    fit_gain_of_choosing: Mapping[str, float]
    n_fit: int
    n_unlabelled: int
    n_anchors: Mapping[str, int]
    seed: int
    emotion: str
    strength: float


@dataclass(frozen=True)
class Gains:
    """Multipliers of some features of one layer: `x <- x + (gain - 1) * a(x) * direction`, summed over features."""

    features: Int[Tensor, " feature"]
    gains: Float[Tensor, " feature"]


@dataclass(frozen=True)
class Gate:
    """How far a layer's steering is let through: `sigmoid(a(x) @ weights + bias)`, of some features' activations."""

    features: Int[Tensor, " feature"]
    weights: Float[Tensor, " feature"]
    bias: float


@dataclass(frozen=True, repr=False)
class Steering:
    """What is done to the residual of each layer; the same function for every input.

    Attributes:
        method: how it was made; `none` leaves the model alone.
        gains: by layer.
        vectors: by layer, [d_model], added to the residual.
        gates: by layer; without one, all that a layer adds acts everywhere in full.
        positions: where `applied` acts.
        provenance: model and SAE names and identities, and how the steering was chosen.
        causal: of the features with gains, those that were found causal, with emotion and effect.
        couplings: by layer, features that read the labels coupled to features that say them.
    """

    method: str
    gains: Mapping[int, Gains] = field(default_factory=dict)
    vectors: Mapping[int, Float[Tensor, " d_model"]] = field(default_factory=dict)
    gates: Mapping[int, Gate] = field(default_factory=dict)
    positions: Positions = "all"
    provenance: Provenance = field(default_factory=Provenance)
    causal: Sequence[SteeredFeature] = ()
    couplings: Mapping[int, Coupling] = field(default_factory=dict)

    def _shown(self) -> dict[str, object]:
        made = self.provenance
        parts = {
            "multiplied": sum(len(g.features) for g in self.gains.values()),
            "read": sum(len(c.readers) for c in self.couplings.values()),
            "added": sum(len(c.writers) for c in self.couplings.values()),
        }
        return {
            "method": self.method,
            "layers": ", ".join(map(str, self.layers)) or "none: it leaves the model alone",
            "acts at": WHERE[self.positions],
            "features": ", ".join(f"{n} {what}" for what, n in parts.items() if n),
            "vectors at": ", ".join(map(str, sorted(self.vectors))),
            "gated": "yes" if self.gates else "",
            "made for": made.get("model", {}).get("name"),
            "SAEs": made.get("saes", {}).get("name"),
            "labels": ", ".join(made.get("labels", ())),
            "why": made.get("reason"),
        }

    def __repr__(self) -> str:
        return text_line("Steering", self._shown())

    def _repr_html_(self) -> str:
        return html_table("Steering", self._shown())

    @property
    def layers(self) -> list[int]:
        return sorted({*self.gains, *self.vectors, *self.couplings})

    @property
    def sparse(self) -> bool:
        """Whether it reads features, so that it needs SAEs."""
        return bool(self.gains) or bool(self.gates) or bool(self.couplings)

    def scaled(self, strength: float) -> "Steering":
        """Milder or stronger: gains to the power of `strength`, the rest times it; 0 changes nothing, 1 is this one.

        Raises:
            UserError: a strength that is not a finite number.
        """
        if not math.isfinite(strength):
            raise UserError(f"strength must be a finite number; got {strength}.")
        gains = {k: Gains(g.features, _power(g.gains, strength)) for k, g in self.gains.items()}
        vectors = {k: strength * v for k, v in self.vectors.items()}
        couplings = {k: c.scaled(strength) for k, c in self.couplings.items()}
        return replace(self, gains=gains, vectors=vectors, couplings=couplings)

    def constant(self, saes: SaeStack) -> "Steering":
        """What it adds whatever it reads, at every position: its vectors, and what its couplings say of their own.

        Raises:
            UserError: nothing in it is constant.
        """
        vectors = dict(self.vectors)
        for layer, coupling in self.couplings.items():
            said = coupling.said(saes.directions(layer, coupling.writers.tolist()).cpu().float())
            vectors[layer] = vectors.get(layer, 0) + coupling.bias.clamp(-coupling.limit, coupling.limit) @ said
        if not vectors:
            raise UserError(f"Nothing in this steering ({self.method}) is constant: it multiplies features.")
        return Steering(f"{self.method}, constant part", vectors=vectors, provenance=self.provenance)

    def edits(self, saes: SaeStack) -> dict[int, ResidualEdit]:
        """Per steered layer, the function from residuals [*row, d_model] to steered residuals.

        Raises:
            UserError: no SAE at a layer whose features are read, or a feature it does not have.
        """
        used = {layer: self._used(layer).tolist() for layer in self.layers}
        restricted = saes.restricted({layer: features for layer, features in used.items() if features})
        return {layer: self._edit(layer, restricted) for layer in self.layers}

    def read(self, layer: int) -> Int[Tensor, " feature"]:
        """Features of a layer whose activations are needed: of its gains, of its gate, of its coupling."""
        parts = [part.features for part in (self.gains.get(layer), self.gates.get(layer)) if part is not None]
        parts += [self.couplings[layer].readers] if layer in self.couplings else []
        return torch.cat(parts) if parts else torch.empty(0, dtype=torch.long)

    def _used(self, layer: int) -> Int[Tensor, " feature"]:
        """Those and the features whose directions alone are needed."""
        writers = [self.couplings[layer].writers] if layer in self.couplings else []
        return torch.cat([self.read(layer), *writers])

    def _edit(self, layer: int, saes: SaeStack) -> ResidualEdit:
        """One gather of activations and one matrix product: columns of the change, and a last one for the gate."""
        gains, gate, vector = self.gains.get(layer), self.gates.get(layer), self.vectors.get(layer)
        coupling = self.couplings.get(layer)
        if gains is None and gate is None and coupling is None:
            return lambda x: x if vector is None else steered(x, vector)
        device = saes.device(layer)
        index = self.read(layer).to(device)
        n_gains = 0 if gains is None else len(gains.features)
        n_gate = 0 if gate is None else len(gate.features)
        product = torch.zeros(len(index), saes.width(layer) + 1, device=device)
        if gains is not None:
            directions = saes.directions(layer, index[:n_gains])
            product[:n_gains, :-1] = (gains.gains.to(device) - 1)[:, None] * directions
        if gate is not None:
            product[n_gains : n_gains + n_gate, -1] = gate.weights.to(device)
        said = None if coupling is None else coupling.said(saes.directions(layer, coupling.writers.to(device)))
        constant = 0 if vector is None else vector.to(device)

        def edit(x: Tensor) -> Tensor:
            acts = saes.encode_features(layer, x, index)
            columns = acts @ product
            change, opening = columns[..., :-1] + constant, None if gate is None else columns[..., -1] + gate.bias
            if coupling is not None and said is not None:
                change = change + coupling.amounts(acts[..., n_gains + n_gate :], x) @ said
            return steered(x, change, opening)

        return edit

    @contextmanager
    def applied(
        self, model: LanguageModel, saes: SaeStack | None = None, positions: Positions | None = None
    ) -> Iterator[None]:
        """Every forward and `generate` inside is steered; nothing of it remains afterwards.

        Prompts of a batch must be left-padded. Steerings compose: the inner block sees what the outer one leaves.

        Args:
            saes: the stack the steering was made with; None loads it by its name.
            positions: other positions than the steering's own.

        Raises:
            UserError: made for another model or other SAEs, a layer that is missing.
        """
        with model.edited(self.hooks(model, saes, positions)):
            yield

    def hooks(
        self, model: LanguageModel, saes: SaeStack | None = None, positions: Positions | None = None
    ) -> dict[int, Edit]:
        """What `LanguageModel.edited` takes: by layer, residuals [example, token, d_model] to steered ones or None.

        They are for this model, inside its `edited`: that is where a pass's place in the text is known.
        """
        stack = self.loaded_saes(model) if saes is None else saes
        self.check(model, stack if self.sparse else None)
        where = positions or self.positions
        return {layer: placed(where, edit, model.placing) for layer, edit in self.edits(stack).items()}

    def loaded_saes(self, model: LanguageModel) -> SaeStack:
        """The SAEs that it was made with, of the layers whose features it reads, loaded by their name.

        Raises:
            UserError: made for another model, or without a word on its SAEs.
        """
        self.check(model)
        if not self.sparse:
            return SaeStack({}, "none", "none")
        return load_recorded(self.provenance["saes"], model, sorted({*self.gains, *self.gates, *self.couplings}))

    def check(self, model: LanguageModel, saes: SaeStack | None = None) -> None:
        """
        Raises:
            UserError: made for another model or other SAEs, a layer that the model or the SAEs lack.
        """
        made_for = self.provenance.get("model", {}).get("identity", model.identity)
        if made_for != model.identity:
            raise UserError(f"This steering was made for model {made_for}; {model.name} is {model.identity}.")
        if any(layer >= model.n_layers for layer in self.layers):
            raise UserError(f"This steering acts on layer {max(self.layers)}; {model.name} has {model.n_layers}.")
        if any(len(v) != model.d_model for v in self.vectors.values()):
            raise UserError(f"This steering's vectors are not of {model.name}'s width ({model.d_model}).")
        if saes is None:
            if self.sparse and "saes" not in self.provenance:
                raise UserError("This steering does not say which SAEs it was made with; give them as `saes`.")
            return
        made_with = self.provenance.get("saes", {})
        # An identity is that of all layers loaded; of a part of them only the name can be compared.
        whole = made_with.get("covered") == saes.layers
        given = {"identity": saes.identity} if whole else {"name": saes.name}
        if self.sparse and any(made_with.get(k, v) != v for k, v in given.items()):
            raise UserError(
                f"This steering was made with SAEs {made_with.get('name')} ({made_with.get('identity')});"
                f" given were {saes.name} ({saes.identity})."
            )
        for layer in {*self.gains, *self.gates, *self.couplings}:
            saes.check_features(layer, self._used(layer).tolist())

    @classmethod
    def from_examples(
        cls, model: LanguageModel, texts: Sequence[str], labels: Sequence[str], **options: Any
    ) -> "Steering":
        """From a few labelled texts, without a run and, if you like, without SAEs.

        See `interp.steering.making.from_examples`, whose options these are: `unlabelled`, `saes`, `template`.
        """
        made: Steering = resolve_name("interp.steering.making:from_examples")(model, texts, labels, **options)
        return made

    @classmethod
    def from_difference(
        cls, model: LanguageModel, positive: Sequence[str], negative: Sequence[str], **options: Any
    ) -> "Steering":
        """A vector from one kind of text to another.

        See `interp.steering.making.from_difference`, whose options these are: `layer`, `positions`.
        """
        made: Steering = resolve_name("interp.steering.making:from_difference")(model, positive, negative, **options)
        return made

    def save(self, folder: Path) -> None:
        """`steering.safetensors` and `steering.json`."""
        tensors = {f"gains.{k}.features": g.features for k, g in self.gains.items()}
        tensors |= {f"gains.{k}.gains": g.gains for k, g in self.gains.items()}
        tensors |= {f"vectors.{k}": v for k, v in self.vectors.items()}
        for k, gate in self.gates.items():
            tensors |= {f"gates.{k}.features": gate.features, f"gates.{k}.weights": gate.weights}
            tensors[f"gates.{k}.bias"] = torch.tensor([gate.bias], dtype=torch.float64)
        for k, coupling in self.couplings.items():
            tensors |= {f"couplings.{k}.{name}": tensor for name, tensor in coupling.tensors().items()}
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / TENSORS) as part:
            save_file({k: v.detach().cpu().clone().contiguous() for k, v in sorted(tensors.items())}, part)
        facts = {"format": 2, "method": self.method, "positions": self.positions}
        write_json(folder / FACTS, {**facts, **self.provenance, "causal": [f._asdict() for f in self.causal]})

    @classmethod
    def load(cls, folder: str | Path) -> "Steering":
        """From a run folder, or any folder that `save` wrote.

        Raises:
            UserError: files that are missing, truncated or not a steering.
        """
        path = Path(folder)
        for name in (TENSORS, FACTS):
            if not (path / name).exists():
                raise UserError(f"{path} holds no {name}; give a run folder whose steering stage is finished.")
        try:
            facts, tensors = read_json(path / FACTS), load_file(path / TENSORS)
        except (DamagedError, SafetensorError) as error:
            raise UserError(f"{path} holds a damaged steering ({type(error).__name__}); make it again.") from None
        if not isinstance(facts, dict) or facts.pop("format", None) != 2:
            raise UserError(f"{path / FACTS} is not a steering this version reads.")
        try:
            return _from_tensors(facts, tensors)
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise UserError(f"{path} holds an incomplete steering ({error}); make it again.") from None


def _from_tensors(facts: dict[str, Any], tensors: Mapping[str, Tensor]) -> Steering:
    def layers(kind: str) -> list[int]:
        return sorted({int(k.split(".")[1]) for k in tensors if k.startswith(f"{kind}.")})

    gains = {k: Gains(tensors[f"gains.{k}.features"], tensors[f"gains.{k}.gains"]) for k in layers("gains")}
    gates = {
        k: Gate(tensors[f"gates.{k}.features"], tensors[f"gates.{k}.weights"], float(tensors[f"gates.{k}.bias"][0]))
        for k in layers("gates")
    }
    vectors = {k: tensors[f"vectors.{k}"] for k in layers("vectors")}
    couplings = {
        k: Coupling.of({name.split(".")[2]: t for name, t in tensors.items() if name.startswith(f"couplings.{k}.")})
        for k in layers("couplings")
    }
    if any(len(g.features) != len(g.gains) for g in gains.values()) or not all(
        bool(torch.isfinite(t).all()) for t in tensors.values()
    ):
        raise ValueError("gains that do not match their features, or numbers that are not finite")
    method, positions = facts.pop("method"), facts.pop("positions")
    if positions not in get_args(Positions):
        raise ValueError(f"unknown positions {positions!r}")
    causal = [SteeredFeature(**feature) for feature in facts.pop("causal", ())]
    return Steering(method, gains, vectors, gates, positions, cast(Provenance, facts), causal, couplings)


def steered(
    x: Float[Tensor, "*row d_model"], change: Float[Tensor, "... d_model"], opening: Float[Tensor, "*row"] | None = None
) -> Float[Tensor, "*row d_model"]:
    """The formula of every steering: `x + sigmoid(opening) * change`, in the dtype of x.

    Args:
        change: sum over gained features of (gain - 1) * a(x) * direction, plus the layer's vector.
        opening: a(x) @ weights + bias of the layer's gate; None: no gate, the change is made in full.
    """
    if opening is not None:
        change = change * torch.sigmoid(opening)[..., None]
    return x + change.to(x.device, x.dtype)


def _power(gains: Tensor, strength: float) -> Tensor:
    """Gains of zero (ablation) are mixed with one linearly, since they have no logarithm."""
    return torch.where(gains > 0, gains.clamp_min(1e-12) ** strength, (1 - strength * (1 - gains)).clamp_min(0))
