"""A store of files by what they were computed from: bounded, written whole or not at all, shared between processes."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from filelock import FileLock

from interp.files.stored import stored

LOCK = ".lock"
PART = ".part"
ABANDONED = 3600.0
"""Seconds after which a file that is still being written belongs to a process that was killed."""


class _Entry(NamedTuple):
    used: float
    size: int
    path: Path


class Store:
    """Files by key, `ab/KEY.HASH.SUFFIX`: the key says what a file was made from, the hash what is in it.

    So a file that was damaged is not handed out, and of two processes that write one key at a time each leaves a whole
    file, one in the place of the other. What was used least recently goes first where the budget is exceeded; a
    process that has mapped such a file keeps it until it lets go.
    """

    def __init__(self, folder: Path, budget: int) -> None:
        """
        Args:
            budget: bytes that all files together may take; a file that is larger by itself is not kept.
        """
        self.folder, self.budget = folder, budget
        self._whole: dict[Path, int] = {}  # whose contents this process has checked, and when they last changed

    def get(self, key: str) -> Path | None:
        """The file kept under a key, where there is one and it is what was written."""
        for path in sorted(self._place(key).glob(f"{key}.*")):
            if not path.name.endswith(PART) and self._is_whole(path):
                with suppress(OSError):  # another process may have thrown it out just now
                    os.utime(path)
                    self._whole[path] = path.stat().st_mtime_ns
                    return path
        return None

    def put(self, key: str, suffix: str, write: Callable[[Path], object]) -> Path | None:
        """Keeps what `write` writes into the path it is given; None where it is too large, or the disk is full.

        Whatever else `write` raises is passed on, and nothing is kept.
        """
        place = self._place(key)
        part = place / f".{key}.{uuid4().hex}{PART}"
        try:
            place.mkdir(parents=True, exist_ok=True)
            write(part)
            size, sha256 = stored(part)
            path = place / f"{key}.{sha256}{suffix}"
            if size > self.budget:
                return None
            with FileLock(self.folder / LOCK):
                self._make_room(size, path)
                part.replace(path)
                self._whole[path] = path.stat().st_mtime_ns
        except OSError:  # a store that cannot be written costs time, not the result
            return None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return path

    @property
    def size(self) -> int:
        """Bytes that are taken."""
        return sum(entry.size for entry in self._entries())

    def _place(self, key: str) -> Path:
        return self.folder / key[:2]

    def _is_whole(self, path: Path) -> bool:
        """Whether a file holds what its name says; looked at once, until it changes."""
        try:
            if self._whole.get(path) != path.stat().st_mtime_ns and stored(path).sha256 != path.name.split(".")[1]:
                path.unlink(missing_ok=True)
                return False
        except OSError:
            return False
        return True

    def _entries(self) -> list[_Entry]:
        """What there is, the least recently used first."""
        found = []
        for path in self.folder.glob("??/*"):
            with suppress(FileNotFoundError):
                state = path.stat()
                found.append(_Entry(state.st_mtime, state.st_size, path))
        return sorted(found)

    def _make_room(self, size: int, path: Path) -> None:
        """Throws out what was used least recently, and what processes that were killed left half written."""
        entries = [entry for entry in self._entries() if entry.path != path]
        taken = sum(entry.size for entry in entries if not entry.path.name.endswith(PART))
        for entry in entries:
            if entry.path.name.endswith(PART):
                if entry.used < time.time() - ABANDONED:
                    entry.path.unlink(missing_ok=True)
            elif taken + size > self.budget:
                entry.path.unlink(missing_ok=True)
                taken -= entry.size
