"""How long work is told of: the library is silent unless whoever calls it asks to hear."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple, Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Gives the same items, shown as a bar where somebody looks."""

    def __call__(self, items: Sequence[T], description: str, unit: str) -> Iterable[T]: ...


def silent(items: Sequence[T], description: str, unit: str) -> Iterable[T]:
    return items


def bars(items: Sequence[T], description: str, unit: str) -> Iterable[T]:
    """A bar in the terminal or the notebook, gone when all is done; none for what takes less than a second.

    Where neither looks on, as in the log of a cluster, there is none.
    """
    from tqdm.auto import tqdm

    hidden = False if "ipykernel" in sys.modules else None  # None: where standard error is no terminal
    options = {"leave": False, "delay": 1, "dynamic_ncols": True, "disable": hidden}
    shown: Iterable[T] = tqdm(items, desc=f"  {description}", unit=unit, **options)
    return shown


class Reporter(NamedTuple):
    """What is done with news.

    Attributes:
        say: takes one line.
        advance: takes what is going on, how much is done, and how much there is in all (0: not known), in bytes unless
            a unit is given; equal numbers end it.
    """

    say: Callable[[str], None] = lambda line: None
    advance: Callable[..., None] = lambda what, done, total, unit="B": None


_reporter: ContextVar[Reporter] = ContextVar("reporter", default=Reporter())  # noqa: B039 (immutable)


def reporter() -> Reporter:
    """Whom to tell; nobody unless inside `reporting`."""
    return _reporter.get()


@contextmanager
def reporting(listener: Reporter) -> Iterator[None]:
    """News of everything inside goes to `listener`."""
    token = _reporter.set(listener)
    try:
        yield
    finally:
        _reporter.reset(token)


def counted(items: Iterable[T], what: str, unit: str, *, total: int = 0, done: int = 0) -> Iterator[T]:
    """The same items; whoever listens is told of each when it is done with.

    Args:
        total: how many there are in all, 0 where that is not known.
        done: how many of them were there before.
    """
    advance = reporter().advance
    if done < total:
        advance(what, done, total, unit)
    for item in items:
        yield item
        done += 1
        advance(what, done, total, unit)
    if done and not total:
        advance(what, done, done, unit)


def terminal_reporter(say: Callable[[str], None]) -> Reporter:
    """Lines as they come, and a bar for what takes longer than half a second, where standard error is a terminal."""
    from tqdm import tqdm

    bars: dict[str, tqdm] = {}

    def advance(what: str, done: int, total: int, unit: str = "B") -> None:
        if what not in bars:
            options = {"unit": unit, "unit_scale": unit == "B", "leave": False, "delay": 0.5, "dynamic_ncols": True}
            bars[what] = tqdm(desc=f"  {what}", total=total or None, disable=None, **options)
        bars[what].update(done - bars[what].n)
        if done >= total > 0:
            bars.pop(what).close()

    return Reporter(say, advance)
