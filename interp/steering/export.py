"""A steering in the formats of other tools. Each is checked against the steering itself before it is written."""

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from interp.errors import UserError, nearest
from interp.files.folder import writing
from interp.models.language_model import LanguageModel
from interp.saes.coordinates import Coordinates
from interp.saes.stack import SaeStack
from interp.steering.steering import Gains, Gate, Steering

FORMATS = ("hf", "transformer_lens", "lm-eval", "gguf")
PORTABLE = "steering_portable.safetensors"
TOLERANCE = 1e-4
POINTWISE = ("standard", "jumprelu", "topk")
"""SAE architectures that `portable.py` computes; a gated or otherwise normalised one is refused."""


def export(steering: Steering, model: LanguageModel, saes: SaeStack, to: str, folder: Path) -> Path:
    """Writes the steering for another tool; returns the file to give it.

    - `hf`, `transformer_lens`: tensors and `portable.py`, which needs torch and safetensors alone;
    - `lm-eval`: the `.pt` file of lm-evaluation-harness' `steered` model, one summed vector per layer;
    - `gguf`: a llama.cpp control vector.

    The last two add constant vectors at every position, so only additive steerings can be told to them.

    Raises:
        UserError: an unknown format, or a steering that the format cannot express.
    """
    if to not in FORMATS:
        raise UserError(f"Unknown format {to!r}{nearest(to, FORMATS)}")
    if not steering.layers:
        raise UserError("This steering leaves the model alone (method none); there is nothing to export.")
    steering.check(model, saes)
    folder.mkdir(parents=True, exist_ok=True)
    if to in ("hf", "transformer_lens"):
        return _portable(steering, model, saes, folder)
    if steering.sparse:
        raise UserError(
            f"{to} adds constant vectors, but this steering depends on the input; export it to hf or transformer_lens,"
            " its constant part alone with --constant, or an additive one with --emotion."
        )
    if steering.positions != "all":
        raise UserError(f"{to} steers every position; this steering acts on {steering.positions!r} alone.")
    return _lm_eval(steering, model, folder) if to == "lm-eval" else _gguf(steering, model, folder)


# --------------------------------------------------------------------------- hf, transformer_lens


def _portable(steering: Steering, model: LanguageModel, saes: SaeStack, folder: Path) -> Path:
    tensors: dict[str, Tensor] = {}
    for layer in steering.layers:
        vector = steering.vectors.get(layer, torch.zeros(model.d_model))
        own = {"vector": vector.float()} | _encoder(steering, layer, saes)
        tensors |= {f"{layer}.{name}": t.detach().cpu().clone().contiguous() for name, t in own.items()}
    first = next(name for name, module in model.hf.named_modules() if module is model.blocks[0])
    blocks = first.rpartition(".")[0]
    with writing(folder / PORTABLE) as part:
        save_file(tensors, part, {"positions": steering.positions, "method": steering.method, "blocks": blocks})
    with writing(folder / "portable.py") as part:
        shutil.copyfile(Path(__file__).with_name("portable.py"), part)
    _check_portable(steering, model, saes, folder)
    return folder / "portable.py"


def _encoder(steering: Steering, layer: int, saes: SaeStack) -> dict[str, Tensor]:
    """What is needed to compute the activations, and what they add; features that compete for k places need all."""
    own, gate, coupling = steering.gains.get(layer), steering.gates.get(layer), steering.couplings.get(layer)
    if own is None and gate is None and coupling is None:
        return {}
    if coupling is not None and coupling.dense is not None:
        raise UserError("A steering that reads the whole residual is a rival in a comparison and has no portable form.")
    if isinstance(saes, Coordinates):
        return _coordinates(steering, layer, saes)
    sae = saes[layer]
    kind = sae.cfg.architecture()
    if kind not in POINTWISE or saes.sources[layer].centred or sae.cfg.normalize_activations not in ("none", None):
        raise UserError(f"The SAE of layer {layer} ({kind}) has no portable form here; use the steering itself.")
    weights = sae.state_dict()
    kept = torch.arange(sae.W_dec.shape[0]) if kind == "topk" else torch.unique(steering.read(layer))
    directions = saes.directions(layer, kept.tolist())
    scale = torch.ones(len(kept))
    if getattr(sae.cfg, "rescale_acts_by_decoder_norm", False):
        scale = sae.W_dec.detach()[kept].norm(dim=-1).cpu()
    centre = weights["b_dec"] if sae.cfg.apply_b_dec_to_input else torch.zeros(sae.W_dec.shape[1])
    found = {
        "encoder": weights["W_enc"][:, kept],
        "bias": weights["b_enc"][kept],
        "centre": centre,
        "scale": scale,
        "threshold": weights["threshold"][kept] if kind == "jumprelu" else torch.zeros(len(kept)),
        "change": _rows(own, kept, directions),
    }
    if kind == "topk":
        found["k"] = torch.tensor(int(sae.cfg.k))
    return found | _read(steering, layer, saes, kept)


