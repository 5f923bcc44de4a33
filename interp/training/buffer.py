"""Activations on disk: one memory-mapped file per layer, written as text is read, read back in shuffled blocks."""

import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UserError
from interp.memory import gigabytes

BLOCK = 64
"""Rows that lie together on disk and are read together: single rows in random order are several times slower."""
MIXED = 32_768
"""Rows that are shuffled among each other in memory."""


class ActivationBuffer:
    """Residuals of some layers, at most `rows` of each, in float32 or bfloat16.

    Half precision is not offered: residuals of some models pass 65,504, its largest number.
    """

    def __init__(self, folder: Path, layers: Sequence[int], rows: int, d_model: int, dtype: torch.dtype) -> None:
        """
        Raises:
            UserError: the disk has too little room.
        """
        if dtype not in (torch.float32, torch.bfloat16):
            raise ValueError(f"A buffer holds float32 or bfloat16, not {dtype}.")
        self.folder, self.layers, self.rows, self.d_model, self.dtype = folder, tuple(layers), rows, d_model, dtype
        folder.mkdir(parents=True, exist_ok=True)
        size = self.rows * self.d_model * self.dtype.itemsize
        need = sum(size for layer in layers if not _has_size(self._path(layer), size))
        free = shutil.disk_usage(folder).free
        if need > free:
            raise UserError(
                f"{folder} needs {gigabytes(need)} for activations; {gigabytes(free)} are free. Use a smaller chunk."
            )
        for layer in layers:
            if not _has_size(self._path(layer), size):
                with self._path(layer).open("wb") as file:
                    _reserve(file.fileno(), size)

    def write(self, start: int, rows: Mapping[int, Float[Tensor, "row d_model"]]) -> int:
        """Puts rows at `start`, as many as there is room for; returns how many."""
        kept = min(len(next(iter(rows.values()))), self.rows - start)
        for layer, values in rows.items():
            self._map(layer, "r+")[start : start + kept] = _stored(values[:kept].to(self.dtype).cpu())
        return kept

    def batches(self, layer: int, batch: int, seed: int) -> Iterator[Float[Tensor, "row d_model"]]:
        """All rows of a layer once, in float32, in an order that the seed alone decides; a remainder is left out."""
        generator = torch.Generator().manual_seed(seed)
        stored = self._map(layer, "r")
        blocks = torch.randperm(-(-self.rows // BLOCK), generator=generator)
        left = torch.empty(0, self.d_model)
        for few in blocks.split(max(1, MIXED // BLOCK)):
            read = [self._read(stored[BLOCK * int(i) : BLOCK * (int(i) + 1)]) for i in few]
            rows = torch.cat([left, *read])
            rows = rows[torch.randperm(len(rows), generator=generator)]
            whole = len(rows) // batch * batch
            yield from rows[:whole].split(batch)
            left = rows[whole:]

    def remove(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, layer: int) -> Path:
        return self.folder / f"layer_{layer:02d}.rows"

    def _map(self, layer: int, mode: str) -> np.memmap:
        kind = np.float32 if self.dtype == torch.float32 else np.int16
        return np.memmap(self._path(layer), kind, mode, shape=(self.rows, self.d_model))  # type: ignore[call-overload,no-any-return]

    def _read(self, values: np.ndarray) -> Float[Tensor, "row d_model"]:
        rows = torch.from_numpy(np.array(values))
        return rows if self.dtype == torch.float32 else rows.view(torch.bfloat16).float()


def _stored(rows: Tensor) -> np.ndarray:
    """numpy has no bfloat16: its bits travel as int16."""
    return (rows if rows.dtype == torch.float32 else rows.view(torch.int16)).numpy()


def _reserve(file: int, size: int) -> None:
    """Room on the disk, so that a full one is an error here and not a crash when the map is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size
