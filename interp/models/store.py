"""The cache on disk: models made ready once, digests of files, and licences that were accepted."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from interp.errors import UserError
from interp.files.folder import out_of_space, write_json
from interp.memory import gigabytes
from interp.reporting import reporter

FULL = ("no space left", "disk quota exceeded", "os error 28")
"""What libraries and subprocesses that do not raise an OSError say of a full disk."""

WORTH_REMEMBERING = 2**26
"""Bytes from which hashing takes long enough to be remembered: 64 MB, a tenth of a second."""


def cache_folder() -> Path:
    """`$INTERP_CACHE`, else the platform's folder for caches."""
    given = os.environ.get("INTERP_CACHE")
    return Path(given).expanduser().absolute() if given else Path(platformdirs.user_cache_dir("interp", False))


@contextmanager
def building(target: Path, what: str, *, needs: int = 0) -> Iterator[Path | None]:
    """A temporary folder that becomes `target` when the block ends well, and vanishes when it does not.

    Processes take turns; what one that was killed has left is removed by the next.

    Args:
        what: what is made, for messages.
        needs: bytes that must be free.

    Yields:
        The folder, or None where another process has made `target` meanwhile.

    Raises:
        UserError: the disk is full, or the cache cannot be written.
    """
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_name(f".{target.name}.lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            reporter().say(f"another process is making {what} ready; waiting for it")
            lock.acquire()
        try:
            if target.exists():
                yield None
                return
            shutil.rmtree(part, ignore_errors=True)
            free = shutil.disk_usage(target.parent).free
            if free < needs:
                raise UserError(
                    f"{what} takes {gigabytes(needs)} while it is made ready; {target.parent} has {gigabytes(free)}"
                    " free. Free some, or set INTERP_CACHE to a folder on another disk."
                )
            part.mkdir()
            yield part
            part.replace(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
            lock.release()
    except OSError as error:
        raise UserError(_explain(error, target.parent, what)) from None
    except Exception as error:
        if isinstance(error, UserError) or not is_full(str(error)):
            raise
        raise UserError(_disk_full(target.parent, what)) from None


def is_full(message: str) -> bool:
    """Whether a message tells of a full disk."""
    return any(words in message.lower() for words in FULL)


def digest(paths: Sequence[Path], *, named: bool = False) -> str:
    """sha256 over files, in hexadecimal; of large ones remembered while no path, size or time of change differs.

    Args:
        named: whether the names of the files go into it, too.
    """
    state = [[str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns] for path in paths]
    large = sum(path.stat().st_size for path in paths) >= WORTH_REMEMBERING
    memory = cache_folder() / "digests" / f"{hashlib.sha256(json.dumps([state, named]).encode()).hexdigest()[:32]}.json"
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        if isinstance(known, str) and len(known) == 64:
            return known
    except (OSError, ValueError):
        pass
    whole = hashlib.sha256()
    for path in paths:
        if named:
            whole.update(path.name.encode())
        with path.open("rb") as file:
            while block := file.read(2**20):
                whole.update(block)
    if large:
        with suppress(OSError):  # a cache that cannot be written costs time, not the result
            write_json(memory, whole.hexdigest())
    return whole.hexdigest()


def content_hash(paths: Sequence[Path]) -> str:
    """Identity of files, by name and content."""
    return f"sha256:{digest(paths, named=True)[:16]}"


def accepted_terms() -> set[str]:
    """Names of the terms that the user of this cache has accepted."""
    try:
        known = json.loads((cache_folder() / "terms.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return set()
    return {name for name, accepted in known.items() if accepted is True} if isinstance(known, dict) else set()


def accept_terms(name: str) -> None:
    """Remembers that terms were accepted."""
    try:
        write_json(cache_folder() / "terms.json", dict.fromkeys(sorted({*accepted_terms(), name}), True))
    except OSError as error:
        raise UserError(_explain(error, cache_folder(), "the acceptance of terms")) from None


def _explain(error: OSError, folder: Path, what: str) -> str:
    if out_of_space(error) or is_full(str(error)):
        return _disk_full(folder, what)
    return (
        f"{what} cannot be written to {folder} ({error.strerror or error}); set INTERP_CACHE to a folder that can be"
        " written."
    )


def _disk_full(folder: Path, what: str) -> str:
    return (
        f"The disk of {folder} is full; {what} was not made ready and nothing half was left. Free some space, or set"
        " INTERP_CACHE to a folder on another disk."
    )
