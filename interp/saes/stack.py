"""One sparse autoencoder per layer, with activations and directions in units of the residual stream."""

import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor, nn

from interp.errors import InterpWarning, UserError
from interp.notebook import html_table, text_line
from interp.saes.releases import spans

OWN_PREACTIVATION = ("standard", "gated", "jumprelu")
"""Architectures in which a feature's activation depends on no other feature's."""


@dataclass(frozen=True)
class SaeSource:
    """Where a layer's SAE comes from.

    Attributes:
        load: reads it, in float32.
        centred: whether it reads residuals whose mean over d_model was taken off (gpt2-small-res-jb).
        neuronpedia: id of its page there, where there is one.
    """

    load: Callable[[], SAE]
    centred: bool = False
    neuronpedia: str | None = None


class SaeStack:
    """The SAEs of a model, by layer, loaded when needed. Layers without one are allowed: `layers` says which there are.

    A feature's contribution to the residual is always `activation * direction`: activations of SAEs that
    normalise each input carry that input's scale, directions carry whatever the decoder does to its rows.
    """

    def __init__(
        self, saes: Mapping[int, SAE | SaeSource], name: str, identity: str, *, resident: int | None = None
    ) -> None:
        """
        Args:
            resident: most SAEs in memory at once, the least recently used going first; None: all.
        """
        self.sources = {k: s if isinstance(s, SaeSource) else SaeSource(_giving(s)) for k, s in sorted(saes.items())}
        self.name, self.identity = name, identity
        self.resident = len(self.sources) if resident is None else max(1, resident)
        self._loaded: OrderedDict[int, SAE] = OrderedDict()
        self.layer_of: WeakKeyDictionary[nn.Module, int] = WeakKeyDictionary()
        """The layers of SAEs that were read, for as long as somebody holds them."""
        self._d_sae: dict[int, int] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "layer_of"}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state, layer_of=WeakKeyDictionary())

    @property
    def layers(self) -> list[int]:
        return list(self.sources)

    def _shown(self) -> dict[str, object]:
        read = sorted({self._d_sae[k] for k in self._d_sae})
        return {
            "name": self.name,
            "identity": self.identity,
            "layers": spans(self.layers) if self.layers else "none",
            "features a layer": " or ".join(f"{n:,}" for n in read) or "not read yet",
        }

    def __repr__(self) -> str:
        return text_line(type(self).__name__, self._shown())

    def _repr_html_(self) -> str:
        return html_table(type(self).__name__, self._shown())

    def __getitem__(self, layer: int) -> SAE:
        """The SAE of a layer.

        Raises:
            UserError: the stack has none there.
        """
        if layer not in self.sources:
            raise UserError(f"{self.name} has no SAE at layer {layer}; layers covered: {spans(self.layers)}.")
        if layer in self._loaded:
            self._loaded.move_to_end(layer)
            return self._loaded[layer]
        while len(self._loaded) >= self.resident:
            self._loaded.popitem(last=False)
        sae = self.sources[layer].load()
        self._loaded[layer], self._d_sae[layer], self.layer_of[sae] = sae, sae.cfg.d_sae, layer
        return sae

    def width(self, layer: int) -> int:
        """Of the residuals that the layer's SAE reads and writes: d_model."""
        return int(self[layer].W_dec.shape[1])

    def d_sae(self, layer: int) -> int:
        if layer not in self._d_sae:
            self._d_sae[layer] = self[layer].cfg.d_sae
        return self._d_sae[layer]

    def check_features(self, layer: int, features: Sequence[int]) -> Int[Tensor, " feature"]:
        """The indices as a tensor.

        Raises:
            UserError: an index the layer's SAE does not have.
        """
        for feature in features:
            if not 0 <= feature < self.d_sae(layer):
                raise UserError(
                    f"Layer {layer} of {self.name} has features 0 to {self.d_sae(layer) - 1}; got {feature}."
                )
        return torch.as_tensor(features, dtype=torch.long)

    @torch.no_grad()
    def encode(self, layer: int, residuals: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_sae"]:
        """Feature activations, at least 0, in units of the residual stream."""
        sae = self[layer]
        acts: Tensor = sae.encode(self._input(layer, residuals, sae))
        return acts * _input_scale(sae)

    def encode_features(
        self, layer: int, residuals: Float[Tensor, "*row d_model"], features: Int[Tensor, " feature"]
    ) -> Float[Tensor, "*row feature"]:
        """Activations of some features."""
        return self.encode(layer, residuals)[..., features]

    def directions(
        self, layer: int, features: Int[Tensor, "*index"] | Sequence[int] | slice = slice(None)
    ) -> Float[Tensor, "*index d_model"]:
        """What one unit of each feature's activation adds to the residual: rows of `W_dec`, decoder scale included."""
        sae = self[layer]
        rows: Tensor = sae.W_dec.detach()[features]
        if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
            norms: Tensor = rows.norm(dim=-1, keepdim=True)
            return rows / norms
        return rows

    @torch.no_grad()
    def reconstruct(self, layer: int, residuals: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """The SAE's own reconstruction of the residual; the mean that a centred SAE does not see is added again."""
        sae = self[layer]
        x = residuals.to(sae.W_dec.device, sae.dtype)
        seen = self._input(layer, residuals, sae)
        decoded: Tensor = sae.decode(sae.encode(seen))
        return decoded + (x - seen)

    def _input(self, layer: int, residuals: Tensor, sae: SAE) -> Tensor:
        x = residuals.to(sae.W_dec.device, sae.dtype)
        return x - x.mean(-1, keepdim=True) if self.sources[layer].centred else x

    def restricted(self, features: Mapping[int, Sequence[int]]) -> "RestrictedSaes":
        """A stack of these features alone, all in memory: each layer's SAE is read once, and may be dropped."""
        sources: dict[int, SaeSource] = {}
        places: dict[int, Tensor | None] = {}
        for layer, indices in features.items():
            kept = torch.unique(self.check_features(layer, indices)).to(self.device(layer))
            sae, whole = _slice(self[layer], kept)
            sources[layer] = SaeSource(_giving(sae), self.sources[layer].centred)
            places[layer] = None if whole else kept
        return RestrictedSaes(sources, self.name, self.identity, places, {k: self.d_sae(k) for k in features})

    def neuronpedia_url(self, layer: int, feature: int) -> str | None:
        """The feature's page, where its SAE has one."""
        page = self.sources[layer].neuronpedia if layer in self.sources else None
        return None if page is None else f"https://www.neuronpedia.org/{page}/{feature}"

    def device(self, layer: int) -> torch.device:
        return torch.device(self[layer].W_dec.device)


class RestrictedSaes(SaeStack):
    """A stack that holds chosen features only; they keep their numbers. Made by `SaeStack.restricted`."""

    def __init__(
        self,
        saes: Mapping[int, SaeSource],
        name: str,
        identity: str,
        places: Mapping[int, Int[Tensor, " kept"] | None],
        d_sae: Mapping[int, int],
    ) -> None:
        super().__init__(saes, name, identity)
        self._places = dict(places)
        for layer in self.layers:
            self[layer]
        self._d_sae = dict(d_sae)

    def encode_features(
        self, layer: int, residuals: Float[Tensor, "*row d_model"], features: Int[Tensor, " feature"]
    ) -> Float[Tensor, "*row feature"]:
        return self.encode(layer, residuals)[..., self._places_of(layer, features)]

    def directions(
        self, layer: int, features: Int[Tensor, "*index"] | Sequence[int] | slice = slice(None)
    ) -> Float[Tensor, "*index d_model"]:
        return super().directions(layer, features if isinstance(features, slice) else self._places_of(layer, features))

    def _places_of(self, layer: int, features: Int[Tensor, "*index"] | Sequence[int]) -> Int[Tensor, "*index"]:
        kept = self._places[layer]
        indices = torch.as_tensor(features, device=self.device(layer))
        return indices if kept is None else torch.searchsorted(kept, indices)


def additive(sae: SAE, x: Float[Tensor, "row d_model"], directions: Float[Tensor, "d_sae d_model"]) -> bool:
    """Whether `activation * direction` is what a feature adds: checked against a difference of two `decode` calls."""
    with torch.no_grad():
        whole = sae.decode(sae.encode(x))
        acts = sae.encode(x)
        scale = _input_scale(sae)
        halved = sae.decode(acts / 2)
    gap = (whole - halved - (acts * scale / 2) @ directions).abs().max() / whole.abs().max().clamp(min=1)
    return bool(gap < 1e-3)


def _giving(sae: SAE) -> Callable[[], SAE]:
    return lambda: sae


def _slice(sae: SAE, kept: Int[Tensor, " kept"]) -> tuple[SAE, bool]:
    """An SAE of the kept features, and whether it is the whole one after all (features that compete need them all)."""
    if sae.cfg.architecture() not in OWN_PREACTIVATION:
        return sae, True
    config = type(sae.cfg).from_dict({**sae.cfg.to_dict(), "d_sae": len(kept), "device": str(sae.W_dec.device)})
    small = type(sae)(config)
    state = {}
    for name, weight in sae.state_dict().items():
        axis = {"W_enc": 1, "W_dec": 0}.get(name, 0 if weight.ndim == 1 and name != "b_dec" else None)
        state[name] = weight if axis is None else weight.index_select(axis, kept)
    small.load_state_dict(state, assign=True)
    return small.requires_grad_(False), False


def _input_scale(sae: SAE) -> Tensor | float:
    """By what the decoder will multiply, for the inputs just encoded (SAELens keeps it between the two calls)."""
    scale: Tensor | float = 1.0
    if sae.cfg.normalize_activations == "layer_norm":
        scale = sae.ln_std
    if sae.cfg.normalize_activations == "constant_norm_rescale":
        scale = 1 / sae.x_norm_coeff
    return scale


def warn_partial(stack: SaeStack, n_layers: int) -> None:
    """Partial coverage is carried through; a word about it."""
    if len(stack.layers) < n_layers:
        text = f"{stack.name} covers layers {spans(stack.layers)} of {n_layers}; the others are left out."
        warnings.warn(text, InterpWarning, stacklevel=3)
