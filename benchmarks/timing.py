"""Medians of repeated runs, and the machine's own peak."""

import statistics
import time
from collections.abc import Callable

import torch

REPEATS = 5


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Median wall time of `work` over `repeats` runs after one that warms up."""
    work()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def peak_flops(size: int = 1024) -> float:
    """FLOP per second of a large float32 matrix product with the present number of threads."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    return 2 * size**3 / seconds(lambda: a @ b, 15)
