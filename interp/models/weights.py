"""Model folders in Hugging Face format: which files are computed with, whether they are whole, and their identity."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from interp.errors import UserError
from interp.models.store import content_hash

WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
CONFIGS = ("config.json", "generation_config.json")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tekken.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files that tokenizers are read from."""
LAYERS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""What configs call the number of layers."""
LARGEST = 2**24
"""Bytes of JSON above which a config is not read: real ones take a few thousand."""
CONVERT = (
    "python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('{0}').save_pretrained('{0}')\""
)


def check_folder(folder: Path) -> None:
    """Refuses what cannot be a model before transformers reads it, and what would run code or unpickle.

    Raises:
        UserError: an adapter, no or a broken config, code of its own, pickled, missing or damaged weights.
    """
    if (folder / "adapter_config.json").exists():
        raise UserError(f"{folder} is an adapter, not a model; merge it (PEFT: merge_and_unload) and save that.")
    if not (folder / "config.json").exists():
        raise UserError(f"{folder} holds no config.json; give a folder in Hugging Face format.")
    config = read_config(folder / "config.json")
    refuse_code(str(folder), config)
    if (folder / "tokenizer_config.json").exists():
        refuse_code(str(folder), read_config(folder / "tokenizer_config.json"))
    names = [name for file in weight_files(folder) for name in _tensor_names(file)]
    check_layers(str(folder), config, at_most=len(names))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that transformers reads from a folder, in order of their names.

    Raises:
        UserError: there are none, one is missing, or the index names something else.
    """
    named = read_config(folder / "config.json").get("transformers_weights")
    if isinstance(named, str):
        _plain(folder, named)
    else:
        named = next((name for name in (WHOLE, INDEX) if (folder / name).exists()), None)
    if named is None:
        pickled = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pt"), *folder.glob("*.pth")])
        if pickled:
            raise UserError(
                f"{folder} holds weights as {pickled[0].name}, a pickle that could run code, and no {WHOLE}; if you"
                f" trust it, convert it: {CONVERT.format(folder)}"
            )
        raise UserError(f"{folder} has no file named {WHOLE}; give a folder that holds the weights, too.")
    if not named.endswith(".index.json"):
        return [folder / named]
    shards = read_config(folder / named).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise UserError(f"{folder / named} is damaged: it has no weight_map that names files; fetch it again.")
    for shard in shards.values():
        _plain(folder / named, shard)
    return [folder / shard for shard in sorted({*shards.values()})]


def identity_of_folder(folder: Path) -> str:
    """Content hash of the weights, config and tokenizer that are computed with; nothing else in a folder matters.

    Raises:
        UserError: no weights that can be read.
    """
    weights = weight_files(folder)
    others = [folder / name for name in (*CONFIGS, *TOKENIZERS, INDEX) if (folder / name).is_file()]
    if weights == [folder / WHOLE]:
        others = [file for file in others if file.name != INDEX]
    files = sorted({*weights, *others, *folder.glob("additional_chat_templates/*.jinja")})
    return content_hash(files)


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        UserError: not JSON, not an object, nested too deeply, or too large.
    """
    expected = f"{path} is damaged: a JSON object was expected"
    if path.stat().st_size > LARGEST:
        raise UserError(f"{expected}, at most {LARGEST >> 20} MB; fetch it again.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{expected} ({_short(error)}); fetch it again.") from None
    if not isinstance(value, dict):
        raise UserError(f"{expected}, and it holds a {type(value).__name__}; fetch it again.")
    return value


def refuse_code(name: str, config: dict[str, Any]) -> None:
    """No code of a model is ever run, nor is anybody asked whether it should be.

    Raises:
        UserError: the config names code that comes with the model.
    """
    if config.get("auto_map"):
        raise UserError(
            f"{name} brings code of its own (auto_map in its config), which is never run; if its architecture is one"
            " that transformers has, save it without auto_map."
        )


def check_layers(name: str, config: dict[str, Any], *, at_most: int = 10_000) -> None:
    """Refuses numbers of layers for which building the model would never end.

    Raises:
        UserError: no whole number from 1 to `at_most`, since every layer has weights.
    """
    inner = config.get("text_config")
    for part in (config, *([inner] if isinstance(inner, dict) else [])):
        for key in LAYERS:
            count = part.get(key, 1)
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= at_most:
                raise UserError(
                    f"The config of {name} says {key}: {str(count)[:20]}; a whole number from 1 to {at_most:,} (no more"
                    " layers than tensors) was expected."
                )


def _tensor_names(path: Path) -> Iterator[str]:
    """Names in a safetensors file, whose header is checked against its size."""
    if not path.is_file():
        raise UserError(f"{path.parent} is half a checkpoint: {path.name} is missing; fetch it again.")
    try:
        with safe_open(path, "np") as file:  # names alone, without torch
            yield from file.keys()
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path.parent} is half a checkpoint: {path.name} is damaged ({_short(error)}), as after a broken download;"
            " fetch it again."
        ) from None


def _plain(where: Path, name: str) -> None:
    if Path(name).name != name or not name.endswith((".safetensors", ".safetensors.index.json")):
        raise UserError(f"{where} names {name!r} as weights; only .safetensors files beside it are read.")


def _short(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0][:120] if lines else type(error).__name__
