"""How objects look in a notebook: a small table of what they are."""

from collections.abc import Mapping
from html import escape


def html_table(title: str, rows: Mapping[str, object]) -> str:
    """Name and value a row, left-aligned."""
    cells = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in rows.items()
        if value not in (None, "")
    )
    return f"<table><caption><b>{escape(title)}</b></caption>{cells}</table>"


def text_line(title: str, rows: Mapping[str, object]) -> str:
    """The same in one line."""
    return f"{title}({', '.join(f'{name}: {value}' for name, value in rows.items() if value not in (None, ''))})"
