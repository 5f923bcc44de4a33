"""Results of surveys in a terminal: plain tables, numbers with their intervals."""

import math
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE
from rich.table import Column, Table

from interp.terminal import Screen


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
    wrap: bool = False,
    stderr: bool = False,
) -> None:
    """Rows below their columns; an empty row parts sections."""
    shown = [Column(name, no_wrap=not wrap) for name in columns]
    table = Table(*shown, title=title, caption=caption, box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)
    for row in rows:
        if row:
            table.add_row(*row)
        else:
            table.add_section()
    Screen(stderr=stderr).print(table)


def interval(value: float, low: float, high: float, digits: int = 3) -> str:
    """`0.123 [0.045, 0.201]`, tiny values with an exponent; `-` where there is none, no bounds where none are known."""
    if math.isnan(value):
        return "-"
    kind = ".0e" if 0 < abs(value) < 0.5 * 10**-digits else f".{digits}f"
    return f"{value:{kind}}" + ("" if math.isnan(low) else f" [{low:{kind}}, {high:{kind}}]")
