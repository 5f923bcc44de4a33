"""The command that gives tables in the format that one likes."""

from pathlib import Path

from interp.cli.console import RUNS, Json, Out, Quiet, errors, json_text
from interp.cli.options import RunPath
from interp.files.converting import Format, converted


def tables(folder: RunPath, *, to: Format = "csv", out: Out = None, quiet: Quiet = False, json: Json = False) -> None:
    """All tables of a folder as CSV or as Parquet: of a run, a sweep, a comparison, EXPRESS, reliability, a stream.

    Names and columns are the same in both; `interp.open_run` has them as data frames. Without `--out`, they go to
    runs/NAME-csv or runs/NAME-parquet.

    For example: `interp tables runs/tiny --to csv`

    Parameters
    ----------
    folder
        What a command of interp has written; it stays as it is.
    to
        The format.
    """
    place = out or RUNS / f"{Path(folder).resolve().name}-{to}"
    written = converted(folder, place, to)
    if json:
        print(json_text({"folder": folder, "to": to, "out": place, "tables": written}))
        return
    if not quiet:
        errors.print(f"{len(written)} tables")
    print(place)
