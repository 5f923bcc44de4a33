"""SAE stacks from a bundled name, a folder or a release of SAELens' registry, checked before any long work."""

import hashlib
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub import try_to_load_from_cache
from sae_lens import SAE

from interp.errors import UserError, nearest
from interp.loading import explain_hub_error
from interp.memory import free_memory
from interp.model import BUNDLED, LanguageModel, bundled_folder, content_hash
from interp.releases import SaeChoice, choose_saes, get_pretrained_saes_directory, parse_width, residual_releases, spans
from interp.sae_checks import check_saes
from interp.saes import SaeSource, SaeStack, warn_partial

FEW = 2
"""SAEs in memory at once where all together would take more than a quarter of it."""


def load_saes(
    name: str,
    model: LanguageModel,
    *,
    layers: Sequence[int] | None = None,
    width: str | int | None = None,
    l0: float | str | None = None,
    resident: int | None = None,
    force: bool = False,
) -> SaeStack:
    """The model's SAEs, one per layer, read when needed.

    `name` is a bundled stack, a release of SAELens' registry, or a folder with one folder per layer (`layer_07/`, `7/`,
    `blocks.7.hook_...`) as SAELens saves them or in Gemma Scope's own layout (`width_16k/average_l0_59/params.npz`).

    Args:
        layers: None for all there are.
        width, l0: which SAE of a layer, where there are several; see `choose_saes`.
        resident: most SAEs in memory at once; None: all if they take less than a quarter of the free memory, else 2.
        force: go on with SAEs of another model, or that reconstruct nothing.

    Raises:
        UserError: no such folder or release, half a checkpoint, a layer that is not covered, or SAEs that do not belong
            on this model's residual stream.
    """
    folder = bundled_folder(name) / "saes" if name in BUNDLED else Path(name)
    if folder.is_dir():
        sources, identity = _from_folder(folder, model, layers, width, l0)
    elif name in get_pretrained_saes_directory():
        sources, identity = _from_release(name, model, layers, width, l0)
    elif name.startswith((".", "/", "~")) or name in BUNDLED:
        raise UserError(f"No SAE folder {str(folder)!r}{nearest(name, BUNDLED)}")
    else:
        known = [*BUNDLED, *residual_releases()]
        raise UserError(f"No SAE folder and no release {name!r} in SAELens' registry{nearest(name, known, n=3)}")
    stack = SaeStack(sources, name, identity, resident=1)
    check_saes(stack, model, force=force)
    stack.resident = _most_resident(stack, model) if resident is None else max(1, resident)
    if layers is None:
        warn_partial(stack, model.n_layers)
    return stack


def _most_resident(stack: SaeStack, model: LanguageModel) -> int:
    """All, or `FEW`; the one in memory now is measured."""
    last = stack[stack.layers[-1]]
    size = sum(p.numel() * p.element_size() for p in last.parameters())
    return len(stack.layers) if size * len(stack.layers) < free_memory(model.device) / 4 else FEW


# ---------------------------------------------------------------------------------- releases


def _from_release(
    release: str, model: LanguageModel, layers: Sequence[int] | None, width: str | int | None, l0: float | str | None
) -> tuple[dict[int, SaeSource], str]:
    chosen = choose_saes(release, layers=layers, width=width, l0=l0)
    entry = get_pretrained_saes_directory()[release]
    options = (entry.config_overrides or {}).get("model_from_pretrained_kwargs", {})
    centred = isinstance(options, dict) and bool(options.get("center_writing_weights"))
    sources = {
        layer: SaeSource(partial(_read_release, choice, str(model.device)), centred, choice.neuronpedia)
        for layer, choice in chosen.items()
    }
    ids = "+".join(c.sae_id for c in chosen.values())
    return sources, f"{release}@{_revision(entry.repo_id)}:{hashlib.sha256(ids.encode()).hexdigest()[:16]}"


