"""Rows of the input that cannot be used as they are: named, counted, and never dropped in silence."""

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from interp.errors import InterpWarning
from interp.texts.records import Problems

SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """One thing wrong with one row.

    Attributes:
        kind: what sort of thing it is; problems are counted by it.
        file: the input's name.
        row: data row, counted from 1 without the header.
        question: the row's question, where it is known.
        what: what was found, and what was done about it.
    """

    kind: str
    file: str
    row: int
    question: str
    what: str

    def __str__(self) -> str:
        return f"row {self.row}{f' ({self.question})' if self.question else ''}: {self.what}"


def count(problems: Sequence[Problem]) -> dict[str, int]:
    return dict(sorted(Counter(p.kind for p in problems).items()))


def warn(problems: Sequence[Problem]) -> None:
    """One line per file and kind: how many, and the first few by row."""
    for file, kind in dict.fromkeys((p.file, p.kind) for p in problems):
        own = [p for p in problems if (p.file, p.kind) == (file, kind)]
        shown = "; ".join(str(p) for p in own[:SHOWN])
        rest = f"; and {len(own) - SHOWN} more" if len(own) > SHOWN else ""
        warnings.warn(f"{file}: {kind}: {len(own)}. {shown}{rest}.", InterpWarning, stacklevel=3)


def unread(left_out: Problems, file: str) -> list[Problem]:
    """Rows of a table that could not be read. Their numbers count the lines of the file, its header being row 1."""
    return [
        Problem("unreadable rows", file, row, "", f"{reason}; the row is left out")
        for reason, rows in left_out.rows.items()
        for row in rows
    ]
