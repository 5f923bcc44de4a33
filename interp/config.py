"""The one configuration tree: Python arguments, YAML keys and command-line flags are the same fields."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, field, fields, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import yaml
from pydantic import BeforeValidator, ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from interp.emotions import EKMAN
from interp.errors import UserError, nearest

_strict = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_strict)
class CorpusConfig:
    """One split of one corpus."""

    name: str
    """A known corpus, or `local` for a table of your own."""
    split: str = "test"
    path: str | None = None
    """Its released file or folder; without it the corpus comes from the Hugging Face hub."""
    limit: int | None = None
    """At most this many examples, stratified by emotion."""
    text_column: str = "text"
    label_column: str = "label"
    mapping: dict[str, str] | None = None
    """The corpus' own labels to the run's labels."""

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit must be at least 1; got {self.limit}")


@dataclass(frozen=True, config=_strict)
class CorporaConfig:
    """What each part of a run sees: features are found on `discover`, steering is chosen on `fit`, scored on `test`."""

    discover: CorpusConfig = field(default_factory=lambda: CorpusConfig("vignettes", "discover"))
    fit: CorpusConfig = field(default_factory=lambda: CorpusConfig("vignettes", "fit"))
    test: list[CorpusConfig] = field(default_factory=lambda: [CorpusConfig("vignettes", "test")])
    anchors: list[CorpusConfig] = field(default_factory=list)
    """Texts whose answers steering should leave alone; their labels are not used. Gated steering needs some."""


@dataclass(frozen=True, config=_strict)
class PromptConfig:
    template: str = "default"
    """A named template, or a text with `{text}` and, if wanted, `{labels}` and `{shots}`."""
    shots: int = 0
    """Solved examples per label before each prompt, drawn from the fit split."""
    chat: bool | Literal["auto"] = "auto"
    """Whether prompts go into the model's chat template; `auto`: for instruction-tuned models."""

    def __post_init__(self) -> None:
        if self.shots < 0:
            raise ValueError(f"shots must be at least 0; got {self.shots}")


@dataclass(frozen=True, config=_strict)
class TracingConfig:
    candidates: int = 64
    """Features per phase and emotion that attribution proposes and exact ablation decides on."""
    position: Literal["answer", "all"] = "answer"
    """Where a feature is removed: at the answer position, or at every position but the first."""
    controls: Literal["matched"] = "matched"
    """As many random active features, matched in strength (norm of what they add to the residual) and firing rate."""
    examples: Literal["all", "correct"] = "all"
    """Trace on all examples, or on the correctly answered ones alone (the protocol of 2604.25866)."""

    def __post_init__(self) -> None:
        if self.candidates < 1:
            raise ValueError(f"candidates must be at least 1; got {self.candidates}")


@dataclass(frozen=True, config=_strict)
class SteeringConfig:
    method: Literal["amplify", "targeted", "global", "gated", "best"] = "best"
    """`best` compares them all on the fit split; whatever does not beat no steering there is dropped."""
    features: int = 30
    """At most this many causal features are steered, the strongest first."""
    perplexity_budget: float = 1.05
    """Largest allowed perplexity ratio on plain text with steering on at every position."""
    harm_budget: float = 0.03
    """Largest allowed share of changed answers on held-out anchor texts, of any anchor corpus."""
    low_rank: int = 0
    """Rank of a low-rank fine-tuning of the weights on the fit examples, as an outside reference; 0: none."""
    learning_curve: int = 0
    """Draws per number of labelled examples (8 to 256) for the curve of gain against examples; 0: no curve."""

    def __post_init__(self) -> None:
        if self.features < 1 or self.perplexity_budget < 1:
            raise ValueError("features must be at least 1 and perplexity_budget at least 1")
        if not 0 <= self.harm_budget <= 1 or min(self.learning_curve, self.low_rank) < 0:
            raise ValueError("harm_budget must lie between 0 and 1; learning_curve and low_rank must not be negative")


@dataclass(frozen=True, config=_strict)
class FluencyConfig:
    path: str | None = None
    """Plain text, documents separated by `<|endoftext|>`; None takes the bundled one."""
    limit: int = 20_000
    """At most about this many tokens of it, from its beginning."""

    def __post_init__(self) -> None:
        if self.limit < 2:
            raise ValueError(f"limit must be at least 2 tokens; got {self.limit}")


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


@dataclass(frozen=True, config=_strict)
class SaesConfig:
    name: str = "tiny"
    """Bundled name, release of SAELens' registry, or folder with one folder per layer."""
    layers: list[int] | None = None
    """Only these layers; None: all that are covered."""
    width: str | int | None = None
    """Number of features (`16k`), where a release has several."""
    l0: float | str | None = None
    """Mean number of active features, or the release's word for it (small, medium, big); the nearest is taken."""
    resident: int | None = None
    """Most SAEs in memory at once; None: all if they are small, else 2."""
    force: bool = False
    """Go on with SAEs that declare another model or that reconstruct nothing."""


