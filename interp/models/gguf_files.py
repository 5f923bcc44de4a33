"""GGUF files, llama.cpp's format for models, made into folders in Hugging Face format once and for all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES
from transformers.utils import logging as transformers_logging

from interp.errors import UserError
from interp.models.architectures import ARCHITECTURES
from interp.models.gguf_header import BROKEN, read_header
from interp.models.gguf_pieces import SPLIT
from interp.reporting import reporter

TURN_ENDS = ("<end_of_turn>", "<|im_end|>", "<|eot_id|>")
"""Tokens at which an answer ends, whatever the file names as its end token; llama.cpp goes by the same names."""
PASSING = {
    "transformers_version",
    "_name_or_path",
    "_model_name_or_path",
    "_from_model_config",
    "is_local",
    "local_files_only",
}
"""Keys of saved configs that tell where and with what they were saved, and would make one model look like many."""


@dataclass(frozen=True)
class GgufFacts:
    """What a GGUF file says of itself.

    Attributes:
        architecture: llama.cpp's name, such as llama or gemma3.
        quantisation: such as Q4_1, of most tensors.
        n_bytes: size its weights will have in float32.
    """

    architecture: str
    quantisation: str
    licence: str | None
    n_bytes: int


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Its bars and load reports; what they say is checked by whoever loads."""
    showed_bars, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if showed_bars:
            transformers_logging.enable_progress_bar()


def facts(path: Path) -> GgufFacts:
    """What a file says of itself, checked as far as its header and its size allow.

    Raises:
        UserError: truncated, no GGUF file, no model, or of an architecture that cannot be used here.
    """
    try:
        header = read_header(path)
        architecture, kind = header.metadata["general.architecture"], header.metadata.get("general.type", "model")
    except BROKEN as error:
        raise UserError(f"{path.name} is damaged or no GGUF file ({first_line(error)}); fetch it again.") from None
    if architecture == "controlvector":
        raise UserError(f"{path.name} is a control vector, not a model; give the model that it was made for.")
    if kind != "model" or architecture in ("clip", "imatrix"):
        raise UserError(f"{path.name} is of the kind {kind!r}, not a language model; give the model's own file.")
    if architecture not in supported():
        raise UserError(f"{path.name} is of the architecture {architecture!r}; supported: {', '.join(supported())}.")
    if not header.n_tensors:
        raise UserError(f"{path.name} holds no weights: a vocabulary alone is no model.")
    if header.end > (there := path.stat().st_size):
        raise UserError(f"{path.name} is truncated: {there:,} of {header.end:,} bytes are there; fetch it again.")
    licence = header.metadata.get("general.license")
    return GgufFacts(architecture, _quantisation(header.metadata), licence, 4 * header.n_elements)


def join(files: Sequence[Path], path: Path) -> Path:
    """One whole file out of pieces; a single file is taken as it is."""
    if len(files) == 1:
        return files[0]
    if SPLIT.search(files[0].name):
        _merge(files, path)
        return path
    total, written = sum(file.stat().st_size for file in files), 0
    with path.open("wb") as whole:
        for file in files:
            with file.open("rb") as piece:
                while block := piece.read(2**20):
                    whole.write(block)
                    written += len(block)
                    reporter().advance(f"joining {path.name}", written, total)
    return path


