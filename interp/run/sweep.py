"""A sweep: many runs that differ in some fields, told by one YAML file; which they are, and what would clash."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import UserError, nearest, quoted
from interp.files.folder import RunFolder, fingerprint
from interp.files.remote import is_url
from interp.files.scalars import load_words
from interp.resources import shipped
from interp.run.config import HOW, MOST_LETTERS, Config, made_config
from interp.run.places import known_folder, out_path, run_path, run_url
from interp.run.shared import loaded_as

KEYS = ("base", "grid", "list", "name", "out", "command", "store_gb")
COMMANDS = ("run", "trace", "trees", "steer")
MOST_RUNS = 10_000
STORE_GB = 10.0
OWN = ("name", "out")
"""Fields that a sweep makes for every run."""
PLACES = ("out", *HOW)
"""Fields that say where a run is and by what it is computed, and nothing of what it is."""


class Axis(NamedTuple):
    """What is varied together: by the word that stands for it in names, fields with their values."""

    name: str
    settings: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class SweptRun:
    """One run of a sweep.

    Attributes:
        point: by axis, the word for its setting there.
    """

    config: Config
    point: dict[str, str]

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def folder(self) -> Path:
        return run_path(self.config)


@dataclass(frozen=True)
class Sweep:
    """The runs of a sweep, in the order in which they run.

    Attributes:
        axes: names of what is varied.
        command: how far they go: one of `COMMANDS`.
        store_bytes: what their captures and units may take on disk; 0: nothing is kept for other runs there.
        url: where runs, table and comparison are put; `out` is then a working copy. None: `out` alone.
    """

    path: Path
    out: Path
    axes: list[str]
    runs: list[SweptRun]
    command: str = "run"
    store_bytes: int = int(STORE_GB * 1e9)
    url: str | None = None


def load_sweep(path: Path, fields: Mapping[str, str] | None = None) -> Sweep:
    """The sweep of a YAML file.

    `base` is a config (a path, beside the sweep's file or from the working folder, or a mapping; that of the bundled
    model where it is left out). `grid` crosses axes: a field with a list of values, or any word with a mapping of names
    to mappings of fields, which are set together. `list` names the runs one by one, as mappings of fields. `name` is a
    pattern for the runs' names: `{name}` of the base, `{number}`, and any axis or field.

    Args:
        fields: of the base, as on the command line.

    Raises:
        UserError: anything in the file that is not so, runs that would overwrite each other, a value out of place, or
            a run folder that belongs to other settings.
    """
    tree = load_words(path)
    unknown = next((key for key in tree if key not in KEYS), None)
    if unknown is not None:
        raise UserError(f"{path}: unknown key {quoted(unknown)} of a sweep{nearest(str(unknown), KEYS)}")
    if ("grid" in tree) == ("list" in tree):
        raise UserError(f"{path} must hold either a grid (field: list of values) or a list (mappings of fields).")
    command = str(tree.get("command", "run"))
    if command not in COMMANDS:
        raise UserError(f"{path}: command must be one of {', '.join(COMMANDS)}; got {quoted(command)}.")
    base, where = _base(path, tree.get("base"))
    axes = _grid(path, tree["grid"]) if "grid" in tree else [_listed(path, tree["list"])]
    first = made_config(base, where, fields)
    _refuse_swept(path, axes, fields or {})
    place = str(tree.get("out") or f"{first.out.rstrip('/')}/{path.stem}")
    url = place if is_url(place) else None
    place = url or str(Path(place).expanduser())
    n_runs = 1
    for axis in axes:
        n_runs *= len(axis.settings)
    if n_runs > MOST_RUNS:
        raise UserError(f"{path} stands for {n_runs:,} runs, more than {MOST_RUNS:,}; sweep fewer values.")
    runs = []
    for number, words in enumerate(product(*(axis.settings for axis in axes)), start=1):
        point = {axis.name: word for axis, word in zip(axes, words, strict=True)}
        settings: dict[str, Any] = {}
        for axis, word in zip(axes, words, strict=True):
            settings |= axis.settings[word]
        name = _named(path, tree.get("name"), first.name, number, point, settings, listed="list" in tree)
        own = {**(fields or {}), **settings, "name": name, "out": place}
        try:
            runs.append(SweptRun(made_config(base, where, own), point))
        except UserError as error:
            raise UserError(f"{path}, run {quoted(name)}: {str(error).removeprefix('--')}") from None
    _refuse_twins(path, runs)
    _refuse_strangers(runs)
    names, store_bytes = [axis.name for axis in axes], _store_bytes(path, tree)
    return Sweep(path, out_path(place), names, in_order(runs), command, store_bytes, url)


def in_order(runs: Sequence[SweptRun]) -> list[SweptRun]:
    """The runs so that a model is loaded once, and its SAEs once while it is; else as they were given."""
    models = list(dict.fromkeys(loaded_as(run.config) for run in runs))
    stacks = list(dict.fromkeys(_stack(run) for run in runs))
    return sorted(runs, key=lambda run: (models.index(loaded_as(run.config)), stacks.index(_stack(run))))


def _stack(run: SweptRun) -> str:
    return fingerprint(run.config.as_dict()["saes"])


def _store_bytes(path: Path, tree: Mapping[str, Any]) -> int:
    given = str(tree.get("store_gb", STORE_GB))
    if not re.fullmatch(r"\d{1,6}(\.\d{1,6})?", given):
        raise UserError(f"{path}: store_gb must be a number of gigabytes, 0 for none; got {quoted(given)}.")
    return int(float(given) * 1e9)


def _base(path: Path, given: Any) -> tuple[dict[str, Any], str]:
    """The base's words, and where they come from."""
    if given is None:
        return load_words(shipped("experiments/tiny.yaml")), "experiments/tiny.yaml"
    if isinstance(given, Mapping):
        return dict(given), f"{path}: base"
    if not isinstance(given, str):
        raise UserError(f"{path}: base must be the path of a config or a mapping of its fields; got {quoted(given)}.")
    beside = path.parent / given
    base = beside if beside.is_file() else Path(given).expanduser()
    if not base.is_file():
        raise UserError(f"{path}: base {quoted(given)} is no file, neither beside {path.name} nor from here.")
    return load_words(base), str(base)


