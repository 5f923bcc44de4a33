"""One sparse autoencoder per layer, with activations and directions in units of the residual stream."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from interp.errors import UserError, nearest
from interp.model import BUNDLED, LanguageModel, bundled_folder, content_hash


class SaeStack:
    """The SAEs of a model, by layer. Layers without one are allowed: `layers` says which there are.

    A feature's contribution to the residual is always `activation * direction`: activations of SAEs that
    normalise each input carry that input's scale, directions carry whatever the decoder does to its rows.
    """

    def __init__(self, saes: Mapping[int, SAE], name: str, identity: str) -> None:
        self.saes = dict(sorted(saes.items()))
        self.name, self.identity = name, identity
        self._directions = {layer: _directions(sae) for layer, sae in self.saes.items()}

    @property
    def layers(self) -> list[int]:
        return list(self.saes)

    def __getitem__(self, layer: int) -> SAE:
        """The SAE of a layer.

        Raises:
            UserError: the stack has none there.
        """
        if layer not in self.saes:
            raise UserError(f"{self.name} has no SAE at layer {layer}; layers covered: {_spans(self.layers)}.")
        return self.saes[layer]

    def d_sae(self, layer: int) -> int:
        return self[layer].cfg.d_sae

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
        acts = sae.encode(residuals.to(sae.dtype))
        return acts * _input_scale(sae)

    def directions(
        self, layer: int, features: Int[Tensor, "*index"] | slice = slice(None)
    ) -> Float[Tensor, "*index d_model"]:
        """What one unit of each feature's activation adds to the residual: rows of `W_dec`, decoder scale included."""
        self[layer]
        return self._directions[layer][features]

    @torch.no_grad()
    def reconstruct(self, layer: int, residuals: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        """The SAE's own reconstruction of the residual."""
        sae = self[layer]
        return sae.decode(sae.encode(residuals.to(sae.dtype)))

    def verify(self, model: LanguageModel) -> None:
        """Fails unless every SAE belongs on this model's residual stream and decodes as `directions` says.

        Raises:
            UserError: wrong width, wrong hook point, or a decoder whose contributions are not additive.
        """
        for layer, sae in self.saes.items():
            if sae.cfg.d_in != model.d_model:
                raise UserError(
                    f"The SAE of layer {layer} in {self.name} reads {sae.cfg.d_in} dimensions;"
                    f" {model.name} has d_model {model.d_model}. These SAEs are for another model."
                )
            if layer >= model.n_layers:
                raise UserError(f"{self.name} has an SAE for layer {layer}; {model.name} has {model.n_layers} layers.")
            hook = str(sae.cfg.metadata.get("hook_name") or "")
            if hook and not re.search(r"resid_post|hook_out$", hook):
                raise UserError(
                    f"The SAE of layer {layer} in {self.name} reads {hook!r}, not the residual after a block."
                )
            generator = torch.Generator().manual_seed(layer)
            x = torch.randn(4, model.d_model, generator=generator).to(self.device(layer), sae.dtype) * 4
            with torch.no_grad():
                before = sae.decode(sae.encode(x))
                acts = sae.encode(x)
                scale = _input_scale(sae)
                halved = sae.decode(acts / 2)
            change = (acts * scale / 2) @ self.directions(layer)
            gap = (before - halved - change).abs().max() / before.abs().max().clamp(min=1)
            if not gap < 1e-3:
                raise UserError(f"The SAE of layer {layer} in {self.name} decodes in a way this tool does not know.")

    def device(self, layer: int) -> torch.device:
        return self[layer].W_dec.device


def load_saes(name: str, model: LanguageModel, *, layers: Sequence[int] | None = None) -> SaeStack:
    """A bundled stack, or a folder with one SAELens folder per layer (`layer_07/`, `7/`, `blocks.7.hook_...`).

    Raises:
        UserError: no such folder, half a checkpoint, no SAE for an asked-for layer, or SAEs of another model.
    """
    folder = bundled_folder(name) / "saes" if name in BUNDLED else Path(name)
    if not folder.is_dir():
        raise UserError(f"No SAE folder {str(folder)!r}{nearest(name, BUNDLED)}")
    found = {}
    for sub in sorted(folder.iterdir()):
        number = re.search(r"\d+", sub.name)
        if sub.is_dir() and number:
            found[int(number.group())] = sub
    if not found:
        raise UserError(f"{folder} holds no folder per layer (layer_00, layer_01, ...), each with cfg.json.")
    for layer in layers or ():
        if layer not in found:
            raise UserError(f"{folder} has no SAE for layer {layer}; layers covered: {_spans(sorted(found))}.")
    chosen = found if layers is None else {layer: found[layer] for layer in layers}
    for path in chosen.values():
        for file in ("cfg.json", "sae_weights.safetensors"):
            if not (path / file).exists():
                raise UserError(f"{path} lacks {file}; give folders as SAELens saves them.")
    stack = SaeStack(
        {layer: _load(path, model) for layer, path in chosen.items()},
        name,
        content_hash([f for path in chosen.values() for f in sorted(path.iterdir())]),
    )
    stack.verify(model)
    return stack


def _load(path: Path, model: LanguageModel) -> SAE:
    """float32 even where the model runs in half precision: encoding decides which features are active."""
    try:
        return SAE.load_from_disk(path, device=str(model.device), dtype="float32").requires_grad_(False)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{path} could not be loaded as an SAE: {str(error).splitlines()[0]}") from None


def _directions(sae: SAE) -> Float[Tensor, "d_sae d_model"]:
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        return sae.W_dec.detach() / sae.W_dec.detach().norm(dim=-1, keepdim=True)
    return sae.W_dec.detach()


def _input_scale(sae: SAE) -> Tensor | float:
    """By what the decoder will multiply, for the inputs just encoded (SAELens keeps it between the two calls)."""
    if sae.cfg.normalize_activations == "layer_norm":
        return sae.ln_std
    if sae.cfg.normalize_activations == "constant_norm_rescale":
        return 1 / sae.x_norm_coeff
    return 1.0


def _spans(layers: Sequence[int]) -> str:
    """`0-3, 7` for [0, 1, 2, 3, 7]."""
    spans: list[list[int]] = []
    for layer in layers:
        if spans and spans[-1][1] == layer - 1:
            spans[-1][1] = layer
        else:
            spans.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in spans)
