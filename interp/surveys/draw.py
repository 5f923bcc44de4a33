"""Part of what could be asked, the same part wherever it is drawn."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from interp.errors import UserError
from interp.texts.examples import stable_share

T = TypeVar("T")


def drawn(items: Sequence[T], limit: int | None, seed: int, key: Callable[[T], str]) -> list[T]:
    """The items of at most `limit` keys, in their order; seed and key alone say which.

    Raises:
        UserError: a limit below 1.
    """
    if limit is None:
        return list(items)
    if limit < 1:
        raise UserError(f"--limit must be at least 1; got {limit}.")
    ranked = sorted(dict.fromkeys(map(key, items)), key=lambda name: stable_share(f"{seed}/{name}"))
    chosen = set(ranked[:limit])
    return [item for item in items if key(item) in chosen]
