"""Which device and precision a configuration's words stand for; torch is asked only where there may be a GPU."""

import sys
from pathlib import Path

from interp.errors import UserError, nearest

DTYPES = ("float32", "bfloat16", "float16")
DRIVERS = ("/proc/driver/nvidia", "/dev/nvidiactl", "/dev/nvmap", "/dev/dxg", "/dev/kfd")
"""What the drivers of GPUs that torch calls CUDA leave behind on Linux (NVIDIA, Jetson, WSL, ROCm)."""


def device_type(device: str) -> str:
    """`cpu`, `cuda` or `mps`; `auto` takes CUDA if there is one."""
    if device != "auto":
        return device.partition(":")[0]
    if sys.platform == "darwin" or (sys.platform == "linux" and not any(Path(path).exists() for path in DRIVERS)):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def dtype_name(dtype: str, device: str) -> str:
    """`auto` is bfloat16 on CUDA and float32 elsewhere.

    Args:
        device: a type of device.

    Raises:
        UserError: no precision that a model runs in.
    """
    if dtype == "auto":
        return "bfloat16" if device == "cuda" else "float32"
    if dtype not in DTYPES:
        raise UserError(f"Unknown dtype {dtype!r}{nearest(dtype, ['auto', *DTYPES])}")
    return dtype
