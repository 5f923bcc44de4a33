"""Tables as Markdown."""

from collections.abc import Sequence
from typing import Any

from interp.report.contents import PageColumn, PageTable
from interp.report.words import fixed


def markdown_table(table: PageTable) -> str:
    """The table of a page: numbers at the right, `-` for what is missing."""
    rule = ["---" if column.kind == "text" else "---:" for column in table.columns]
    lines = [[column.title for column in table.columns], rule]
    lines += [[cell_text(value, c) for value, c in zip(row, table.columns, strict=True)] for row in table.rows]
    return table_of_words(lines)


def table_of_words(lines: Sequence[Sequence[str]]) -> str:
    """The lines, the second of them the rule under the head."""
    return "\n".join("| " + " | ".join(map(escaped, line)) + " |" for line in lines)


def cell_text(value: Any, column: PageColumn) -> str:
    """A cell as the page shows it."""
    if value is None:
        return "-"
    match column.kind:
        case "number":
            least = 10**-column.digits
            if column.digits and not column.sign and 0 < value < least / 2:
                return f"< {least:.{column.digits}f}"
            return fixed(value, column.digits, sign=column.sign)
        case "share":
            return fixed(100 * value, column.digits, sign=column.sign) + " %"
        case "interval":
            point, *ends = [None if x is None else fixed(x, column.digits, sign=column.sign) for x in value[:3]]
            return f"{point}" if ends[0] is None else f"{point} [{ends[0]}, {ends[1]}]"
        case "feature":
            return f"{value[0]}, {value[1]}"
    return str(value)


def escaped(text: str) -> str:
    """Text as it may stand in a cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
