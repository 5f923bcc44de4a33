"""The head of a GGUF file, read without its weights and in bounded time, whatever the bytes are.

The `gguf` package reads a vocabulary of 262,144 words in ten seconds; this skips it. Format:
https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

MAGIC = b"GGUF"
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
"""Types of metadata that are numbers, as `struct` names them."""
STRING, ARRAY = 8, 9
BROKEN = (struct.error, ValueError, IndexError, KeyError, OverflowError, TypeError, MemoryError, UnicodeError)
"""What bytes that are no GGUF file raise, here and in transformers' and gguf's readers."""


@dataclass(frozen=True)
class Header:
    """What stands before the weights.

    Attributes:
        metadata: numbers and words by key; of an array, how many entries it has.
        n_tensors: how many weights there are.
        n_elements: numbers in all of them together.
        end: bytes the file must have.
    """

    metadata: dict[str, Any]
    n_tensors: int
    n_elements: int
    end: int


def read_header(path: Path) -> Header:
    """Head of a GGUF file, version 2 or 3, little-endian.

    Raises:
        ValueError: it is none; other `BROKEN` errors where it ends too early.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Walk(data).header()


class _Walk:
    """A position in the bytes of a file."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.position = data, 0

    def number(self, code: str) -> Any:
        (value,) = struct.unpack_from(f"<{code}", self.data, self.position)
        self.position += struct.calcsize(f"<{code}")
        return value

    def skip(self, count: int) -> int:
        """Moves on; where it was before."""
        before, self.position = self.position, self.position + count
        if self.position > len(self.data):
            raise ValueError("it ends in the middle of its head")
        return before

    def string(self) -> str:
        length = self.number("Q")
        begin = self.skip(length)
        return self.data[begin : begin + length].decode("utf-8")

    def value(self, kind: int) -> Any:
        if kind in SCALARS:
            return self.number(SCALARS[kind])
        if kind == STRING:
            return self.string()
        if kind != ARRAY:
            raise ValueError(f"it holds metadata of the unknown type {kind}")
        inner, count = self.number("I"), self.number("Q")
        if inner in SCALARS:
            self.skip(count * struct.calcsize(SCALARS[inner]))
        elif inner == STRING:
            for _ in range(count):
                self.skip(self.number("Q"))
        else:
            raise ValueError(f"it holds an array of the type {inner}")
        return count

    def header(self) -> Header:
        if self.data[:4] != MAGIC:
            raise ValueError("it does not begin with GGUF")
        self.skip(4)
        release, n_tensors, n_keys = self.number("I"), self.number("Q"), self.number("Q")
        if release not in (2, 3):
            raise ValueError(f"it is GGUF version {release}; versions 2 and 3 can be read")
        metadata = {}
        for _ in range(n_keys):
            key = self.string()
            metadata[key] = self.value(self.number("I"))
        n_elements = end = 0
        for _ in range(n_tensors):
            self.string()
            shape = [self.number("Q") for _ in range(self.number("I"))]
            kind, offset = GGMLQuantizationType(self.number("I")), self.number("Q")
            block, n_bytes = GGML_QUANT_SIZES[kind]
            n_elements += prod(shape)
            end = max(end, offset + prod(shape) // block * n_bytes)
        alignment = max(int(metadata.get("general.alignment", 32)), 1)
        return Header(metadata, n_tensors, n_elements, -(-self.position // alignment) * alignment + end)
