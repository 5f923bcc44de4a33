"""The configuration of a training of SAEs: Python arguments, YAML keys and command-line flags are the same fields."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from interp.errors import UserError, nearest
from interp.files.scalars import dotted_keys
from interp.run.config import CorpusConfig, PromptConfig
from interp.texts.emotions import EKMAN

Architecture = Literal["topk", "batchtopk", "matryoshka", "jumprelu", "gated", "standard"]
Number = Literal["auto", "float32", "bfloat16"]
Count = Annotated[int, Field(strict=True, ge=1, le=2**40)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]
_strict = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_strict)
class PlainConfig:
    """A file of plain text, or of one compressed by gzip (`.gz`); documents stand between lines `<|endoftext|>`."""

    path: str
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The share of its sections that is used, spread over the whole file."""
    weight: Positive = 1.0
    """How many positions come from here, against the weights of the other sources."""


@dataclass(frozen=True, config=_strict)
class StreamConfig:
    """A data set of the Hugging Face hub, or a folder of `datasets.save_to_disk`, read as a stream."""

    name: str
    subset: str | None = None
    split: str = "train"
    column: str = "text"
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    weight: Positive = 1.0


@dataclass(frozen=True, config=_strict)
class PromptsConfig(CorpusConfig):
    """A corpus whose texts are put into the prompt, and into the model's chat frame."""

    weight: Positive = 1.0


@dataclass(frozen=True, config=_strict)
class TextConfig:
    """What the SAEs are trained on. Weights of all sources together count."""

    plain: list[PlainConfig] = field(default_factory=list)
    streams: list[StreamConfig] = field(default_factory=list)
    prompts: list[PromptsConfig] = field(default_factory=list)
    context: Annotated[int, Field(strict=True, ge=8)] = 256
    """Tokens of plain text that the model reads together."""
    answer_repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] = 8
    """How often a prompt's answer position counts; they are rare and matter most."""
    first_position: bool = False
    """Train on the first token too. Most models keep an attention sink there, far from all other residuals."""
    norm_cap: Positive | None = 10.0
    """Positions whose residual is longer than this many times the median, at any layer, are left out; None: none."""


@dataclass(frozen=True, config=_strict)
class HeldOutConfig:
    """What the quality card is made on; none of it is trained on."""

    share: Share = 0.05
    """Of the sections of plain texts and streams."""
    plain: list[PlainConfig] = field(default_factory=list)
    """Files of their own instead."""
    tokens: Count = 8192
    """Tokens of plain text that are measured."""
    prompts: list[CorpusConfig] = field(default_factory=lambda: [CorpusConfig("vignettes", "test", limit=144)])


