"""The one configuration tree: Python arguments, YAML keys and command-line flags are the same fields."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, field, fields, is_dataclass, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from interp.defaults import RESAMPLES
from interp.errors import CONTROL, DamagedError, UserError, nearest, quoted
from interp.files.scalars import alternatives, dotted_keys, hints_of, load_words, typed
from interp.files.stored import read_record
from interp.resources import BUNDLED_SAES, NO_SAES
from interp.texts.corpus_names import corpus_names
from interp.texts.emotions import EKMAN, LABEL_SETS, TOGETHER

_strict = ConfigDict(extra="forbid")
AUTO_SAES = "auto"
"""Those that ship for the model, else none."""
MOST_LETTERS = 100
"""Of a label, or of a run's name: longer ones are no file or column names."""
HOW = ("engine", "resources")
"""Fields that say by what a run is computed."""


def _expanded(path: str) -> str:
    """`~` and `~user` at the beginning stand for a home folder."""
    if _line(path).startswith("~"):
        path = os.path.expanduser(path)  # noqa: PTH111 - the rest of the text stays as it is
        if path.startswith("~"):
            raise ValueError(f"no home folder is known for {quoted(path)}")
    return path


def _line(text: str) -> str:
    if not text.strip() or CONTROL.search(text) or "\n" in text:
        raise ValueError(f"must be one line of text without control characters; got {quoted(text)}")
    return text


def _template(text: str) -> str:
    if CONTROL.search(text):
        raise ValueError(f"must hold no control characters; got {quoted(text)}")
    return text


def _label(text: str) -> str:
    if len(_line(text)) > MOST_LETTERS or text != text.strip():
        raise ValueError(
            f"must be a word of at most {MOST_LETTERS} letters without blanks around it; got {quoted(text)}"
        )
    return text


def _name(text: str) -> str:
    if not 0 < len(text.encode(errors="replace")) <= MOST_LETTERS or text in (".", "..") or re.search(r"[/\\\n]", text):
        raise ValueError(f"must be usable as a folder name; got {quoted(text)}")
    return _line(text)


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d{1,3})?", text):
        raise ValueError(f"unknown device; use auto, cpu, cuda or cuda:N; got {quoted(text)}")
    return text


def _engine(text: str) -> str:
    if not re.fullmatch(r"local|ray|auto|ray://[\w.\-\[\]:]{1,100}:\d{1,5}", text):
        raise ValueError(f"must be local, ray, auto or ray://HOST:PORT; got {quoted(text)}")
    return text


def _quantity(value: float | None) -> float | None:
    if value is not None and value > 1 and not value.is_integer():
        raise ValueError(f"must be whole above 1; got {value}")
    return value


def _width(value: str | int | None) -> str | int | None:
    if value is not None and not re.fullmatch(r"[1-9]\d{0,11}[km]?", str(value), re.IGNORECASE):
        raise ValueError(f"must be a number of features such as 16k or 16384; got {quoted(value)}")
    return value


def _l0(value: float | str | None) -> float | str | None:
    if isinstance(value, str) and not re.fullmatch(r"[A-Za-z][\w-]{0,30}", value):
        raise ValueError(f"must be a number of active features or a release's word for it; got {quoted(value)}")
    if isinstance(value, int | float) and not value > 0:
        raise ValueError(f"must be above 0; got {value}")
    return value


def _layers(value: list[int] | None) -> list[int] | None:
    if value is not None and (not value or len(set(value)) < len(value)):
        raise ValueError(f"must name at least one layer, each once; got {quoted(value)}")
    return value


def _label_set(value: Any) -> Any:
    """A published set by its name."""
    if not isinstance(value, str):
        return value
    if value not in LABEL_SETS:
        raise ValueError(
            f"must be a list of labels or a published set; got {quoted(value)}{nearest(value, LABEL_SETS)}"
        )
    return list(LABEL_SETS[value])


def _columns(value: list[str] | None) -> list[str] | None:
    if value is not None and (not value or len(set(value)) < len(value)):
        raise ValueError(f"must name at least one column, each once; got {quoted(value)}")
    return value


