"""The tables of a folder in one format, CSV or Parquet, whichever they were written in."""

import shutil
from pathlib import Path
from typing import Literal

from interp.errors import DamagedError, UserError
from interp.files.folder import writing
from interp.files.stored import read_table

Format = Literal["csv", "parquet"]
FORMATS: tuple[Format, ...] = ("parquet", "csv")
"""What a table may be in; where it is in both, the first has its types."""


def tables_in(folder: Path) -> list[Path]:
    """The tables of a folder and of those in it, hidden ones left out, each in one format.

    Raises:
        UserError: there is no such folder, or no table in it.
    """
    if not folder.is_dir():
        raise UserError(f"No folder {folder}; give one that a command of interp has written, such as runs/tiny.")
    found: dict[Path, Path] = {}
    for kind in FORMATS:
        for path in sorted(folder.rglob(f"*.{kind}")):
            place = path.relative_to(folder)
            if not any(part.startswith(".") for part in place.parts):
                found.setdefault(place.with_suffix(""), path)
    if not found:
        raise UserError(
            f"{folder} holds no table (*.csv, *.parquet); give a folder that a command of interp has written."
        )
    return [found[place] for place in sorted(found)]


def converted(folder: Path, out: Path, to: Format) -> list[Path]:
    """Writes every table of a folder into another one, under the same name but for the suffix.

    Numbers keep every digit. CSV has no types: what is read back from it are whole numbers, numbers and words by the
    look of them.

    Raises:
        UserError: `tables_in`, or the place is the folder itself or in it.
        DamagedError: a file is no table.
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"The tables of {folder} would lie among themselves; choose another --out.")
    written = []
    for path in tables_in(folder):
        target = out / path.relative_to(folder).with_suffix(f".{to}")
        target.parent.mkdir(parents=True, exist_ok=True)
        with writing(target) as part:
            if path.suffix == target.suffix:
                shutil.copyfile(path, part)
            elif to == "csv":
                read_table(path).to_csv(part, index=False, lineterminator="\n")
            else:
                _to_parquet(path, part)
        written.append(target)
    return written


def _to_parquet(path: Path, to: Path) -> None:
    from pyarrow import csv, parquet

    # "null" and "NA" are words; only what is empty is missing.
    missing = csv.ConvertOptions(null_values=[""], strings_can_be_null=True)
    try:
        table = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=missing)
    except ValueError as error:
        raise DamagedError(path, str(error)) from None
    parquet.write_table(table, to)
