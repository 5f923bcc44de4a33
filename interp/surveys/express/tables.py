"""Rows of EXPRESS' tables: `interp.texts.records`, as (row number, cells)."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from interp.texts.records import Problems, need_columns, read

__all__ = ["Problems", "need_columns", "read_records"]


def read_records(path: Path, needs: Sequence[str], problems: Problems) -> Iterator[tuple[int, dict[str, str]]]:
    """(row number, record) of every row that can be read, one at a time; the others go to `problems`.

    Raises:
        UserError: no such file, no table, no header, or a needed column is missing or doubled.
    """
    for record in read(path, needs, problems):
        yield record.row, record.cells