def _coordinates(steering: Steering, layer: int, saes: Coordinates) -> dict[str, Tensor]:
    """The same without autoencoders: what is read is the residual itself, positive or not."""
    kept = torch.unique(steering.read(layer))
    axes = saes.directions(layer, kept.tolist()).cpu()
    found = {
        "encoder": axes.T,
        "bias": torch.zeros(len(kept)),
        "centre": torch.zeros(axes.shape[1]),
        "scale": torch.ones(len(kept)),
        "threshold": torch.full((len(kept),), -torch.inf),
        "change": _rows(steering.gains.get(layer), kept, axes),
    }
    return found | _read(steering, layer, saes, kept)


def _read(steering: Steering, layer: int, saes: SaeStack, kept: Tensor) -> dict[str, Tensor]:
    """What a gate and a coupling make of the activations of the kept features."""
    gate, coupling = steering.gates.get(layer), steering.couplings.get(layer)
    found: dict[str, Tensor] = {}
    if gate is not None:
        found |= {"gate": _column(gate, kept), "gate_bias": torch.tensor(gate.bias)}
    if coupling is not None:
        read = torch.zeros(len(kept), len(coupling.bias))
        read[torch.searchsorted(kept, coupling.readers)] = coupling.weights
        found |= {"read": read, "read_bias": coupling.bias, "limit": torch.tensor(coupling.limit)}
        found["say"] = coupling.said(saes.directions(layer, coupling.writers.tolist()))
    return found


def _rows(own: Gains | None, kept: Tensor, directions: Tensor) -> Tensor:
    """(gain - 1) x direction of each kept feature; zero where it has no gain."""
    change = torch.zeros_like(directions)
    if own is not None:
        at = torch.searchsorted(kept, own.features)
        change[at] = (own.gains.to(directions.device) - 1)[:, None] * directions[at]
    return change


def _column(gate: Gate, kept: Tensor) -> Tensor:
    weights = torch.zeros(len(kept))
    weights[torch.searchsorted(kept, gate.features)] = gate.weights
    return weights


def _check_portable(steering: Steering, model: LanguageModel, saes: SaeStack, folder: Path) -> None:
    """The written files, loaded as a user would, against the steering, on the model's own logits.

    Raises:
        UserError: they differ by more than `TOLERANCE`.
    """
    tokens = model.pad(model.encode(["It rained all day.", "She opened the letter and read it twice."], chat=False))
    options: dict[str, Any] = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long()}
    with torch.no_grad():
        with steering.applied(model, saes):
            ours = model.hf(**options).logits
        with loaded(folder).steered(model.hf):
            theirs = model.hf(**options).logits
    gap = (ours - theirs)[tokens.mask].abs().max().item()
    if not gap <= TOLERANCE * max(1.0, ours.abs().max().item()):
        raise UserError(f"The exported steering differs from this one by {gap:.2g} in a logit; it was not accepted.")


def loaded(folder: Path) -> ModuleType:
    """`portable.py` of an exported folder."""
    spec = importlib.util.spec_from_file_location("portable", folder / "portable.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --------------------------------------------------------------------------- lm-eval, gguf


def _lm_eval(steering: Steering, model: LanguageModel, folder: Path) -> Path:
    """{module name: {steering_vector, steering_coefficient, action, ...}}, as `--model steered` reads it.

    Its table of features keeps only the last one of a layer; here they are summed first.
    """
    names = {id(module): name for name, module in model.hf.base_model.named_modules()}
    entries = {
        names[id(model.blocks[layer])]: {
            "steering_vector": vector.detach().cpu().float(),
            "steering_coefficient": 1.0,
            "action": "add",
            "bias": None,
            "head_index": None,
        }
        for layer, vector in steering.vectors.items()
    }
    with writing(folder / "steering.pt") as part:
        torch.save(entries, part)
    return folder / "steering.pt"


def _gguf(steering: Steering, model: LanguageModel, folder: Path) -> Path:
    """`direction.N`, added by llama.cpp after its block N, which cannot be the first (block 0)."""
    gguf = _gguf_package()
    if 0 in steering.vectors:
        raise UserError(
            "llama.cpp's control vectors cannot act on layer 0, where this one does; choose another --emotion or --to."
        )
    with writing(folder / "steering.gguf") as part:
        writer = gguf.GGUFWriter(str(part), "controlvector")
        writer.add_string("controlvector.model_hint", model.hf.config.model_type)
        writer.add_uint32("controlvector.layer_count", len(steering.vectors))
        for layer, vector in sorted(steering.vectors.items()):
            writer.add_tensor(f"direction.{layer}", vector.detach().cpu().float().numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return folder / "steering.gguf"


def _gguf_package() -> Any:
    try:
        import gguf
    except ImportError:
        raise UserError("Writing gguf needs the gguf package: pip install gguf.") from None
    return gguf
