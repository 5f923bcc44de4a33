"""What is wrong with rows of a file: collected as they are read, then told by kind, with how many and which."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from interp.errors import InterpWarning

SHOWN_ROWS, SHOWN_PROBLEMS = 10, 3


class Problem(NamedTuple):
    """One thing wrong with one row.

    Attributes:
        kind: what sort of thing it is; problems are counted by it.
        file: the input's name, where there are several.
        row: as its reader counts rows.
        question: what the row asks, where that is known.
        what: what was found, and what was done about it.
    """

    kind: str
    file: str
    row: int
    question: str = ""
    what: str = ""

    def __str__(self) -> str:
        return f"row {self.row}{f' ({self.question})' if self.question else ''}: {self.what}"


class Problems(list[Problem]):
    """Rows that cannot be used as they are, in the order found. Row 1 is the first line of a file, a table's header."""

    def add(self, kind: str, row: int, what: str = "", *, question: str = "", file: str = "") -> None:
        self.append(Problem(kind, file, row, question, what))

    def add_unreadable(self, others: "Problems", file: str) -> None:
        """Rows that could not even be read, as one kind; their reason becomes what was found."""
        for problem in others:
            self.add("unreadable rows", problem.row, f"{problem.kind}; the row is left out", file=file)

    @property
    def rows(self) -> dict[str, list[int]]:
        """Row numbers by kind."""
        rows: dict[str, list[int]] = {}
        for problem in self:
            rows.setdefault(problem.kind, []).append(problem.row)
        return rows

    def lines(self) -> list[str]:
        """One line per kind: how many rows, which ones."""
        return [f"{count(len(rows))}: {kind} ({places(rows)})" for kind, rows in self.rows.items()]

    def counts(self) -> dict[str, int]:
        return {kind: len(rows) for kind, rows in sorted(self.rows.items())}

    def as_dict(self) -> dict[str, Any]:
        return {kind: {"n": len(rows), "rows": rows[:1000]} for kind, rows in self.rows.items()}

    def warn(self) -> None:
        """One note per file and kind: how many, and the first few by row."""
        for file, kind in dict.fromkeys((p.file, p.kind) for p in self):
            alike = [str(p) for p in self if (p.file, p.kind) == (file, kind)]
            rest = f"; and {len(alike) - SHOWN_PROBLEMS} more" if len(alike) > SHOWN_PROBLEMS else ""
            tell(f"{file}: {kind}: {len(alike)}. {'; '.join(alike[:SHOWN_PROBLEMS])}{rest}.")


def count(n: int) -> str:
    return f"{n} row" if n == 1 else f"{n} rows"


def places(rows: Sequence[int]) -> str:
    """Where, the first few by number."""
    shown = ", ".join(map(str, rows[:SHOWN_ROWS]))
    return f"row {shown}" if len(rows) == 1 else f"rows {shown}{', ...' if len(rows) > SHOWN_ROWS else ''}"


def tell(text: str) -> None:
    warnings.warn(text, InterpWarning, stacklevel=2)