@dataclass(frozen=True, config=_strict)
class Config:
    """A whole experiment."""

    name: str = "tiny"
    model: str = "tiny"
    """Bundled name, hub id, or folder in Hugging Face format."""
    saes: Annotated[SaesConfig, BeforeValidator(_named)] = field(default_factory=SaesConfig)
    """A name alone stands for `{name: ...}`."""
    labels: list[str] = field(default_factory=lambda: list(EKMAN))
    corpora: CorporaConfig = field(default_factory=CorporaConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    fluency: FluencyConfig = field(default_factory=FluencyConfig)
    resamples: int = 1000
    """Bootstrap resamples behind every interval."""
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    device_map: Literal["auto"] | None = None
    """`auto`: accelerate spreads the model's layers over all GPUs."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Weights in 8 or 4 bits through bitsandbytes, on CUDA."""
    batch_size: int | Literal["auto"] = "auto"
    """Prompt tokens per pass."""
    out: str = "runs"
    """Folder under which `<name>/` is made."""

    def __post_init__(self) -> None:
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must be at least two different words; got {self.labels}")
        if not self.name or any(c in self.name for c in "/\\"):
            raise ValueError(f"name must be usable as a folder name; got {self.name!r}")
        if self.steering.method == "gated" and not self.corpora.anchors:
            raise ValueError(
                "steering.method gated needs texts to leave alone: name some under corpora.anchors, such as"
                " --corpora.anchors.0.name goemotions (their labels are not used)"
            )
        if self.resamples < 100:
            raise ValueError(f"resamples must be at least 100; got {self.resamples}")

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def load_config(path: str | Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """The configuration of a YAML file with dotted overrides (`tracing.candidates` -> `"32"`) on top.

    Raises:
        UserError: missing file, broken YAML, unknown key (the nearest is named), or a value out of place.
    """
    tree: dict[str, Any] = {}
    where = "the command line"
    if path is not None:
        where = str(path)
        if not Path(path).is_file():
            raise UserError(f"No config file {where!r}; give a YAML file such as experiments/tiny.yaml.")
        try:
            tree = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise UserError(f"{where} is not YAML: {' '.join(str(error).split())}") from None
        if not isinstance(tree, dict):
            raise UserError(f"{where} must hold keys and values, as experiments/tiny.yaml does.")
    if "saes" in tree:
        tree["saes"] = _named(tree["saes"])
    for key, value in (overrides or {}).items():
        _set(tree, key, yaml.safe_load(value))
    try:
        return TypeAdapter(Config).validate_python(tree)
    except ValidationError as error:
        raise UserError(_explain(error, where)) from None


def config_of(folder: Path) -> Config:
    """The configuration that made a run folder.

    Raises:
        UserError: not a run folder, or one of another version.
    """
    record = folder / "run.json"
    if not record.is_file():
        raise UserError(f"{folder} is no run folder (no run.json); make one with `interp run`.")
    try:
        return TypeAdapter(Config).validate_python(json.loads(record.read_text(encoding="utf-8"))["config"])
    except (ValidationError, json.JSONDecodeError, KeyError) as error:
        reason = _explain(error, str(record)) if isinstance(error, ValidationError) else f"{record} is damaged."
        raise UserError(reason) from None


def known_keys(kind: Any = Config, prefix: str = "") -> list[str]:
    """All dotted keys of the tree."""
    keys = []
    for f in fields(kind):
        keys.append(prefix + f.name)
        inner = get_type_hints(kind)[f.name]
        if is_dataclass(inner):
            keys += known_keys(inner, f"{prefix}{f.name}.")
    return keys


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """`corpora.test.0.limit` walks into dicts by name and into lists by number."""
    at: Any = tree
    steps = key.split(".")
    last = steps[-1]
    for step, following in pairwise(steps):
        empty: Any = [] if following.isdigit() else {}
        if isinstance(at, list):
            index = _index(at, step, key)
            if index == len(at):
                at.append(empty)
            at = at[index]
        else:
            if not isinstance(at.get(step), dict | list):
                at[step] = empty
            at = at[step]
    if isinstance(at, list):
        index = _index(at, last, key)
        at[index : index + 1] = [value]
    else:
        at[last] = value


def _index(items: list, step: str, key: str) -> int:
    if not step.isdigit() or int(step) > len(items):
        raise UserError(f"--{key}: {step!r} is no place in a list of {len(items)}.")
    return int(step)


def _explain(error: ValidationError, where: str) -> str:
    """The first complaint, in one line."""
    first = error.errors()[0]
    steps = [str(s) for s in first["loc"] if not (isinstance(s, str) and "[" in s)]
    key = ".".join(steps)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        siblings = _fields_at(Config, steps[:-1])
        return f"{where}: unknown key {key!r}{nearest(steps[-1], siblings)}"
    message = first["msg"].removeprefix("Value error, ")
    given = first.get("input")
    shown = f" (got {given!r})" if not isinstance(given, dict) and "got" not in message else ""
    return f"{where}: {key or 'config'}: {message[0].lower() + message[1:]}{shown}."


def _fields_at(kind: Any, steps: Sequence[str]) -> list[str]:
    for step in steps:
        kind = get_args(kind)[0] if get_origin(kind) is list else get_type_hints(kind).get(step, kind)
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    return [f.name for f in fields(kind)] if is_dataclass(kind) else []