def _grid(path: Path, given: Any) -> list[Axis]:
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{path}: grid must be a mapping of fields to lists of values, such as `seed: [0, 1]`.")
    axes = []
    for name, values in given.items():
        key = str(name)
        if isinstance(values, Mapping) and values:
            for word, settings in values.items():
                if not isinstance(settings, Mapping) or not settings:
                    raise UserError(f"{path}: grid.{key}.{word} must be a mapping of fields to values.")
            axes.append(Axis(key, {str(word): _fields(path, settings) for word, settings in values.items()}))
        elif isinstance(values, list) and values:
            words = _words(values)
            twice = next((word for i, word in enumerate(words) if word in words[:i]), None)
            if twice is not None:
                raise UserError(
                    f"{path}: grid.{key} names {quoted(twice)} twice; name each value once, or name the settings"
                    f" ({key}: {{one: {{field: value}}}})."
                )
            settings_of = {word: _fields(path, {key: value}) for word, value in zip(words, values, strict=True)}
            axes.append(Axis(key, settings_of))
        else:
            raise UserError(
                f"{path}: grid.{key} must be a list of values, or a mapping of names to mappings of fields; got"
                f" {quoted(values)}."
            )
    return axes


def _listed(path: Path, given: Any) -> Axis:
    if not isinstance(given, list) or not given or not all(isinstance(one, Mapping) and one for one in given):
        raise UserError(f"{path}: list must be a list of mappings of fields to values, such as `- {{seed: 1}}`.")
    return Axis("run", {str(number): _fields(path, one) for number, one in enumerate(given, start=1)})


def _fields(path: Path, settings: Mapping[Any, Any]) -> dict[str, Any]:
    own = next((str(key) for key in settings if str(key) in OWN), None)
    if own is not None:
        raise UserError(f"{path}: {own} cannot be swept; runs are called by the sweep's `name` and lie in its `out`.")
    return {str(key): value for key, value in settings.items()}