def _read_release(choice: SaeChoice, device: str) -> SAE:
    try:
        sae = SAE.from_pretrained(choice.release, choice.sae_id, device=device, dtype="float32")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        repository = get_pretrained_saes_directory()[choice.release].repo_id
        raise UserError(explain_hub_error(repository, error)) from None
    return sae.requires_grad_(False)


def _revision(repository: str) -> str:
    """Commit of the cached snapshot, as far as the cache tells."""
    for probe in ("README.md", "config.json", ".gitattributes"):
        cached = try_to_load_from_cache(repository, probe)
        if isinstance(cached, str):
            return Path(cached).parent.name
    return "main"


# ---------------------------------------------------------------------------------- folders


def _from_folder(
    folder: Path, model: LanguageModel, layers: Sequence[int] | None, width: str | int | None, l0: float | str | None
) -> tuple[dict[int, SaeSource], str]:
    found: dict[int, Path] = {}
    for sub in sorted(folder.iterdir()):
        number = re.search(r"\d+", sub.name)
        if sub.is_dir() and number:
            found[int(number.group())] = sub
    if not found:
        raise UserError(f"{folder} holds no folder per layer (layer_00, layer_01, ...), each with cfg.json.")
    for layer in layers or ():
        if layer not in found:
            raise UserError(f"{folder} has no SAE for layer {layer}; layers covered: {spans(sorted(found))}.")
    wanted = found if layers is None else {layer: found[layer] for layer in layers}
    chosen = {layer: _weights_of(path, width, l0) for layer, path in wanted.items()}
    sources = {layer: SaeSource(partial(_read_folder, path, str(model.device))) for layer, path in chosen.items()}
    files = [
        f for path in chosen.values() for f in (sorted(path.iterdir()) if path.is_dir() else [path]) if f.is_file()
    ]
    return sources, content_hash(files)


def _weights_of(folder: Path, width: str | int | None, l0: float | str | None) -> Path:
    """The SAELens folder itself, or the params.npz below it that is nearest to what is asked for."""
    raw = sorted(folder.rglob("params.npz"))
    if not raw:
        for file in ("cfg.json", "sae_weights.safetensors"):
            if not (folder / file).exists():
                raise UserError(f"{folder} lacks {file}; give folders as SAELens saves them.")
        return folder
    if width is not None:
        raw = [p for p in raw if _named(p, r"width_(\d+[km])", parse_width) == parse_width(width)]
    if not raw:
        raise UserError(f"{folder} has no params.npz of width {width}.")
    target = float(l0) if isinstance(l0, int | float) else 100.0
    return min(raw, key=lambda p: abs((_named(p, r"average_l0_(\d+)", float) or target) - target))


def _named(path: Path, pattern: str, read: Any) -> Any:
    match = re.search(pattern, str(path))
    return read(match[1]) if match else None


def _read_folder(path: Path, device: str) -> SAE:
    """float32 even where the model runs in half precision: encoding decides which features are active."""
    try:
        if path.is_dir():
            sae = SAE.load_from_disk(path, device=device, dtype="float32")
        else:
            sae = SAE.load_from_disk(path, device=device, dtype="float32", converter=_gemma_scope)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"{path} could not be loaded as an SAE: {str(error).splitlines()[0]}") from None
    return sae.requires_grad_(False)


def _gemma_scope(
    path: str | Path, device: str | None = None, cfg_overrides: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Gemma Scope's params.npz (w_enc, w_dec, b_enc, b_dec, threshold) as a JumpReLU SAE (Lieberum et al. 2024)."""
    with np.load(path) as stored:
        state = {k.replace("w_", "W_"): torch.from_numpy(stored[k]).float() for k in stored.files}
    config = {
        "architecture": "jumprelu",
        "d_in": state["W_enc"].shape[0],
        "d_sae": state["W_enc"].shape[1],
        "dtype": "float32",
        "device": device or "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "metadata": {"sae_lens_version": "6.54.12", "prepend_bos": True},
        **(cfg_overrides or {}),
    }
    return config, {k: v.to(config["device"]) for k, v in state.items()}
