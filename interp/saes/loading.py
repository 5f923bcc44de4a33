"""SAE stacks from a bundled name, a folder or a release of SAELens' registry, checked before any long work."""

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, cast

import numpy as np
import torch
from sae_lens import SAE
from safetensors import SafetensorError

from interp.errors import UserError
from interp.memory import free_memory
from interp.models.hub import explain_hub_error
from interp.models.language_model import LanguageModel
from interp.resources import NO_SAES
from interp.saes.checks import check_saes
from interp.saes.coordinates import Coordinates
from interp.saes.folders import FolderSae, declared_bos, described
from interp.saes.identity import select_saes
from interp.saes.releases import SaeChoice, known_releases
from interp.saes.stack import SaeSource, SaeStack, warn_partial

FEW = 2
"""SAEs in memory at once where all together would take more than a quarter of it."""


class SaesRecord(TypedDict, total=False):
    """The SAEs that something was made with: what `load_saes` was told, what they were, and which layers they had."""

    name: str
    layers: Sequence[int] | None
    width: str | int | None
    l0: float | str | None
    resident: int | None
    force: bool
    identity: str
    covered: Sequence[int]


def saes_record(saes: SaeStack, options: Mapping[str, Any]) -> SaesRecord:
    """
    Args:
        options: what they were loaded with.
    """
    return cast(SaesRecord, {**options, "identity": saes.identity, "covered": saes.layers})


def load_recorded(record: SaesRecord, model: LanguageModel, layers: Sequence[int]) -> SaeStack:
    """Some layers of recorded SAEs, loaded by their name."""
    options = {name: value for name, value in record.items() if name not in ("identity", "covered")}
    return load_saes(model=model, **cast(Any, {**options, "layers": layers}))


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

    `name` is a bundled stack, a release of SAELens' registry, or a folder with one folder per layer, as SAELens saves
    them or in Gemma Scope's own layout (`width_16k/average_l0_59/params.npz`). The hook name in cfg.json says which
    layer an SAE reads, else its folder's name (`layer_07`, `blocks.7.hook_...`, `7`); one that reads what enters
    block N belongs to layer N - 1. `none` gives `Coordinates`: every layer's residual as it is.

    Args:
        layers: None for all there are.
        width, l0: which SAE of a layer, where there are several; see `choose_saes`.
        resident: most SAEs in memory at once; None: all if they take less than a quarter of the free memory, else 2.
        force: go on with SAEs of another model, or that reconstruct nothing.

    Raises:
        UserError: no such folder or release, half a checkpoint, a layer that is not covered, or SAEs that do not belong
            on this model's residual stream.
    """
    if name == NO_SAES:
        return Coordinates(model.n_layers, model.d_model, model.device)
    selection = select_saes(name, layers=layers, width=width, l0=l0)
    sources = {layer: _source(sae, str(model.device)) for layer, sae in selection.saes.items()}
    stack = SaeStack(sources, name, selection.identity, resident=1)
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


def _source(sae: FolderSae | SaeChoice, device: str) -> SaeSource:
    if isinstance(sae, FolderSae):
        return SaeSource(partial(_read_folder, sae.path, device))
    options = (known_releases()[sae.release].config_overrides or {}).get("model_from_pretrained_kwargs", {})
    centred = isinstance(options, dict) and bool(options.get("center_writing_weights"))
    return SaeSource(partial(_read_release, sae, device), centred, sae.neuronpedia)


def _read_release(choice: SaeChoice, device: str) -> SAE:
    try:
        sae = SAE.from_pretrained(choice.release, choice.sae_id, device=device, dtype="float32")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        repository = known_releases()[choice.release].repo_id
        raise UserError(explain_hub_error(repository, error)) from None
    return sae.requires_grad_(False)


UNREADABLE = (
    KeyError, ValueError, RuntimeError, OSError, TypeError, AttributeError, AssertionError, EOFError, RecursionError,
    SafetensorError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What SAELens, safetensors and numpy raise for files that are not what they should be."""


def _read_folder(path: Path, device: str) -> SAE:
    """float32 even where the model runs in half precision: encoding decides which features are active."""
    try:
        if path.is_dir():
            sae = SAE.load_from_disk(path, device=device, dtype="float32")
            # SAELens fills in what old files do not say
            sae.cfg.metadata.prepend_bos = declared_bos(described(path))
        else:
            sae = SAE.load_from_disk(path, device=device, dtype="float32", converter=_gemma_scope)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(
            f"{path} could not be loaded as an SAE: {reason.rstrip('.')}. It is damaged or half downloaded;"
            " get it again."
        ) from None
    bad = [name for name, weight in sae.named_parameters() if not torch.isfinite(weight).all()]
    if bad:
        raise UserError(f"{path} holds NaN or infinite weights ({bad[0]}): it is no trained SAE; get it again.")
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
        "metadata": {"sae_lens_version": "6.54.12"},
        **(cfg_overrides or {}),
    }
    return config, {k: v.to(config["device"]) for k, v in state.items()}
