"""A run folder: files written whole or not at all, and which of them are still valid."""

import errno
import hashlib
import json
import math
import os
import shutil
import socket
import stat
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, SoftFileLock, Timeout

from interp.errors import CONTROL, DamagedError, UserError, quoted
from interp.files.stored import Stored, contents, differing, files_below, read_json, read_record

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

__all__ = [
    "RunFolder",
    "claimed",
    "fingerprint",
    "linked",
    "out_of_space",
    "parts_named",
    "read_json",
    "remove_parts",
    "write_arrays",
    "write_json",
    "write_rows",
    "write_table",
    "writing",
]
SCHEMA_VERSION = 3
"""Layout of a run folder. 2: what a stage wrote is kept with size and hash; 3: effects have a `role`, no `split`."""
LOCK = ".lock"


_own = ""
"""Who writes, where several processes write into one folder."""


def parts_named(own: str) -> None:
    """From now on temporary names of this process hold `own`: another may be writing the same file at this moment."""
    global _own
    _own = own


def remove_parts(folder: Path) -> None:
    """Takes away what processes with such names had not finished when they were killed."""
    for left in folder.rglob(".*.part"):
        left.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when the block ends well, and vanishes when it does not.

    What lies under the temporary name is replaced and not followed; the file gets the mode that the umask leaves.

    Raises:
        OSError: the disk is full, whichever library noticed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{_own}.part" if _own else f"{path.name}.part")
    part.unlink(missing_ok=True)  # of a killed process, or a link that somebody put there
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o666)
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    try:
        yield part
        part.chmod(mode)  # safetensors puts a file of its own there, for its owner alone
        part.replace(path)
    except Exception as error:
        if out_of_space(error) and not isinstance(error, OSError):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise
    finally:
        part.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    with writing(path) as part:
        part.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: "pd.DataFrame") -> None:
    with writing(path) as part:
        table.to_parquet(part, index=False)


def write_arrays(path: Path, arrays: "Mapping[str, np.ndarray]") -> None:
    """A compressed `.npz`, the same bytes for the same arrays.

    Raises:
        ValueError: an array of Python objects.
    """
    import numpy as np

    if objects := [name for name, array in arrays.items() if array.dtype.hasobject]:
        raise ValueError(f"Arrays of Python objects are not written: {objects}.")
    by_name: Mapping[str, Any] = arrays  # newer numpy has an option among the names
    with writing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, **by_name)


def write_rows(
    path: Path, name: str, parts: "Iterable[Tensor]", shape: tuple[int, ...], metadata: Mapping[str, str]
) -> None:
    """A safetensors file of one tensor that is never whole in memory: `parts` are its rows, in order, on the CPU.

    Raises:
        ValueError: the parts do not add up to `shape`.
    """
    import torch

    with writing(path) as part, part.open("wb") as file:
        written = 0
        for rows in parts:
            if not written:
                kind = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}[rows.dtype]
                size = math.prod(shape) * rows.element_size()
                entry = {"dtype": kind, "shape": list(shape), "data_offsets": [0, size]}
                header = json.dumps({"__metadata__": dict(metadata), name: entry}).encode()
                header += b" " * (-len(header) % 8)
                file.write(len(header).to_bytes(8, "little") + header)
            file.write(rows.contiguous().view(torch.uint8).numpy().data)
            written += rows.nbytes
        if written != size:
            raise ValueError(f"{name}: {written} bytes of {size} were given for shape {shape}.")


