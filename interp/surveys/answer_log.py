"""Answers as they come: a line of JSON each, at once, so that a killed run asks nothing twice."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from interp.errors import DamagedError

T = TypeVar("T")


def read_log(log: Path, parse: Callable[[Any], T]) -> list[T]:
    """The answers of earlier calls. A last line that a killed run left unfinished is removed from the file.

    Args:
        parse: a line's value as an answer; a `LookupError`, `TypeError` or `ValueError` says that it is none.

    Raises:
        DamagedError: a line that is no answer.
    """
    if not log.exists():
        return []
    content = log.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        log.write_bytes(whole)
    answers = []
    for number, line in enumerate(whole.split(b"\n")[:-1], 1):
        try:
            answers.append(parse(json.loads(line)))
        except (LookupError, TypeError, ValueError, RecursionError):
            remedy = "remove the line, or choose another --out."
            raise DamagedError(log, f"line {number} is no answer", remedy) from None
    return answers


@contextmanager
def appending(log: Path) -> Iterator[Callable[[Any], None]]:
    """A function that adds one answer to the log, on the disk before it returns."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:

        def add(answer: Any) -> None:
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
            file.flush()

        yield add
