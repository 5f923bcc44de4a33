"""A trained SAE as SAELens saves it, with all that says what it belongs to."""

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from sae_lens import __version__ as sae_lens_version
from safetensors.torch import load_file, save_file

from interp import __version__
from interp.errors import UserError
from interp.files.folder import writing
from interp.models.language_model import LanguageModel
from interp.training.config import TrainingConfig
from interp.training.texts import first_tokens


def layer_folder(out: Path, layer: int) -> Path:
    return out / f"layer_{layer:02d}"


def save_sae(sae: Any, folder: Path, *, config: TrainingConfig, model: LanguageModel, layer: int) -> None:
    """Writes `cfg.json` and `sae_weights.safetensors` into `folder`, whole or not at all.

    Raises:
        UserError: a weight too large for the precision.
    """
    metadata = sae.cfg.metadata
    metadata.model_name = model.name if not Path(model.name).exists() else Path(model.name).resolve().name
    metadata.model_identity = model.identity
    metadata.hook_name = f"blocks.{layer}.hook_resid_post"
    metadata.hook_layer = layer
    metadata.hook_head_index = None
    metadata.context_size = config.text.context
    metadata.prepend_bos = bool(first_tokens(model))
    metadata.dataset_path = ", ".join(_names(config))
    metadata.sae_lens_version = sae_lens_version
    metadata.sae_lens_training_version = sae_lens_version
    metadata.interp_version = __version__
    metadata.training_tokens = config.tokens // config.batch * config.batch
    metadata.seed = config.seed
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    weights, described = sae.save_inference_model(part)
    kind = getattr(torch, config.precision)
    state = {name: _cast(value, kind, layer) for name, value in load_file(weights).items()}
    with writing(Path(weights)) as written:  # SAELens' own file is for its owner alone
        save_file(state, written, {"format": "pt"})
    cfg = json.loads(Path(described).read_text(encoding="utf-8"))
    cfg |= {"dtype": config.precision, "device": "cpu"}
    Path(described).write_text(json.dumps(cfg, indent=1) + "\n", encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def _cast(value: torch.Tensor, kind: torch.dtype, layer: int) -> torch.Tensor:
    cast = value.to(kind)
    if not torch.isfinite(cast).all():
        raise UserError(
            f"A weight of the SAE of layer {layer} is too large for {str(kind).removeprefix('torch.')};"
            " save with --precision bfloat16 or float32."
        )
    return cast.contiguous()


def _names(config: TrainingConfig) -> list[str]:
    """Names of the sources, without the folders they lie in."""
    text = config.text
    corpora = [f"{p.name}/{p.split}" for p in text.prompts]
    return [Path(p.path).name for p in text.plain] + [s.name for s in text.streams] + corpora