Line = Annotated[str, AfterValidator(_line)]
PathText = Annotated[str, AfterValidator(_expanded)]
"""A path, or a name that may be one: `~` is expanded."""
Label = Annotated[str, AfterValidator(_label)]
Count = Annotated[int, Field(strict=True, ge=1, le=2**31 - 1)]
Number = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Seed = Annotated[int, Field(strict=True, ge=0, le=2**32 - 1)]
Ratio = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Strict()]


def _text_keys(value: Any) -> Any:
    """Numeric labels are written as numbers in YAML; a corpus' labels are text."""
    if not isinstance(value, Mapping):
        return value
    return {str(k) if isinstance(k, int | float) and not isinstance(k, bool) else k: v for k, v in value.items()}


@dataclass(frozen=True, config=_strict)
class CorpusConfig:
    """One split of one corpus."""

    name: Line
    """A known corpus, `local` for a table of your own, or `hub:OWNER/NAME` for any data set of the hub."""
    split: Line = "test"
    """discover, fit, test, all, or one that its authors released; if none is given, that of its part."""
    path: PathText | None = None
    """Its released file or folder; without it the corpus comes from the Hugging Face hub."""
    limit: Count | None = None
    """At most this many examples, stratified by emotion."""
    text_column: Line = "text"
    """Of `local` and `hub:`: the column with the texts."""
    label_column: Line = "label"
    """Of `local` and `hub:`: the column with the labels."""
    mapping: Annotated[dict[str, Label] | None, BeforeValidator(_text_keys)] = None
    """The corpus' own labels (words or numbers) to the run's labels."""
    several: Flag = False
    """Rows with several of the run's labels are kept, and scored as sets; for test corpora."""
    balanced: Flag = False
    """`limit` draws as many texts of every emotion, as far as there are, and not by their shares."""


@dataclass(frozen=True, config=_strict)
class RatingsConfig:
    """One split of one corpus with ratings, such as valence or appraisals."""

    name: Line
    """A known corpus with ratings (`interp corpora`), or `local` for a table of your own."""
    split: Line = "all"
    """As under the other corpora."""
    path: PathText | None = None
    """Its released file or folder."""
    columns: Annotated[list[Line] | None, AfterValidator(_columns)] = None
    """Which ratings; None: all of them. Of `local`: the columns that hold them."""
    limit: Count | None = None
    """At most this many texts, stratified by emotion where there are emotions."""
    text_column: Line = "text"
    """Of `local`: the column with the texts."""
    label_column: Line | None = None
    """Of `local`: the column with emotions, if there is one."""
    mapping: Annotated[dict[str, Label] | None, BeforeValidator(_text_keys)] = None
    """The corpus' own labels (words or numbers) to the run's labels."""


def _part(split: str, value: Any) -> Any:
    """A corpus whose split is not given is looked at in the split of that name, and never in that of the tests."""
    return {"split": split, **value} if isinstance(value, Mapping) else value


@dataclass(frozen=True, config=_strict)
class CorporaConfig:
    """What each part of a run sees: features are found on `discover`, steering is chosen on `fit`, scored on `test`."""

    discover: Annotated[CorpusConfig, BeforeValidator(partial(_part, "discover"))] = field(
        default_factory=lambda: CorpusConfig("vignettes", "discover")
    )
    fit: Annotated[CorpusConfig, BeforeValidator(partial(_part, "fit"))] = field(
        default_factory=lambda: CorpusConfig("vignettes", "fit")
    )
    test: list[CorpusConfig] = field(default_factory=lambda: [CorpusConfig("vignettes", "test")])
    anchors: list[CorpusConfig] = field(default_factory=list)
    """Texts whose answers steering should leave alone; their labels are not used. Gated steering needs some."""
    ratings: list[RatingsConfig] = field(default_factory=list)
    """Texts that were rated (valence, appraisals): which layer knows the ratings, and what they do to the answer."""