@dataclass(frozen=True, config=_strict)
class TrainingConfig:
    """A whole training."""

    model: str = "tiny"
    """As in a run: bundled name, hub id, or folder in Hugging Face format."""
    layers: list[int] | None = None
    """Residual streams after these blocks; None: after all."""
    architecture: Architecture = "topk"
    """SAELens' training SAEs; `matryoshka` nests BatchTopK SAEs."""
    d_sae: Count = 2048
    """Features of each SAE."""
    k: Count = 32
    """Active features per position (topk, batchtopk, matryoshka)."""
    sparsity: Positive = 5.0
    """Coefficient of the sparsity loss (standard, gated: L1; jumprelu: L0)."""
    groups: list[Count] | None = None
    """Nested widths (matryoshka); None: an eighth, a quarter, a half and all of the features."""
    tokens: Count = 1_000_000
    """Positions each SAE is trained on, in all."""
    batch: Count = 1024
    """Positions per step."""
    chunk: Count = 131_072
    """Positions captured and kept on disk at a time; after each, every SAE's progress is saved."""
    lr: Positive = 1e-3
    warmup: Share = 0.05
    """Share of the steps in which the learning rate rises from 0."""
    decay: Share = 0.5
    """Share of the steps, at the end, in which it falls to 0."""
    dead_after: Count = 200
    """Steps without being active after which a feature counts as dead, and is revived where the architecture can."""
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    labels: list[str] = field(default_factory=lambda: list(EKMAN))
    prompt: PromptConfig = field(default_factory=PromptConfig)
    text: TextConfig = field(default_factory=TextConfig)
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    capture_dtype: Number = "auto"
    """What the model computes in, and the buffer holds; auto: bfloat16 where the processor computes in it."""
    train_dtype: Number = "auto"
    """What matrix products of the training are computed in; weights and losses are float32."""
    precision: Literal["float16", "bfloat16", "float32"] = "float16"
    """Of the weights on disk."""
    threads: Annotated[int, Field(strict=True, ge=1, le=4096)] | None = None
    """Processor threads; None: one per core."""
    device: str = "auto"
    out: str = "saes"
    """Folder that is written: a folder per layer, the card, the learning curves."""

    def __post_init__(self) -> None:
        if self.layers is not None and (not self.layers or len(set(self.layers)) < len(self.layers)):
            raise ValueError(f"layers must name at least one layer, each once; got {self.layers}")
        if self.k > self.d_sae:
            raise ValueError(f"k must be at most d_sae, the number of features ({self.d_sae}); got {self.k}")
        if self.warmup + self.decay > 1:
            raise ValueError(f"warmup and decay must be at most 1 together; got {self.warmup} and {self.decay}")
        if self.tokens < self.batch or self.chunk < self.batch:
            raise ValueError(f"tokens and chunk must hold at least one batch ({self.batch})")
        widths = self.groups or []
        if any(a >= b for a, b in pairwise(widths)) or (widths and widths[-1] > self.d_sae):
            raise ValueError(f"groups must rise and end at d_sae ({self.d_sae}) at most; got {widths}")
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must be at least two different words; got {self.labels}")
        if not (self.text.plain or self.text.streams or self.text.prompts):
            raise ValueError("text names nothing to train on: give text.plain, text.streams or text.prompts")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def widths(self) -> list[int]:
        """Nested widths of a matryoshka SAE, the last one all of it."""
        if self.groups is None:
            return sorted({max(1, self.d_sae // part) for part in (8, 4, 2, 1)})
        return self.groups if self.groups[-1] == self.d_sae else [*self.groups, self.d_sae]


def load_training_config(path: str | Path, overrides: Mapping[str, str] | None = None) -> TrainingConfig:
    """The configuration of a YAML file with dotted overrides (`text.context` -> `"128"`) on top.

    Raises:
        UserError: missing file, broken YAML, unknown key (the nearest is named), or a value out of place.
    """
    if not Path(path).is_file():
        raise UserError(f"No config file {str(path)!r}; give a YAML file such as experiments/saes/tiny.yaml.")
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict):
        raise UserError(f"{path} must hold keys and values, as experiments/saes/tiny.yaml does.")
    for key, value in (overrides or {}).items():
        _set(tree, key, value)
    try:
        return TypeAdapter(TrainingConfig).validate_python(tree)
    except ValidationError as error:
        raise UserError(explained(error, str(path))) from None


def changed_field(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> str | None:
    """Dotted name of the first field that differs, with both values; None where none does."""
    for key in [*before, *(k for k in now if k not in before)]:
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found = changed_field(old, new, f"{prefix}{key}.")
            if found:
                return found
        elif old != new:
            return f"{prefix}{key} was {json.dumps(old)} and is now {json.dumps(new)}"
    return None


def _set(tree: dict[str, Any], key: str, value: str) -> None:
    """`text.plain.0.path` walks into dicts by name and into lists by number; text fields take the text as it is."""
    place: Any = tree
    steps = key.split(".")
    kind = _kind_at(TrainingConfig, steps)
    if kind is None:
        raise UserError(f"Unknown option --{key}{nearest(key, dotted_keys(TrainingConfig))}")
    for step, following in pairwise(steps):
        empty: Any = [] if following.isdigit() else {}
        if isinstance(place, list):
            if int(step) > len(place):
                raise UserError(f"--{key}: {step!r} is no place in a list of {len(place)}.")
            if int(step) == len(place):
                place.append(empty)
            place = place[int(step)]
        else:
            place = place.setdefault(step, empty)
        if not isinstance(place, dict | list):
            raise UserError(f"--{key}: {step!r} is a value of its own in the config file.")
    try:
        given = value if kind is str else yaml.safe_load(value)
    except yaml.YAMLError:
        given = value
    if isinstance(given, str) and kind is not str:
        given = _number(given)
    if isinstance(place, list):
        if int(steps[-1]) > len(place):
            raise UserError(f"--{key}: {steps[-1]!r} is no place in a list of {len(place)}.")
        place[int(steps[-1]) : int(steps[-1]) + 1] = [given]
    else:
        place[steps[-1]] = given


def _number(text: str) -> Any:
    """YAML 1.1 takes 1e-3 for a word."""
    try:
        return float(text)
    except ValueError:
        return text


def _kind_at(kind: Any, steps: Sequence[str]) -> Any:
    """The type of a field by its dotted name; None where there is none."""
    for step in steps:
        if get_origin(kind) is list and step.isdigit():
            kind = get_args(kind)[0]
        elif is_dataclass(kind) and step in {f.name for f in fields(kind)}:
            kind = get_type_hints(kind)[step]
            kind = next((k for k in get_args(kind) if get_origin(k) is list), kind)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
    optional = [k for k in get_args(kind) if k is not type(None)]
    return optional[0] if get_origin(kind) is not list and len(optional) == 1 else kind


def explained(error: ValidationError, where: str) -> str:
    """The first complaint about a value, in one line."""
    first = error.errors()[0]
    steps = [str(s) for s in first["loc"] if not (isinstance(s, str) and "[" in s)]
    key = ".".join(steps)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        inner = _kind_at(TrainingConfig, steps[:-1])
        known = [f.name for f in fields(inner)] if is_dataclass(inner) else []
        return f"{where}: unknown key {key!r}{nearest(steps[-1], known)}"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = f" (got {given!r})" if not isinstance(given, dict) and "got" not in message else ""
    return f"{where}: {key or 'config'}: {message[0].lower() + message[1:]}{shown}."
