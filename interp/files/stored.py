"""Files as they were written: their size and hash, and reading that says which one is damaged."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from interp.errors import DamagedError, UserError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

THREADS = 4
"""Files hashed at a time; hashing lets go of the interpreter's lock."""
UNREADABLE = (ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile, zlib.error, RecursionError, OverflowError)
"""What readers raise for bytes that are not what was written (`ArrowInvalid` and JSON errors are `ValueError`s)."""


class Stored(NamedTuple):
    """What is known of a file's contents."""

    size: int
    sha256: str


def stored(path: Path) -> Stored:
    """Size and hash of a file."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return Stored(file.tell(), digest)


def files_below(folder: Path, outputs: Iterable[str]) -> list[str]:
    """The files that `outputs` (files or folders, relative to `folder`) stand for; hidden ones are not counted."""
    found: list[str] = []
    for output in outputs:
        path = folder / output
        inside = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
        found += [p.relative_to(folder).as_posix() for p in inside if p.is_file() and not p.name.startswith(".")]
    return found


def contents(folder: Path, names: Sequence[str]) -> dict[str, Stored]:
    """Size and hash by name."""
    with ThreadPoolExecutor(THREADS) as pool:
        return dict(zip(names, pool.map(lambda name: stored(folder / name), names), strict=True))


def differing(folder: Path, recorded: Mapping[str, Sequence[Any]]) -> list[str]:
    """The recorded names under which there is no file, a link, or other contents; sizes are compared first."""

    def same(name: str) -> bool:
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != recorded[name][0]:
            return False
        return stored(path) == tuple(recorded[name])

    with ThreadPoolExecutor(THREADS) as pool:
        return [name for name, equal in zip(recorded, pool.map(same, recorded), strict=True) if not equal]


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DamagedError: it is no JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise DamagedError(path, _reason(error)) from None


def read_table(path: Path, columns: Sequence[str] | None = None) -> "pd.DataFrame":
    """A Parquet table.

    Raises:
        DamagedError: it is none, or lacks one of `columns`.
    """
    import pandas as pd

    try:
        return pd.read_parquet(path, columns=None if columns is None else list(columns))
    except (*UNREADABLE, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedError(path, _reason(error)) from None


def read_arrays(path: Path, names: Sequence[str] | None = None) -> "dict[str, np.ndarray]":
    """The arrays of an `.npz`, or those of some names.

    Raises:
        DamagedError: it is none, or one of its arrays is damaged.
    """
    import numpy as np

    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in (file.files if names is None else names)}
    except (*UNREADABLE, AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DamagedError(path, _reason(error)) from None


def read_record(folder: Path) -> dict[str, Any]:
    """The `run.json` of a folder, with the entries in place that every reader counts on.

    Raises:
        UserError: there is none.
        DamagedError: it is no JSON, or no record of a run.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise UserError(f"{folder} is no run folder (it holds no run.json); give one such as runs/tiny.")
    record = read_json(path)
    if not is_record(record):
        raise DamagedError(path, "no record of a run")
    found: dict[str, Any] = record
    return found


def recorded(record: Mapping[str, Any]) -> dict[str, Stored]:
    """Size and hash of every file of the finished stages."""
    found: dict[str, Stored] = {}
    for entry in record.get("stages", {}).values():
        found |= {name: Stored(*facts) for name, facts in entry.get("outputs", {}).items()}
    return found


def as_recorded(folder: Path, names: Iterable[str], record: Mapping[str, Any]) -> None:
    """Files of a run are read as they were written, or not at all.

    Raises:
        DamagedError: the contents of one are not those that `run.json` records; one that no stage recorded passes.
    """
    known = recorded(record)
    wanted = {name: known[name] for name in names if name in known and (folder / name).exists()}
    for name in differing(folder, wanted):
        raise DamagedError(folder / name, "not what run.json records", "the command that made the run makes it again.")


def is_record(record: Any) -> bool:
    """Whether it has the parts that every reader of a `run.json` counts on."""
    if not isinstance(record, dict):
        return False
    stages = record.get("stages", {})
    if not isinstance(record.get("config", {}), dict) or not isinstance(record.get("name", ""), str):
        return False
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        return False
    outputs = [entry.get("outputs", {}) for entry in stages.values()]
    if not all(isinstance(part, dict) for part in outputs):
        return False
    lines = [line for part in outputs for line in part.values()]
    return all(isinstance(line, list) and [type(v) for v in line] == [int, str] for line in lines)


def _reason(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return type(error).__name__ if not first or len(first) > 120 else first