@dataclass(frozen=True, config=_strict)
class PromptConfig:
    template: Annotated[str, AfterValidator(_template)] = "default"
    """A named template, or a text with `{text}` and, if wanted, `{labels}` and `{shots}`."""
    shots: Annotated[Number, Field(le=1000)] = 0
    """Solved examples per label before each prompt, drawn from the fit split."""
    chat: Flag | Literal["auto"] = "auto"
    """Whether prompts go into the model's chat template; `auto`: for instruction-tuned models."""


@dataclass(frozen=True, config=_strict)
class TracingConfig:
    candidates: Count = 64
    """Features per phase and emotion that attribution proposes and exact ablation decides on."""
    position: Literal["answer", "all"] = "answer"
    """Where a feature is removed: at the answer position, or at every position but the first."""
    controls: Literal["matched"] = "matched"
    """As many random active features, matched in strength (norm of what they add to the residual) and firing rate."""
    examples: Literal["all", "correct"] = "all"
    """Trace on all examples, or on the correctly answered ones alone (the protocol of 2604.25866)."""


@dataclass(frozen=True, config=_strict)
class SteeringConfig:
    method: Literal["prior", "coupled", "amplify", "targeted", "global", "gated", "best"] = "best"
    """`best` compares them all on the fit split; whatever does not beat no steering there is dropped."""
    labels: Count | None = None
    """Examples of each emotion whose labels steering learns from; other fit texts count as unlabelled. None: all."""
    readers: Count = 40
    """At most this many features are read by a coupling, all labels together."""
    features: Count = 30
    """At most this many causal features are steered, the strongest first."""
    first_layer: Number | None = None
    """Only features of this layer and above are steered; None: of all. Fitting costs what lies above the lowest one."""
    perplexity_budget: Annotated[Ratio, Field(ge=1)] = 1.05
    """Largest allowed perplexity ratio on plain text with steering on at every position."""
    harm_budget: Annotated[Ratio, Field(ge=0, le=1)] = 0.03
    """Largest allowed share of changed answers on held-out anchor texts, of any anchor corpus."""
    low_rank: Annotated[Number, Field(le=4096)] = 0
    """Rank of a low-rank fine-tuning of the weights on the fit examples, as an outside reference; 0: none."""
    learning_curve: Annotated[Number, Field(le=10_000)] = 0
    """Draws per number of labelled examples of each emotion (0 to 50) for the curve of gain by number; 0: no curve."""


@dataclass(frozen=True, config=_strict)
class FluencyConfig:
    path: PathText | None = None
    """Plain text, documents separated by `<|endoftext|>`; None takes the bundled one."""
    limit: int = 20_000
    """At most about this many tokens of it, from its beginning."""

    def __post_init__(self) -> None:
        if self.limit < 2:
            raise ValueError(f"limit must be at least 2 tokens; got {self.limit}")


@dataclass(frozen=True, config=_strict)
class ResourcesConfig:
    """What each process computes with; it says how a run is computed and not what."""

    cpus: Annotated[Ratio | None, Field(ge=0.01, le=4096), AfterValidator(_quantity)] = None
    """Processors of each worker, one thread each; less than one where workers share one. None: one, or, with
    `engine local`, all that there are."""
    gpus: Annotated[Ratio, Field(ge=0, le=64), AfterValidator(_quantity)] = 0.0
    """GPUs of each worker; less than one where workers share one."""
    workers: Count | None = None
    """How many workers; None: as many as there is room for."""


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


@dataclass(frozen=True, config=_strict)
class SaesConfig:
    name: PathText = "auto"
    """Bundled name, release of SAELens' registry, or folder with one folder per layer. `auto`: those that ship for the
    model, else `none`: what needs no features is done."""
    layers: Annotated[list[Number] | None, AfterValidator(_layers)] = None
    """Only these layers; None: all that are covered."""
    width: Annotated[str | Count | None, AfterValidator(_width)] = None
    """Number of features (`16k`), where a release has several."""
    l0: Annotated[Ratio | str | None, AfterValidator(_l0)] = None
    """Mean number of active features, or the release's word for it (small, medium, big); the nearest is taken."""
    resident: Count | None = None
    """Most SAEs in memory at once; None: all if they are small, else 2."""
    force: Flag = False
    """Go on with SAEs that declare another model or that reconstruct nothing."""


