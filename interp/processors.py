"""How many threads compute: one per core that the process may use, never more."""

import math
import os
from pathlib import Path

import psutil
import torch

LIMITS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which a user sets the number of threads."""
QUOTA = Path("/sys/fs/cgroup/cpu.max")


def available_cores() -> int:
    """Physical cores that this process may use: of the machine, of its affinity, of its container's quota."""
    logical = psutil.cpu_count(logical=True) or 1
    physical = psutil.cpu_count(logical=False) or logical
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else logical
    # Affinity counts logical processors; two of them share a core where there are twice as many.
    return max(1, min(physical, math.ceil(allowed * physical / logical), _quota(logical)))


def one_thread_per_core() -> int:
    """Sets the threads of torch, unless the user has set them in the environment; returns how many there are.

    More threads than cores wait for each other: two such processes on one machine were five to ten times slower.
    """
    if not any(os.environ.get(name) for name in LIMITS):
        torch.set_num_threads(min(available_cores(), torch.get_num_threads()))
    return torch.get_num_threads()


def compute_with(threads: int) -> None:
    """Sets the threads of torch and of all linear algebra that is loaded, whatever the environment says.

    What a sum comes to in its last bits depends on how many threads share it.
    """
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(threads)


def _quota(unlimited: int) -> int:
    try:
        quota, period = QUOTA.read_text().split()
        return unlimited if quota == "max" else math.ceil(int(quota) / int(period))
    except (OSError, ValueError):
        return unlimited
