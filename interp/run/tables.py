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

DTYPES = {"int": "int64", "float": "float64", "bool": "bool", "str": "str", "any": "object"}
"""Kinds of columns, with the type of one without a row."""
OF_PANDAS = {
    "integer": "int",
    "floating": "float",
    "mixed-integer-float": "float",  # whole and other numbers beside missing ones, as pandas 2 has them
    "boolean": "bool",
    "string": "str",
    "empty": "nothing",
}
OF_NUMPY = {"i": "int", "u": "int", "f": "float", "b": "bool", "U": "str"}
OF_JSON = {int: "int", float: "float", bool: "bool", str: "str", list: "list", tuple: "list", dict: "object"}
"""What the kinds are called elsewhere."""


class SchemaError(Exception):
    """A file is not as its schema says: a mistake of ours, not of the user."""


@dataclass(frozen=True)
class ColumnSchema:
    """A column of a table; of a file of arrays, an array; of a JSON file, a key (`a.b`: key `b` of the object `a`).

    Attributes:
        name: capitals in it stand for what differs (`logp_LABEL`).
        kind: `int`, `float`, `bool` or `str`, in JSON also `list` and `object`; `any` where users choose it.
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
        asked: the field of the configuration that asks for it; empty where every run has it.
        command: the command of its own that makes it, where no stage does: a run without it lacks nothing.
    """

    name: str
    holds: str
    columns: tuple[ColumnSchema, ...]
    stage: str = ""
    rows: str = ""
    reported: bool = True
    asked: str = ""
    command: str = ""

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


def _columns(lines: str, shared: Mapping[str, ColumnSchema], was: Mapping[str, str]) -> tuple[ColumnSchema, ...]:
    columns = []
    for line in lines.strip().splitlines():
        name, *facts = line.removeprefix("- ").split(" | ")
        kind, meaning, unit = (*facts, "", "", "")[:3]
        column = ColumnSchema(name, kind.rstrip("?"), meaning, unit, kind.endswith("?")) if facts else shared[name]
        columns.append(replace(column, needed=not line.startswith("- "), was=was.get(name, "")))
    return tuple(columns)


def _read_schema(name: str) -> dict[str, FileSchema]:
    entries = tomllib.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))
    shared = {c.name: c for c in _columns(entries.pop("shared")["columns"], {}, {})}
    return {
        name: FileSchema(name=name, columns=_columns(entry.pop("columns"), shared, entry.pop("was", {})), **entry)
        for name, entry in entries.items()
    }


FILES: Mapping[str, FileSchema] = _read_schema("tables.toml")
"""By name, in the order in which they are made."""
BESIDE: Mapping[str, FileSchema] = _read_schema("beside.toml")
"""Tables that lie in no run folder: of comparisons, sweeps and streams."""


def schema_of(name: str) -> FileSchema:
    """The schema of a file, by its path within the run folder.

    Raises:
        SchemaError: no stage is known to make it.
    """
    for file in (*FILES.values(), *BESIDE.values()):
        if re.fullmatch(re.sub("[A-Z]+", "[^/]+", re.escape(file.name)), name):
            return file
    raise SchemaError(f"{name}: no stage is known to make it.")


def write(path: Path, value: Any) -> None:
    """Writes a file of a run, whole or not at all: a table (`.parquet`), arrays (`.npz`) or JSON.

    A table's columns are put in the schema's order, have its types, with or without rows and values, and carry their
    meaning and unit as Parquet metadata.

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

    Whole numbers in a column of words (phases, once) are words.

    Raises:
        DamagedError: it is no table.
    """
    table, columns = read_table(path), schema_of(path.name).columns
    table = table.rename(columns={c.was: c.name for c in columns if c.was and c.name not in table})
    numbers = [c.name for c in columns if c.kind == "str" and c.name in table and table[c.name].dtype.kind == "i"]
    return table.astype(dict.fromkeys(numbers, str))


