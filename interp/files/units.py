"""Finished units of a stage's long work, a file each: a stage that is killed again and again goes on where it was."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from interp.files.folder import read_json, write_arrays, write_json

Arrays = Mapping[str, np.ndarray]
Remember = Callable[[Mapping[str, Callable[[], Arrays]]], Sequence[Arrays]]
"""(by units' names, what makes their arrays) -> their arrays, made now or read from an earlier attempt."""

FOLDER = "units"


def afresh(makers: Mapping[str, Callable[[], Arrays]]) -> Sequence[Arrays]:
    """Remembers nothing."""
    return [make() for make in makers.values()]


class Units:
    """The units of one stage, under `units/STAGE` of a run folder; removed when the stage is finished.

    A unit's name says all that tells it from the stage's others; what the stage depends on is in its fingerprint, and
    units of another one are removed with the stage's outputs.
    """

    def __init__(self, folder: Path, stage: str) -> None:
        self.folder = folder / FOLDER / stage

    def path(self, name: str) -> Path:
        """Where a unit lies, without a suffix."""
        return self.folder / re.sub(r"[^\w.-]+", "_", name)

    def arrays(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """What `make` gives, kept without loss."""
        path = self.path(name).with_name(self.path(name).name + ".npz")
        if not path.exists():
            write_arrays(path, make())
        with np.load(path) as stored:
            return dict(stored)

    def array(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The same for a single array."""
        return self.arrays(name, lambda: {"values": make()})["values"]

    def values(self, name: str, make: Callable[[], Any]) -> Any:
        """The same for anything that JSON holds; numbers keep every digit."""
        path = self.path(name).with_name(self.path(name).name + ".json")
        if not path.exists():
            write_json(path, make())
        return read_json(path)

    def clear(self) -> None:
        """Removes them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
