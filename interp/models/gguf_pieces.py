"""GGUF files by their names: which paths are meant, and which files make up one model."""

import re
from pathlib import Path

from interp.errors import UserError

CHUNK = re.compile(r"\.gguf\.part(\d+)$", re.IGNORECASE)
"""A file cut into pieces of bytes: `x.gguf.part00`, `x.gguf.part01`, ..."""
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)
"""A model that llama.cpp has split into files with tensors of their own: `x-00001-of-00003.gguf`, ..."""


def is_gguf(path: Path) -> bool:
    """Whether a path is written like a GGUF file or a piece of one."""
    return path.suffix.lower() == ".gguf" or CHUNK.search(path.name) is not None


def pieces(path: Path) -> list[Path]:
    """The files that make up a model, in order; `path` may be any of them, or the whole that they make up.

    Raises:
        UserError: no such file, or a piece is missing.
    """
    chunk, split = CHUNK.search(path.name), SPLIT.search(path.name)
    if chunk or (path.suffix.lower() == ".gguf" and not path.exists()):
        stem = path.name[: chunk.start()] if chunk else path.stem
        numbered = {
            int(match[1]): file
            for file in path.parent.glob("*")
            if (match := CHUNK.search(file.name)) and file.name[: match.start()] == stem
        }
        first = min(numbered, default=0)
        missing = sorted({*range(min(first, 1), max(numbered, default=-1) + 1)} - {*numbered})
        if not numbered:
            raise UserError(f"No GGUF file {str(path)!r}, and no {path.name}.part00 beside it.")
        if missing:
            raise UserError(f"{stem}.gguf is in parts, and part {missing[0]:02} is not in {path.parent}.")
        return [numbered[k] for k in sorted(numbered)]
    if not path.is_file():
        raise UserError(f"No GGUF file {str(path)!r}.")
    if not split:
        return [path]
    count, stem = int(split[2]), path.name[: split.start()]
    files = [path.with_name(f"{stem}-{k:05}-of-{count:05}.gguf") for k in range(1, count + 1)]
    for file in files:
        if not file.is_file():
            raise UserError(f"{stem} is split into {count} files, and {file.name} is not in {path.parent}.")
    return files