def convert(path: Path, folder: Path, name: str) -> None:
    """Dequantises a GGUF file into float32 safetensors, with tokenizer, chat template and the ids that end an answer.

    Float32 holds every dequantised value exactly; bfloat16 would round the scales, float16 could overflow.

    Raises:
        UserError: an architecture that cannot be used here, or a file that transformers cannot read.
    """
    found = facts(path)
    reporter().say(f"{name}: dequantising {found.quantisation} to float32, once")
    # transformers shows this bar whatever its settings say; errors are raised, not printed
    with redirect_stderr(StringIO()), quiet_transformers():
        model, tokenizer = _read(path, found)
    ends = _ends(path, tokenizer)
    if ends:
        model.generation_config.eos_token_id = ends[0] if len(ends) == 1 else ends
    reporter().say(f"{name}: writing {found.n_bytes / 1e9:.1f} GB of weights")
    with quiet_transformers():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    for file in folder.glob("*.json"):
        if file.name.endswith("config.json"):
            kept = {k: v for k, v in json.loads(file.read_text(encoding="utf-8")).items() if k not in PASSING}
            file.write_text(json.dumps(kept, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
    for file in folder.glob("*.safetensors"):
        file.chmod(0o644)  # safetensors are written for their owner alone


def _read(path: Path, found: GgufFacts) -> tuple[Any, Any]:
    """Model and tokenizer as transformers reads them, weights in float32.

    Raises:
        UserError: an architecture that cannot be used here, or a file that transformers cannot read.
    """
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        config = AutoConfig.from_pretrained(**source, trust_remote_code=False)
        kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        if kind is None or kind.__name__ not in ARCHITECTURES:
            raise UserError(
                f"{path.name} is of the architecture {found.architecture!r}; supported: {', '.join(supported())}."
            )
        tokenizer = AutoTokenizer.from_pretrained(**source, trust_remote_code=False)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            **source, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except (UserError, OSError):
        raise
    except Exception as error:
        raise UserError(f"{path.name} cannot be read as a model: {first_line(error)}") from None
    model, info = loaded
    if info["missing_keys"]:
        raise UserError(
            f"{path.name} is half a model: {len(info['missing_keys'])} weights are missing"
            f" ({', '.join(sorted(info['missing_keys'])[:2])}, ...)."
        )
    # what says "quantised" would have save_pretrained refuse weights that no longer are
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    return model, tokenizer


def _ends(path: Path, tokenizer: Any) -> list[int]:
    """Ids that end an answer: those that the file names, and the ends of turns that its vocabulary has."""
    metadata = read_header(path).metadata
    named = [metadata.get(f"tokenizer.ggml.{kind}_token_id") for kind in ("eos", "eot", "eom")]
    vocabulary = tokenizer.get_vocab()
    turns = [vocabulary.get(token) for token in TURN_ENDS]
    return sorted({int(k) for k in (*named, *turns) if k is not None})


def _merge(files: Sequence[Path], path: Path) -> None:
    """Writes the tensors of all files into one, with the metadata of the first."""
    try:
        readers = [gguf.GGUFReader(file) for file in files]
        first = readers[0]
        architecture = first.fields["general.architecture"].contents()
        writer = gguf.GGUFWriter(path, arch=architecture, endianess=first.endianess)
        for field in first.fields.values():
            if field.name.startswith(("GGUF.", "split.")) or field.name == "general.architecture":
                continue
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
        tensors = [(reader, tensor) for reader in readers for tensor in reader.tensors]
        for _, tensor in tensors:
            writer.add_tensor_info(
                tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
            )
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for k, (reader, tensor) in enumerate(tensors, 1):
            writer.write_tensor_data(tensor.data, tensor_endianess=reader.endianess)
            reporter().advance(f"joining {path.name}", k, len(tensors))
        writer.close()
    except BROKEN as error:
        raise UserError(f"{files[0].name} and its other parts cannot be joined: {first_line(error)}") from None


def _quantisation(metadata: dict[str, Any]) -> str:
    try:
        return gguf.LlamaFileType(metadata["general.file_type"]).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except (KeyError, ValueError):
        return "unknown quantisation"


def supported() -> list[str]:
    """llama.cpp's names of architectures that both transformers' reader and this tool know."""
    classes: dict[Any, Any] = dict(MODEL_FOR_CAUSAL_LM_MAPPING.items())
    known = {kind.__name__: config.model_type for config, kind in classes.items()}
    types = {known[name].removesuffix("_text") for name in ARCHITECTURES if name in known}
    return sorted(types & {*GGUF_SUPPORTED_ARCHITECTURES})


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__
