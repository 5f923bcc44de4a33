"""Finished units of a stage's long work, a file each: a stage that is killed again and again goes on where it was."""

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from interp.files.folder import fingerprint, linked, read_json, write_arrays, write_json
from interp.files.store import Store

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

    def __init__(
        self,
        folder: Path,
        stage: str,
        store: Store | None = None,
        content: object = None,
        kind: str | None = None,
    ) -> None:
        """
        Args:
            store: where units are kept for other runs as well, where it is known what they are computed from.
            content: that; see `of`.
            kind: of units that are the same whichever stage asks for them; see `anywhere`.
        """
        self.folder = folder / FOLDER / stage
        self._stage, self._root, self._store, self._content = stage, folder, store, content
        self._about = ["stage", stage] if kind is None else ["kind", kind]

    def of(self, content: object) -> "Units":
        """The same units, shared with runs whose units of this stage have the same name and content.

        Args:
            content: all that they are computed from, down to the last bit; anything JSON can hold.
        """
        return Units(self._root, self._stage, self._store, content)

    def anywhere(self, kind: str, content: object) -> "Units":
        """The same units, shared also with other stages that ask for this kind: their names say nothing more."""
        return Units(self._root, self._stage, self._store, content, kind)

    def path(self, name: str) -> Path:
        """Where a unit lies, without a suffix."""
        return self.folder / re.sub(r"[^\w.-]+", "_", name)

    def files(self, folder: Path, names: Sequence[str], make: Callable[[], object]) -> None:
        """Makes files of a folder, or takes them from another run; the last of them is there when all are."""
        if (folder / names[-1]).exists():
            return
        keys = self._keys(folder, names)
        known = [self._store.get(key) for key in keys] if self._store is not None and keys else [None]
        if None not in known:
            for path, name in zip(known, names, strict=True):
                assert path is not None
                linked(path, folder / name)
            return
        make()
        for key, name in zip(keys, names, strict=False):
            assert self._store is not None
            self._store.put(key, Path(name).suffix, partial(shutil.copyfile, folder / name))

    def _keys(self, folder: Path, names: Sequence[str]) -> list[str]:
        if self._store is None or self._content is None:
            return []
        place = folder.relative_to(self.folder).as_posix()
        return [fingerprint(["unit", self._about, place, name, self._content], whole=True) for name in names]

    def arrays(self, name: str, make: Callable[[], Arrays]) -> Arrays:
        """What `make` gives, kept without loss."""
        path = self.path(name).with_name(self.path(name).name + ".npz")
        self.files(path.parent, [path.name], lambda: write_arrays(path, make()))
        with np.load(path) as stored:
            return dict(stored)

    def array(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        """The same for a single array."""
        return self.arrays(name, lambda: {"values": make()})["values"]

    def values(self, name: str, make: Callable[[], Any]) -> Any:
        """The same for anything that JSON holds; numbers keep every digit."""
        path = self.path(name).with_name(self.path(name).name + ".json")
        self.files(path.parent, [path.name], lambda: write_json(path, make()))
        return read_json(path)

    def clear(self) -> None:
        """Removes them."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.folder.parent.is_dir() and not any(self.folder.parent.iterdir()):
            self.folder.parent.rmdir()
