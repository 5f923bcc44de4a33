"""The exceptions for mistakes a user can mend, and the wording helpers behind their messages."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

MOST_LISTED, SHOWN = 12, 3
"""Known words that are listed whole; of more, so many are named."""
MOST_QUOTED = 60
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters (line feed and tab apart), direction overrides, and halves of characters."""


class UserError(Exception):
    """Wrong input: one line saying what was wrong, what was expected and what to do. Exit code 2."""


class DamagedError(UserError):
    """A file that is not what was written.

    Attributes:
        path: the file.
    """

    def __init__(self, path: Path, reason: str, remedy: str = "") -> None:
        self.path = path
        self._said = (path, reason, remedy)
        super().__init__(f"{path} is damaged ({reason}); {remedy or remedy_for(path)}")

    def __reduce__(self) -> tuple[type["DamagedError"], tuple[Path, str, str]]:
        """From a worker to the process that asked it."""
        return type(self), self._said


class InterpWarning(UserWarning):
    """Something about the input that a user should know; the work goes on."""


def remedy_for(path: Path) -> str:
    """What makes a file again, going by the folder it lies in."""
    if path.name == "run.json":
        return f"remove {path.parent} and give the command that made it again."
    return f"remove {path.name} and give the command that made it again (interp run makes what is missing)."


def nearest(word: str, known: Iterable[object], *, n: int = 1) -> str:
    """`; did you mean 'x'?` for the known words closest to `word`, else the list of known words, the first of many."""
    words = [str(k) for k in known]
    close = get_close_matches(word[:200], words, n=n, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    if len(words) > MOST_LISTED:
        return f"; known: {', '.join(words[:SHOWN])} and {len(words) - SHOWN} more."
    return "; known: " + ", ".join(words) + "." if words else "."


def quoted(value: object, most: int = MOST_QUOTED) -> str:
    """A value as a message quotes it back: cut where it is long, without control characters."""
    text = repr(value[: 4 * most]) if isinstance(value, str) else repr(value)
    return printable(text if len(text) <= most else text[:most] + "...")


def printable(text: str) -> str:
    """`text` without what a terminal would obey instead of show."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