def _words(values: Sequence[Any]) -> list[str]:
    """A word for each value: itself, of a path its last part, of a list or mapping its number."""
    return [_slug(value) if isinstance(value, str) else str(i) for i, value in enumerate(values, start=1)]


def _slug(text: str) -> str:
    last = text.rstrip("/").rpartition("/")[2] if "/" in text else text
    return re.sub(r"[^\w.+-]+", "-", last).strip("-.")[:40] or "none"


PLACE = re.compile(r"\{([^{}]*)\}")


def _named(
    path: Path,
    pattern: Any,
    base: str,
    number: int,
    point: Mapping[str, str],
    settings: Mapping[str, Any],
    *,
    listed: bool,
) -> str:
    """The name of a run, by the pattern or by what is varied."""
    values = dict(zip(settings, _words(list(settings.values())), strict=True))
    known = values | dict(point) | {"name": base, "number": f"{number:03d}"}
    if pattern is None:
        shown = values if listed else point
        pattern = "_".join(["{name}", *(f"{axis.rpartition('.')[2]}-{{{axis}}}" for axis in shown)])

    def filled(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise UserError(
                f"{path}: name holds {quoted(match[0])}, which is nothing that is swept{nearest(match[1], known)}"
            )
        return known[match[1]]

    name = PLACE.sub(filled, str(pattern))
    if len(name.encode()) > MOST_LETTERS:
        name = f"{name[:60]}_{number:03d}"
    return name


def _refuse_swept(path: Path, axes: Sequence[Axis], fields: Mapping[str, str]) -> None:
    for axis in axes:
        for settings in axis.settings.values():
            for key in settings:
                given = next(
                    (f for f in fields if f == key or f.startswith(f"{key}.") or key.startswith(f"{f}.")), None
                )
                if given is not None:
                    raise UserError(f"--{given} is what {path} sweeps ({axis.name}); take it out of one of the two.")
    own = next((field for field in fields if field in OWN), None)
    if own == "out":
        raise UserError(f"--out: the folder of a sweep is its `out`; set it in {path}.")
    swept = [key for axis in axes for key in dict.fromkeys(k for s in axis.settings.values() for k in s)]
    twice = next((key for i, key in enumerate(swept) if key in swept[:i]), None)
    if twice is not None:
        raise UserError(f"{path}: {twice} is set by two axes of the grid; set it in one of them.")


def _refuse_twins(path: Path, runs: Sequence[SweptRun]) -> None:
    """Runs of one name would overwrite each other, also where a file system does not tell capitals."""
    seen: dict[str, SweptRun] = {}
    for run in runs:
        twin = seen.setdefault(run.name.casefold(), run)
        if twin is not run:
            differ = ", ".join(axis for axis in run.point if run.point[axis] != twin.point.get(axis)) or "nothing"
            raise UserError(
                f"{path}: two runs would be called {quoted(run.name)} and overwrite each other (they differ in"
                f" {differ}); put what tells them apart into the sweep's name, such as {{{next(iter(run.point))}}}."
            )


def _refuse_strangers(runs: Sequence[SweptRun]) -> None:
    """A folder that is there must be of the very run that goes there."""
    for run in runs:
        if run.folder.exists() and not run.folder.is_dir():
            raise UserError(f"{run.folder} is a file; choose another out for the sweep.")
        if run_url(run.config) is None and (run.folder / "run.json").exists():
            RunFolder.open(run.folder, run.name)  # refuses a damaged one, or another's
        record = known_folder(run.config).record
        if "config" not in record:
            continue
        different = differing_field(record["config"], json.loads(json.dumps(run.config.as_dict())))
        if different is not None:
            raise UserError(
                f"{run.folder} belongs to other settings ({different}); choose another out or name for the sweep, or"
                " remove the folder."
            )


def differing_field(one: Any, other: Any, key: str = "") -> str | None:
    """The first field in which two configurations differ (`seed is 1, not 0`); those that one lacks are passed over."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for name in one:
            inner = f"{key}.{name}" if key else str(name)
            if name in other and inner not in PLACES:
                found = differing_field(one[name], other[name], inner)
                if found is not None:
                    return found
        return None
    return None if one == other else f"{key} is {quoted(one)}, not {quoted(other)}"
