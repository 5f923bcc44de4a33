"""How much memory is free, and whether an error says that there was too little."""

import warnings
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch

from interp.errors import InterpWarning


def free_memory(device: "torch.device") -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def out_of_memory(error: BaseException) -> bool:
    """torch has an error of its own for CUDA, and a plain RuntimeError for the CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def halved(size: int, what: str, error: BaseException, *, least: int = 1) -> int:
    """Half of what was computed together when memory ran out, with a warning.

    Args:
        what: `rows in flight`, for the warning.
        error: raised again where it says something else, or where there is nothing to halve.
        least: what cannot be halved.
    """
    if not out_of_memory(error) or size <= least:
        raise error
    warnings.warn(f"Out of memory: going on with {size // 2} {what}.", InterpWarning, stacklevel=3)
    return size // 2


def gigabytes(count: int) -> str:
    """Bytes for people: `1.6 GB`."""
    return f"{count / 1e9:.1f} GB"
