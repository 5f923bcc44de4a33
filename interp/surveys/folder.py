"""A folder holds the answers to one survey of one model: options that would give others are refused."""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from interp.errors import UserError, quoted


def refuse_other_answers(
    folder: Path, before: Mapping[str, Any], now: Mapping[str, Any], *, free: Collection[str] = ()
) -> None:
    """Compares what made the answers in a folder with what is asked for.

    Args:
        free: what may differ.

    Raises:
        UserError: the first fact that differs.
    """
    for key in {**before, **now}:
        if key not in free and before.get(key) != now.get(key):
            raise UserError(
                f"{folder} holds answers of another run ({key.replace('_', ' ')}: {quoted(before.get(key))},"
                f" now {quoted(now.get(key))}); choose another --out."
            )
