"""Where the units of a run are computed: here, one after another, or by workers, side by side."""

import math
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, TypeVar

from interp.errors import UserError
from interp.run.config import Config, ResourcesConfig

if TYPE_CHECKING:
    from interp.run.session import Session

Item = TypeVar("Item")
Result = TypeVar("Result")

LOCAL = "local"


class Engine(Protocol):
    """Computes units.

    Attributes:
        workers: how many units are computed at a time.
    """

    @property
    def workers(self) -> int: ...

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, shares: Sequence[float] | None = None
    ) -> Iterator[Result]:
        """What a function makes of every item, in the order of the items.

        A function may be called twice for an item, where a worker was lost: it gives the same, and writes files whole.

        Args:
            shares: how much there is to compute for each item, where items that stand next to each other read the same
                captures or SAEs: then neighbours go to one worker. None: whoever is free takes the next.
        """
        ...


class Workers(Engine, Protocol):
    """An engine that may compute for one run after the other."""

    def serve(self, session: "Session") -> None: ...

    def close(self) -> None: ...


class InProcess:
    """Everything here and now, each item when its result is asked for."""

    workers = 1

    def map(
        self, function: Callable[[Item], Result], items: Sequence[Item], *, shares: Sequence[float] | None = None
    ) -> Iterator[Result]:
        return map(function, items)


def threads(resources: ResourcesConfig) -> int:
    """Of a process with these resources: one per processor."""
    return max(1, math.floor(resources.cpus or 1))


def placed(shares: Sequence[float], n_workers: int) -> list[int]:
    """Which worker each of some items in a row is for: each worker has neighbours, and about as much to compute.

    Args:
        shares: how much there is to compute for each item.
    """
    total, before, found = sum(shares), 0.0, []
    for share in shares:
        middle = (before + share / 2) / total if total else 0.0
        found.append(min(n_workers - 1, int(middle * n_workers)))
        before += share
    return found


def check_engine(config: Config) -> None:
    """Refuses an engine that is not installed, before anything else.

    Raises:
        UserError: Ray is asked for and absent, or its client is.
    """
    if config.engine == LOCAL:
        return
    if find_spec("ray") is None:
        raise UserError(f"engine {config.engine} needs Ray, which is not installed: pip install 'interp[ray]'")
    if config.engine.startswith("ray://") and find_spec("grpc") is None:
        raise UserError(
            f"engine {config.engine} needs Ray's client, which is not installed: pip install 'ray[client]', or start"
            " the command on a machine of the cluster with --engine auto."
        )