@dataclass(frozen=True, config=_strict)
class Config:
    """A whole experiment."""

    name: Annotated[str, AfterValidator(_name)] = "tiny"
    """Of the run, and of its folder."""
    model: PathText = "tiny"
    """Bundled name, hub id, or folder in Hugging Face format."""
    saes: Annotated[SaesConfig, BeforeValidator(_named)] = field(default_factory=SaesConfig)
    """A name alone stands for `{name: ...}`."""
    labels: Annotated[list[Label], BeforeValidator(_label_set)] = field(default_factory=lambda: list(EKMAN))
    """The emotions that the model chooses from: a list, or a published set (ekman6, plutchik8, goemotions27,
    goemotions28, empathetic32)."""
    corpora: CorporaConfig = field(default_factory=CorporaConfig)
    prompt: PromptConfig = field(default_factory=PromptConfig)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    steering: SteeringConfig = field(default_factory=SteeringConfig)
    fluency: FluencyConfig = field(default_factory=FluencyConfig)
    resamples: Annotated[int, Field(strict=True, ge=100, le=1_000_000)] = RESAMPLES
    """Bootstrap resamples behind every interval."""
    seed: Seed = 0
    """From which all others come: of draws, folds and resamples."""
    device: Annotated[str, AfterValidator(_device)] = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Number format of the model's weights; `auto`: float32 on a CPU."""
    device_map: Literal["auto"] | None = None
    """`auto`: accelerate spreads the model's layers over all GPUs."""
    quantization: Literal["8bit", "4bit"] | None = None
    """Weights in 8 or 4 bits through bitsandbytes, on CUDA."""
    batch_size: Count | Literal["auto"] = "auto"
    """Prompt tokens per pass."""
    out: PathText = "runs"
    """Folder under which `<name>/` is made, or a URL that fsspec opens, such as s3://bucket/runs."""
    engine: Annotated[str, AfterValidator(_engine)] = "local"
    """Where units of work are computed: `local`, in this process; `ray`, in workers on this machine; `auto`, on the
    Ray cluster that this machine belongs to; `ray://HOST:PORT`, on one that is reached through Ray's client."""
    resources: ResourcesConfig = field(default_factory=ResourcesConfig)
    """Of each worker. Engine and resources are no part of a run: its files are the same whatever computed them."""

    def __post_init__(self) -> None:
        if self.saes.name == AUTO_SAES:  # the record says which those were
            found = self.model if self.model in BUNDLED_SAES else NO_SAES
            object.__setattr__(self, "saes", replace(self.saes, name=found))
        if len(self.labels) < 2 or len(set(self.labels)) < len(self.labels):
            raise ValueError(f"labels must be at least two different words; got {quoted(self.labels)}")
        if not self.corpora.test:
            raise ValueError("corpora.test must name at least one corpus")
        if self.steering.method == "gated" and not self.corpora.anchors:
            raise ValueError(
                "steering.method gated needs texts to leave alone: name some under corpora.anchors, such as"
                " --corpora.anchors.0.name goemotions (their labels are not used)"
            )
        corpus_names(asdict(self.corpora))
        self._check_several()
        parts = [("discover", self.corpora.discover.mapping), ("fit", self.corpora.fit.mapping)]
        parts += [(f"test.{i}", c.mapping) for i, c in enumerate(self.corpora.test)]
        parts += [(f"ratings.{i}", c.mapping) for i, c in enumerate(self.corpora.ratings)]
        for part, mapping in parts:
            for own, label in (mapping or {}).items():
                if label not in self.labels:
                    raise ValueError(
                        f"corpora.{part}.mapping makes {quoted(own)} {quoted(label)}, which is none of the labels"
                        f"{nearest(label, self.labels)}"
                    )

    def _check_several(self) -> None:
        anchors = ((f"anchors.{i}", c) for i, c in enumerate(self.corpora.anchors))
        for part, corpus in [("discover", self.corpora.discover), ("fit", self.corpora.fit), *anchors]:
            if corpus.several:
                raise ValueError(
                    f"corpora.{part}.several: features are found and steerings chosen on texts with one emotion; give"
                    " several to corpora under test"
                )
        joined = next((label for label in self.labels if TOGETHER in label), None)
        if joined is not None and any(c.several for c in self.corpora.test):
            raise ValueError(f"labels must not hold {TOGETHER!r} where texts may have several; got {quoted(joined)}")

    def as_dict(self) -> dict[str, Any]:
        """What is computed, as a run records it: all fields but those that say how."""
        return {name: value for name, value in asdict(self).items() if name not in HOW}


