"""How much memory is free, and whether an error says that there was too little."""

from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import torch


def free_memory(device: "torch.device") -> int:
    """Bytes that can still be allocated on a device."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return psutil.virtual_memory().available


def out_of_memory(error: BaseException) -> bool:
    """torch has an error of its own for CUDA, and a plain RuntimeError for the CPU."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def gigabytes(count: int) -> str:
    """Bytes for people: `1.6 GB`."""
    return f"{count / 1e9:.1f} GB"