def empty(name: str) -> "pd.DataFrame":
    """A table without a row, in the columns and types of its schema."""
    import pandas as pd

    return checked(FILES[name], pd.DataFrame())


def checked(schema: FileSchema, table: "pd.DataFrame") -> "pd.DataFrame":
    """The same table with its columns in the schema's order, floats also where all are whole numbers or missing.

    Raises:
        SchemaError: a column that is unknown, missing, or of another kind.
    """
    import pandas as pd
    from pandas.api.types import infer_dtype

    columns = schema.sorted(table) if len(table.columns) else {c.name: c for c in schema.columns if c.name.islower()}
    if not len(table):
        kinds = {n: object if c.missing and c.kind != "float" else DTYPES[c.kind] for n, c in columns.items()}
        return pd.DataFrame({n: pd.Series(dtype=kind) for n, kind in kinds.items()})
    nothing = [n for n, c in columns.items() if c.kind != "float" and table[n].isna().all()]
    table = table.astype(dict.fromkeys(nothing, object))  # what pandas makes of a column without a value are floats
    table[nothing] = None
    for name, column in columns.items():
        kind = infer_dtype(table[name], skipna=True)
        _check(schema, name, column, OF_PANDAS.get(kind, kind), lacking=bool(table[name].isna().any()))
    floats = {n: float for n, c in columns.items() if c.kind == "float" and table[n].dtype.kind != "f"}
    return table[list(columns)].astype(floats)


def check_arrays(schema: FileSchema, arrays: "Mapping[str, np.ndarray]") -> None:
    """Names and kinds of the arrays of a file.

    Raises:
        SchemaError: one that is unknown, missing, or of another kind.
    """
    for name, column in schema.sorted(arrays).items():
        _check(schema, name, column, OF_NUMPY.get(arrays[name].dtype.kind, str(arrays[name].dtype)))


def check_json(schema: FileSchema, value: Any) -> None:
    """Keys and kinds of a JSON file, or of every entry where the file is a list.

    Raises:
        SchemaError: one that is unknown, missing, or of another kind.
    """
    known = [c.name for c in schema.columns]
    whole = {name.partition(".")[0] for name in known if "." in name}
    for entry in value if isinstance(value, list) else [value]:
        keys = {key: one for key, one in entry.items() if key not in whole}
        keys |= {f"{k}.{key}": one for k in whole for key, one in entry[k].items() if f"{k}.{key}" in known}
        for name, column in schema.sorted(keys).items():
            _check(schema, name, column, OF_JSON.get(type(keys[name]), "nothing"))


def _check(schema: FileSchema, name: str, column: ColumnSchema, kind: str, lacking: bool = False) -> None:
    """Refuses values of another kind, and missing ones where none may be; a float may be NaN or a whole number."""
    if column.kind == "any":
        return
    missing = column.missing or column.kind == "float"
    fits = {column.kind} | ({"nothing"} if missing else set())
    fits |= {"float": {"int"}, "int": {"float"} if missing else set()}.get(column.kind, set())
    if kind not in fits or (lacking and not missing):
        given = f"{kind} with missing values" if lacking else kind
        raise SchemaError(f"{schema.name}, {name}: {column.kind} expected, {given} given.")


def _write_table(path: Path, schema: FileSchema, table: "pd.DataFrame") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = checked(schema, table)
    types = {"int": pa.int64(), "float": pa.float64(), "bool": pa.bool_(), "str": pa.string()}
    fields = [
        pa.field(
            name,
            types.get(column.kind) or pa.array(table[name], from_pandas=True).type,
            metadata={"meaning": column.meaning} | ({"unit": column.unit} if column.unit else {}),
        )
        for name, column in schema.sorted(dict.fromkeys(table.columns)).items()
    ]
    # The types are the schema's, also of columns in which nothing stands: tables of all runs can be read as one.
    stored = pa.Table.from_pandas(table, pa.schema(fields), preserve_index=False)
    with writing(path) as part:
        pq.write_table(stored.replace_schema_metadata({**stored.schema.metadata, "holds": schema.holds}), part)