def load_config(path: str | Path | None, overrides: Mapping[str, str] | None = None) -> Config:
    """The configuration of a YAML file with dotted overrides (`tracing.candidates` -> `"32"`) on top.

    What a scalar means is decided by its field: a text field holds the text as it stands (`yes`, `2024` and `a: b #c`
    among them), a number field a number.

    Raises:
        UserError: missing file, broken YAML, unknown key (the nearest is named), or a value out of place.
    """
    where = "the command line" if path is None else str(path)
    return made_config({} if path is None else load_words(Path(path)), where, overrides)


def made_config(words: Mapping[str, Any], where: str, fields: Mapping[str, Any] | None = None) -> Config:
    """The configuration of a tree of words, as YAML gives it, with dotted fields on top.

    Args:
        where: the tree comes from, for messages.
        fields: by dotted key, words as on the command line, or lists and mappings of words as in YAML.

    Raises:
        UserError: as `load_config`.
    """
    tree: Any = deepcopy(dict(words))
    if isinstance(tree.get("saes"), str):
        tree["saes"] = _named(tree["saes"])
    tree = typed(tree, Config)
    for key, value in (fields or {}).items():
        if key == "saes" and isinstance(value, str) and not value.lstrip().startswith("{"):
            key = "saes.name"
        if key == "labels" and isinstance(value, str) and re.fullmatch(r"\w+", value):
            tree["labels"] = value
            continue
        steps = _steps(key)
        _set(tree, key, typed(value, _kind_at(Config, steps), key=key))
    try:
        return _validated(tree)
    except ValidationError as error:
        raise UserError(_explain(error, where, fields or {})) from None


def config_of(folder: Path) -> Config:
    """The configuration that made a run folder, with its local files where they lay then.

    Raises:
        UserError: not a run folder, or one of another version.
    """
    record = read_record(folder)
    path = folder / "run.json"
    try:
        config = _validated(record["config"])
    except ValidationError as error:
        raise UserError(_explain(error, str(path))) from None
    except KeyError:
        raise DamagedError(path, "no configuration in it") from None
    places = record.get("paths", {})
    if not isinstance(places, dict):
        raise DamagedError(path, "its paths are no table")
    return _moved(config, {str(key): str(place) for key, place in places.items()})


def local_paths(config: Config) -> dict[str, str]:
    """Dotted key of every field that names a file or folder here, and its absolute path."""
    return {key: str(Path(value).absolute()) for key, value in _path_values(config) if Path(value).exists()}