def fingerprint(value: Any, *, whole: bool = False) -> str:
    """A hash of anything JSON can hold, a short one unless the whole is asked for."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
    return digest if whole else digest[:16]


def linked(source: Path, target: Path) -> None:
    """Puts a file in another place as well: as a hard link, or as a copy where the file system has none.

    Files of a run are replaced and never written into, so that neither changes with the other.
    """
    part = target.with_name(f"{target.name}.part")
    target.parent.mkdir(parents=True, exist_ok=True)
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        with writing(target) as part:
            shutil.copyfile(source, part)
    else:
        part.replace(target)


@contextmanager
def claimed(folder: Path, record: str | None = "run.json") -> Iterator[None]:
    """Holds a folder, made if need be, against every other process for as long as the block lasts.

    Args:
        record: the file by which a folder is known as one of ours; one that holds others but not this is left alone.
            None: whatever it holds.

    Raises:
        UserError: another process writes the folder (it is named), the folder holds something else, or it cannot be
            written.
    """
    if CONTROL.search(str(folder)) or "\n" in str(folder):
        raise UserError(f"{quoted(str(folder))} is no name for a folder: it holds control characters.")
    lock = FileLock(folder / LOCK, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if record and not (folder / record).exists() and any(child.name != LOCK for child in folder.iterdir()):
            raise UserError(f"{folder} holds files but no {record}: it is no run folder; choose another --out or name.")
        if (folder / LOCK).is_symlink():
            (folder / LOCK).unlink()
        lock.acquire()
    except Timeout:
        raise UserError(
            f"{folder} is being written by {_holder(folder)}; wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise UserError(f"Cannot write to {folder}: {error.strerror}; choose another --out.") from None
    soft = isinstance(lock, SoftFileLock)  # where the file system has no locks, its file says whose it is
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    try:
        if not soft:
            facts = {"pid": os.getpid(), "host": socket.gethostname(), "since": since}
            (folder / LOCK).write_text(json.dumps(facts), encoding="utf-8")
        yield
    finally:
        if not soft:
            with suppress(OSError):
                os.truncate(folder / LOCK, 0)
        lock.release()


def _holder(folder: Path) -> str:
    try:
        facts = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return f"process {int(facts['pid'])} on {facts['host']} since {facts['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


class RunFolder:
    """The folder of one experiment. `run.json` says what made each stage's files, and their sizes and hashes.

    A stage's files are valid while the fingerprint under which they were begun is the present one and, once it has
    finished, while their contents are those recorded: then those that exist are kept, and a killed stage goes on at its
    first missing file. Otherwise they are removed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.record: dict[str, Any] = read_record(path) if (path / "run.json").exists() else {}

    @classmethod
    def open(cls, path: Path, name: str) -> "RunFolder":
        """The folder for the experiment `name`; `claimed` makes it and keeps others out.

        Raises:
            UserError: the folder is that of another experiment, or its record is damaged.
        """
        try:
            folder = cls(path)
        except DamagedError as error:
            raise UserError(f"{error.path} is damaged; remove {path} or choose another --out.") from None
        owner = folder.record.get("name", name)
        if owner != name:
            raise UserError(f"{path} belongs to experiment {owner!r}, not {name!r}; choose another --out.")
        return folder

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def note(self, **entries: Any) -> None:
        """Adds to `run.json`."""
        self.record = {"schema_version": SCHEMA_VERSION} | self.record | entries
        write_json(self.path / "run.json", self.record)

    def is_current(self, stage: str, print_: str) -> bool:
        """Whether a stage has finished under this fingerprint; `broken` says whether its files are still there."""
        entry = self._entry(stage)
        return entry.get("fingerprint") == print_ and entry.get("finished", False)

    def outputs(self, stage: str) -> dict[str, Stored]:
        """What a finished stage wrote, as recorded."""
        return {name: Stored(*facts) for name, facts in self._entry(stage).get("outputs", {}).items()}

    def broken(self, stage: str, outputs: Sequence[str]) -> list[str]:
        """Files of a finished stage that are missing, changed, linked elsewhere, or that it did not write."""
        known = self.outputs(stage)
        if not known:  # made before hashes were kept
            return list(outputs)
        linked = [name for name in outputs if (self.path / name).is_symlink()]
        strange = [name for name in files_below(self.path, outputs) if name not in known]
        return list(dict.fromkeys([*linked, *differing(self.path, known), *strange]))

    def discard(self, names: Iterable[str]) -> None:
        """Removes files and folders; a link goes, what it leads to stays."""
        for name in names:
            target = self.path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)

    def forget(self, stages: Mapping[str, Sequence[str]]) -> None:
        """Removes what stages wrote that are no longer part of the run.

        Args:
            stages: by name, their outputs.
        """
        known: dict[str, Any] = self.record.get("stages", {})
        gone = [name for name in stages if name in known]
        self.discard(output for name in gone for output in stages[name])
        if gone:
            self.note(stages={name: entry for name, entry in known.items() if name not in gone})

    def begin(self, stage: str, print_: str, outputs: Sequence[str], *, anew: bool = False) -> bool:
        """Makes ready for a stage; True if stale files of an earlier configuration were removed.

        Args:
            anew: remove what is there whatever made it.
        """
        entry = self._entry(stage)
        stale = bool(entry) and entry.get("fingerprint") != print_
        if entry.get("fingerprint") != print_ or anew:
            self.discard(outputs)
        self.discard(name for name in outputs if (self.path / name).is_symlink())
        self._set_stage(stage, {"fingerprint": print_, "finished": False})
        return stale

    def finish(
        self, stage: str, print_: str, seconds: float, outputs: Sequence[str] = (), *, taken_from: str | None = None
    ) -> dict[str, Stored]:
        """Records what a stage wrote: of each file (a folder is all its files) the size and hash.

        Args:
            taken_from: the run whose files they are, where another one made them.
        """
        written = contents(self.path, files_below(self.path, outputs))
        facts: dict[str, Any] = {"fingerprint": print_, "finished": True, "seconds": round(seconds, 2)}
        if taken_from is not None:
            facts["taken_from"] = taken_from
        self._set_stage(stage, {**facts, "outputs": {name: list(file) for name, file in written.items()}})
        return written

    def _entry(self, stage: str) -> dict[str, Any]:
        return dict(self.record.get("stages", {}).get(stage, {}))

    def _set_stage(self, stage: str, entry: Mapping[str, Any]) -> None:
        self.note(stages={**self.record.get("stages", {}), stage: dict(entry)})


def out_of_space(error: BaseException) -> bool:
    """Whether an error says, itself or through what caused it, that the disk is full."""
    known: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in known:
        known.append(cause)
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        # Rust libraries (safetensors) and Arrow say it in words.
        if any(words in str(cause) for words in ("os error 28", "os error 122", os.strerror(errno.ENOSPC))):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
