"""The files of a run folder as data: which stage makes each, and what its columns, arrays or keys are (`tables.toml`).

Writers are checked against it. Readers, what the report needs, the page about run folders and the tests' made-up runs
come from it.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.files.folder import write_arrays, write_json, writing
from interp.files.stored import read_table

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

KINDS = {"int": "integer", "float": "floating", "bool": "boolean", "str": "string"}
"""Kinds of columns, and what pandas calls their values."""
DTYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "str"}
"""Of columns without a row."""
ARRAYS = {"int": "iu", "float": "f", "bool": "b", "str": "U"}
VALUES: dict[str, tuple[type, ...]] = {
    "int": (int,),
    "float": (int, float),
    "bool": (bool,),
    "str": (str,),
    "list": (list, tuple),
    "object": (dict,),
}
"""What JSON takes for each kind."""


class SchemaError(Exception):
    """A file is not as its schema says: a mistake of ours, not of the user."""


@dataclass(frozen=True)
class ColumnSchema:
    """A column of a table; of a file of arrays, an array; of a JSON file, a key (`a.b`: key `b` of the object `a`).

    Attributes:
        name: capitals in it stand for what differs (`logp_LABEL`).
        kind: `int`, `float`, `bool` or `str`, in JSON also `list` and `object`.
        missing: whether values may be missing.
        needed: whether readers cannot do without.
        was: its name in runs of an earlier layout.
    """

    name: str
    kind: str
    meaning: str
    unit: str = ""
    missing: bool = False
    needed: bool = True
    was: str = ""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        return re.compile(re.sub("[A-Z]+", ".+", re.escape(self.name)))


@dataclass(frozen=True)
class FileSchema:
    """A file of a run.

    Attributes:
        stage: what makes it; empty for what every stage adds to.
        rows: what a row of a table is.
        reported: whether the report shows something of it.
    """

    name: str
    stage: str
    holds: str
    columns: tuple[ColumnSchema, ...]
    rows: str = ""
    reported: bool = True

    @property
    def needed(self) -> list[str]:
        """Names without which it cannot be read."""
        return [c.name for c in self.columns if c.needed]

    def sorted(self, names: "Mapping[str, Any] | pd.DataFrame") -> dict[str, ColumnSchema]:
        """What is known of each of these names, in the schema's order.

        Raises:
            SchemaError: one that the schema does not know, or one of its own that is not among them.
        """
        known = {str(n): c for c in self.columns for n in names if c.pattern.fullmatch(str(n))}
        unknown = [n for n in names if n not in known]
        absent = [c.name for c in self.columns if c.name.islower() and c.name not in known]
        if unknown or absent:
            raise SchemaError(f"{self.name}: unknown {unknown or 'nothing'}, missing {absent or 'nothing'}.")
        return known


def _columns(
    lines: str, shared: Mapping[str, ColumnSchema], was: Mapping[str, str], needed: bool
) -> list[ColumnSchema]:
    columns = []
    for line in lines.strip().splitlines():
        name, *facts = line.split(" | ")
        kind, meaning, unit = (*facts, "", "", "")[:3]
        column = ColumnSchema(name, kind.rstrip("?"), meaning, unit, kind.endswith("?")) if facts else shared[name]
        columns.append(replace(column, needed=needed, was=was.get(name, "")))
    return columns


def _read_schema() -> dict[str, FileSchema]:
    entries = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
    shared = {c.name: c for c in _columns(entries.pop("shared")["columns"], {}, {}, True)}
    files = {}
    for name, entry in entries.items():
        was = entry.pop("was", {})
        parts = ((entry.pop("columns"), True), (entry.pop("further", ""), False))
        columns = [c for lines, needed in parts for c in _columns(lines, shared, was, needed)]
        files[name] = FileSchema(name=name, stage=entry.pop("stage", ""), columns=tuple(columns), **entry)
    return files


FILES: Mapping[str, FileSchema] = _read_schema()
"""By name, in the order in which they are made."""


def schema_of(name: str) -> FileSchema:
    """The schema of a file, by its path within the run folder.

    Raises:
        SchemaError: no stage is known to make it.
    """
    for file in FILES.values():
        if re.fullmatch(re.sub("[A-Z]+", "[^/]+", re.escape(file.name)), name):
            return file
    raise SchemaError(f"{name}: no stage is known to make it.")


def write(path: Path, value: Any) -> None:
    """Writes a file of a run, whole or not at all: a table (`.parquet`), arrays (`.npz`) or JSON.

    A table's columns are put in the schema's order and carry their meaning and unit as Parquet metadata; one without a
    row gets the schema's columns and types.

    Raises:
        SchemaError: an unknown file, or a column, array or key that is unknown, missing or of another kind.
    """
    schema = schema_of(path.name)
    if path.suffix == ".parquet":
        _write_table(path, schema, value)
    elif path.suffix == ".npz":
        check_arrays(schema, value)
        write_arrays(path, value)
    else:
        check_json(schema, value)
        write_json(path, value)


def read(path: Path) -> "pd.DataFrame":
    """A table of a run, its columns by their present names whatever they were called when it was written.

    Raises:
        DamagedError: it is no table.
    """
    table = read_table(path)
    return table.rename(columns={c.was: c.name for c in schema_of(path.name).columns if c.was and c.name not in table})


def empty(name: str) -> "pd.DataFrame":
    """A table without a row, in the columns and types of its schema."""
    import pandas as pd

    return checked(FILES[name], pd.DataFrame())


def checked(schema: FileSchema, table: "pd.DataFrame") -> "pd.DataFrame":
    """The same table with its columns in the schema's order, whole numbers made floats where the schema says so.

    Raises:
        SchemaError: a column that is unknown, missing, or of another kind.
    """
    import pandas as pd

    columns = schema.sorted(table) if len(table.columns) else {c.name: c for c in schema.columns if c.name.islower()}
    if not len(table):
        return pd.DataFrame({n: pd.Series(dtype=object if c.missing else DTYPES[c.kind]) for n, c in columns.items()})
    return pd.DataFrame({n: _checked_values(f"{schema.name}, column {n}", c, table[n]) for n, c in columns.items()})


def _checked_values(what: str, column: ColumnSchema, values: "pd.Series") -> "pd.Series":
    from pandas.api.types import infer_dtype

    if column.kind == "float" and values.dtype.kind in "iu":
        return values.astype(float)
    kind = infer_dtype(values, skipna=True)
    lacking = column.missing and (kind == "empty" or (column.kind == "int" and kind == "floating"))
    if kind != KINDS[column.kind] and not lacking:
        raise SchemaError(f"{what}: {column.kind} expected, {kind} given.")
    if column.kind != "float" and not column.missing and values.isna().any():
        raise SchemaError(f"{what}: values are missing.")
    return values


def check_arrays(schema: FileSchema, arrays: "Mapping[str, np.ndarray]") -> None:
    """Names and kinds of the arrays of a file.

    Raises:
        SchemaError: one that is unknown, missing, or of another kind.
    """
    for name, column in schema.sorted(arrays).items():
        if arrays[name].dtype.kind not in ARRAYS[column.kind]:
            raise SchemaError(f"{schema.name}, array {name}: {column.kind} expected, {arrays[name].dtype} given.")


def check_json(schema: FileSchema, value: Any) -> None:
    """Keys and kinds of a JSON file, or of every entry where the file is a list.

    Raises:
        SchemaError: one that is unknown, missing, or of another kind.
    """
    for entry in value if isinstance(value, list) else [value]:
        nested = {c.name.partition(".")[0] for c in schema.columns if "." in c.name}
        flat = {key: one for key, one in entry.items() if key not in nested}
        known = {c.name for c in schema.columns}
        flat |= {f"{k}.{key}": one for k in nested for key, one in entry[k].items() if f"{k}.{key}" in known}
        for name, column in schema.sorted(flat).items():
            if not isinstance(flat[name], VALUES[column.kind]) and not (column.missing and flat[name] is None):
                raise SchemaError(f"{schema.name}, key {name}: {column.kind} expected, {type(flat[name])} given.")


def _write_table(path: Path, schema: FileSchema, table: "pd.DataFrame") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    stored = pa.Table.from_pandas(checked(schema, table), preserve_index=False)
    columns = schema.sorted(dict.fromkeys(stored.column_names))
    fields = [
        field.with_metadata({"meaning": column.meaning} | ({"unit": column.unit} if column.unit else {}))
        for field, column in zip(stored.schema, columns.values(), strict=True)
    ]
    described = pa.schema(fields, {**stored.schema.metadata, "holds": schema.holds})
    with writing(path) as part:
        pq.write_table(pa.Table.from_arrays(stored.columns, schema=described), part)