def _path_values(part: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of the fields that may hold a path, those of lists by number; `out` is where the run is."""
    hints = hints_of(type(part))
    for f in fields(part):
        value, key = getattr(part, f.name), prefix + f.name
        if is_dataclass(value):
            yield from _path_values(value, f"{key}.")
        elif isinstance(value, list) and value and is_dataclass(value[0]):
            for i, one in enumerate(value):
                yield from _path_values(one, f"{key}.{i}.")
        elif isinstance(value, str) and key != "out" and value != NO_SAES and _is_path(hints[f.name]):
            yield key, value


def _is_path(hint: Any) -> bool:
    return hint == PathText or any(_is_path(inner) for inner in get_args(hint) if inner is not hint)


def _moved(config: Config, places: Mapping[str, str]) -> Config:
    """Relative paths as absolute ones where the file still lies there; else as they are, from the present folder."""
    tree = config.as_dict()
    for key, value in _path_values(config):
        if key in places and (Path(places[key]).exists() or not Path(value).exists()):
            _set(tree, key, places[key])
    return _validated(tree)


def _validated(tree: Any) -> Config:
    return _adapter().validate_python(tree)


@cache
def _adapter() -> TypeAdapter[Config]:
    return TypeAdapter(Config)


@cache
def known_keys() -> list[str]:
    """All dotted keys of the tree."""
    return dotted_keys(Config)


def _steps(key: str) -> list[str]:
    steps = key.split(".")
    if not all(steps) or len(steps) > 8:
        raise UserError(f"--{quoted(key)[1:-1]} is no field of the configuration.")
    return steps


def _kind_at(kind: Any, steps: Sequence[str]) -> Any:
    """The type of a field by its dotted key; None where there is none (it is refused as unknown later)."""
    for step in steps:
        inner = None
        for one in alternatives(kind):
            if is_dataclass(one):
                inner = hints_of(one).get(step)
            elif get_origin(one) is list and step.isdigit():
                inner = get_args(one)[0]
            elif get_origin(one) is dict:
                inner = get_args(one)[1]
        kind = inner
    return kind


def _set(tree: dict[str, Any], key: str, value: Any) -> None:
    """`corpora.test.0.limit` walks into dicts by name and into lists by number."""
    part: Any = tree
    steps = key.split(".")
    last = steps[-1]
    for step, following in pairwise(steps):
        empty: Any = [] if following.isdigit() else {}
        if isinstance(part, list):
            index = _index(part, step, key)
            if index == len(part):
                part.append(empty)
            part = part[index]
        else:
            if not isinstance(part.get(step), dict | list):
                part[step] = empty
            part = part[step]
        if not isinstance(part, dict | list):
            raise UserError(f"--{key} is no field of the configuration: {quoted(step)} is a value of its own.")
    if isinstance(part, list):
        index = _index(part, last, key)
        part[index : index + 1] = [value]
    else:
        part[last] = value


def _index(items: list[Any], step: str, key: str) -> int:
    if not step.isdigit() or int(step) > len(items):
        raise UserError(f"--{key}: {quoted(step)} is no place in a list of {len(items)}.")
    return int(step)


def _explain(error: ValidationError, where: str, flags: Iterable[str] = ()) -> str:
    """The first complaint, in one line that blames the flag or the file that the value came from."""
    first = error.errors()[0]
    # Steps of pydantic's own, such as the branches of a union, are no keys.
    steps = [str(s) for s in first["loc"] if isinstance(s, int) or re.fullmatch(r"[A-Za-z_]\w*", str(s))]
    while steps and not steps[-1].isdigit() and not _is_key(steps):
        steps.pop()
    key = ".".join(steps)
    parts = [".".join(map(str, first["loc"])), key]
    where = next((f"--{flag}" for flag in flags if any(_is_within(part, flag) for part in parts)), where)
    if first["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        key = ".".join(str(s) for s in first["loc"])
        siblings = _fields_at(Config, [str(s) for s in first["loc"][:-1]])
        return f"{where}: unknown key {quoted(key)}{nearest(str(first['loc'][-1]), siblings)}"
    message = first["msg"].removeprefix("Value error, ")
    for kind, words in (("ge", "at least"), ("le", "at most")):
        if kind in first.get("ctx", {}):
            message = f"{steps[-1] if steps else 'it'} must be {words} {first['ctx'][kind]}"
    given = first.get("input")
    shown = f" (got {quoted(given)})" if not isinstance(given, dict) and "got" not in message else ""
    place = where if where == f"--{key}" else f"{where}: {key}" if key else where
    return f"{place}: {message[0].lower() + message[1:]}{shown}".rstrip("?.") + ("?" if message.endswith("?") else ".")


def _is_within(key: str, flag: str) -> bool:
    """Whether a flag set a field, something in it, or the part that it lies in."""
    return key == flag or key.startswith(f"{flag}.") or (key != "" and flag.startswith(f"{key}."))


def _is_key(steps: Sequence[str]) -> bool:
    return steps[-1] in _fields_at(Config, steps[:-1])


def _fields_at(kind: Any, steps: Sequence[str]) -> list[str]:
    inner = alternatives(_kind_at(kind, steps))[0]
    return [f.name for f in fields(inner)] if is_dataclass(inner) else []
