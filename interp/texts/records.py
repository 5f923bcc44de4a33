"""Tables as records of text cells: CSV, TSV, JSON, Parquet and saved `datasets` folders, read alike by every command.

A row that cannot be read is counted in `Problems` with its reason and number; a file that is no such table is refused
in one line. Every number is written as in a JSON (whole floats as integers: what a missing value turns 0 into, 0.0, is
0 again), a missing value is the empty text, a list is written as Python writes it, and the fields of an object get
dotted names.
"""

import ast
import gzip
import io
import itertools
import json
import math
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

from interp.errors import UserError, nearest
from interp.texts.delimited import LONGEST_CELL, Splitter
from interp.texts.mending import halves, is_utf8, is_whole, mend, printable
from interp.texts.problems import Problems, count, places, tell

LONGEST_LINE = 2 * LONGEST_CELL
LARGEST_JSON = 2**30
"""Characters of a JSON that is read whole."""
DEEPEST = 8
"""Objects within objects that get dotted names."""
LOOKED_AT = 100
"""Records of a JSON in one of which a column must stand."""
KINDS = ("csv", "tsv", "jsonl", "json", "parquet")
EXPECTED = "give a CSV, TSV, JSONL, JSON or Parquet file, or a folder that `datasets` saved"
DELIMITERS = {"csv": ",;\t", "tsv": "\t,;"}
PARTS = re.compile(r"(train|validation|valid|val|dev|test)(?![a-z])", re.IGNORECASE)
"""How the files of a folder of Parquet say which split they are."""


class Record(NamedTuple):
    """One row of a table.

    Attributes:
        row: its number in the file, as an editor counts lines (a cell over several lines counts as one).
        number: its number among the data rows, from 1.
        released: the cells that were mended, as they stand in the file.
    """

    row: int
    number: int
    cells: dict[str, str]
    released: Mapping[str, str] = {}


def read(
    path: Path, needs: Sequence[str] = (), problems: Problems | None = None, *, marks: bool = True, delimiters: str = ""
) -> Iterator[Record]:
    """The rows of a table that can be read, one at a time.

    Control characters that stand for Windows-1252 characters and lone surrogates are mended, with a note of how many
    rows at the end.

    Args:
        needs: columns it must have; `a|b` is satisfied by either.
        problems: gains the rows that are left out.
        marks: False where quotation marks are text (see `interp.texts.delimited`).
        delimiters: those to choose from, by the header; default: those usual for the file's ending.

    Raises:
        UserError: no such file, no table of a known kind, damaged, no header, a column that is missing or doubled.
    """
    problems = Problems() if problems is None else problems
    kind = _kind(path)
    if kind in DELIMITERS:
        found = _delimited(path, needs, problems, marks, delimiters or DELIMITERS[kind])
    elif kind == "jsonl":
        found = _needed(path, needs, _json_lines(path, problems), problems)
    elif kind == "json":
        found = _needed(path, needs, _json_values(path, problems), problems)
    else:
        found = _needed(path, needs, _parquet(path) if kind == "parquet" else _saved(path), problems)
    mended = _Mended()
    for record in found:
        broken = {name: cell for name, cell in record.cells.items() if not is_whole(cell)}
        if broken:
            mended.add(record.row, broken.values())
            cells = record.cells | {name: mend(cell) for name, cell in broken.items()}
            record = record._replace(cells=cells, released=broken)
        yield record
    mended.tell(path)


def read_lines(path: Path, problems: Problems | None = None) -> Iterator[tuple[int, str]]:
    """(line number, line) of a plain text without header, mended alike. Only a line feed ends a line.

    Raises:
        UserError: no such file, not readable.
    """
    mended = _Mended()
    for number, line in enumerate(_lines(path), 1):
        bare = line.rstrip("\r\n")
        if not is_utf8(bare):
            (Problems() if problems is None else problems).add("is not UTF-8", number)
            continue
        if not is_whole(bare):
            mended.add(number, [bare])
            bare = mend(bare)
        yield number, bare
    mended.tell(path)


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        UserError: no such file, or no JSON (nested too deeply, numbers of thousands of digits and the like included).
    """
    parts, size = [], 0
    for line in _lines(path, longest=LARGEST_JSON):
        parts.append(line)
        size += len(line)
        if size > LARGEST_JSON:
            raise UserError(f"{path} is too large to be read whole; give it as JSONL, one object a line.")
    try:
        return json.loads("".join(parts))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {_reason(error)}.") from None


def cells_of(record: Mapping[str, Any], prefix: str = "", depth: int = DEEPEST) -> dict[str, str]:
    """A record of any values as text cells."""
    cells: dict[str, str] = {}
    for key, value in record.items():
        name = prefix + str(key).strip()
        if isinstance(value, Mapping) and value and depth:
            cells |= cells_of(value, f"{name}.", depth - 1)
        else:
            cells[name] = _text(value)
    return cells


def listed(cell: str) -> tuple[str, ...]:
    """The items of a cell that holds a list, such as `['joy', 'trust']`; any other cell is one item."""
    bare = cell.strip()
    if not (bare.startswith("[") and bare.endswith("]") and len(bare) < 10_000):
        return (cell,)
    try:
        items = ast.literal_eval(bare)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return (cell,)
    return tuple(_text(item) for item in items)


def need_columns(path: Path | str, present: Iterable[str], needs: Sequence[str]) -> None:
    """Refuses a table without one of `needs`; `a|b` is satisfied by either.

    Raises:
        UserError: the first column that is missing, with the nearest present one.
    """
    present = list(present)
    for column in _missing(present, needs)[:1]:
        shown = [printable(name) for name in present]
        wanted = " or ".join(map(repr, column.split("|")))
        raise UserError(f"{path} has no column {wanted}{nearest(column, shown)}")


# ------------------------------------------------------------------------------------------- files


def _kind(path: Path) -> str:
    if path.is_dir():
        return "folder"
    suffixes = [s.lower().lstrip(".") for s in path.suffixes]
    if suffixes[-1:] == ["gz"]:
        suffixes.pop()
    kind = {"ndjson": "jsonl", "tab": "tsv"}.get(suffixes[-1], suffixes[-1]) if suffixes else ""
    _must_be_file(path)
    if kind not in KINDS:
        raise UserError(f"{path} is no table this tool reads; {EXPECTED}.")
    return kind


def _must_be_file(path: Path) -> None:
    if not path.exists():
        raise UserError(f"No file {str(path)!r}; {EXPECTED}.")
    if not path.is_file():
        raise UserError(f"{path} could not be read: it is no ordinary file; {EXPECTED}.")


def _lines(path: Path, *, longest: int = LONGEST_LINE) -> Iterator[str]:
    """Lines with their ends. Bytes that are no UTF-8 survive as lone surrogates: one bad row does not cost the file."""
    _must_be_file(path)
    try:
        with _opened(path) as raw:
            start = raw.read(4)
            raw.seek(0)
            utf16 = start[:2] in (b"\xff\xfe", b"\xfe\xff")
            encoding, errors = ("utf-16", "replace") if utf16 else ("utf-8-sig", "surrogateescape")
            text = io.TextIOWrapper(raw, encoding=encoding, errors=errors, newline="\n")
            for number in itertools.count(1):
                line = text.readline(longest)
                if not line:
                    return
                if len(line) >= longest and not line.endswith("\n"):
                    raise UserError(f"{path}, line {number}: longer than {longest:,} characters; this is no table.")
                yield line
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} could not be read: {_reason(error)}.") from None


def _opened(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.suffix.lower() == ".gz" else path.open("rb")  # type: ignore[return-value]


# ------------------------------------------------------------------------------------------- kinds of tables


def _delimited(path: Path, needs: Sequence[str], problems: Problems, marks: bool, delimiters: str) -> Iterator[Record]:
    lines = _lines(path)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        wanted = f" with the columns {', '.join(needs)}" if needs else ""
        raise UserError(f"{path} is empty; expected a header row{wanted}.")
    if not is_utf8(first):
        raise UserError(f"{path} is not UTF-8 text (line 1); convert it first.")
    splitter = Splitter(itertools.chain([first], lines), _delimiter(first, needs, delimiters), marks)
    rows = iter(splitter)
    header = [name.strip() for name in next(rows)]
    _refuse_doubled(path, [name for name in header if name])
    need_columns(path, header, needs)
    number = 0
    for row, cells in enumerate(rows, 2):
        if not cells:
            continue
        number += 1
        if len(cells) > len(header) and not any(cell.strip() for cell in cells[len(header) :]):
            cells = cells[: len(header)]
        if len(cells) != len(header):
            problems.add(f"has not the {len(header)} cells of the header", row)
        elif not all(map(is_utf8, cells)):
            problems.add("is not UTF-8", row)
        else:
            yield Record(row, number, dict(zip(header, cells, strict=True)))
    if splitter.spanning:
        tell(
            f"{path}: {count(len(splitter.spanning))} with a quoted cell over several lines, each of which could be a"
            f" row ({places(splitter.spanning)}): if those quotation marks are text, save the table as TSV or JSONL."
        )


def _delimiter(header: str, needs: Sequence[str], delimiters: str) -> str:
    """The one by which the header has most of the needed columns, then most columns."""

    def fit(delimiter: str) -> tuple[int, int]:
        names = [name.strip() for name in next(iter(Splitter([header], delimiter)), [])]
        return -len(_missing(names, needs)), len(names)

    return max(delimiters, key=fit)


def _json_lines(path: Path, problems: Problems) -> Iterator[Record]:
    number = 0
    for row, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        number += 1
        if not is_utf8(line):
            problems.add("is not UTF-8", row)
            continue
        found = _parsed(line, f"{path}, line {row}")
        if isinstance(found, dict):
            yield Record(row, number, cells_of(found))
        else:
            problems.add("is not a JSON object", row)


def _json_values(path: Path, problems: Problems) -> Iterator[Record]:
    """A list of objects, an object of columns, or, under this ending too, an object a line."""
    start = next((line.lstrip() for line in _lines(path, longest=LARGEST_JSON) if line.strip()), "")
    if start.startswith("{") and isinstance(_parsed(start, f"{path}, line 1"), dict) and _several_lines(path):
        yield from _json_lines(path, problems)
        return
    value = read_json(path)
    for number, found in enumerate(json_records(value, path), 1):
        if isinstance(found, Mapping):
            yield Record(number, number, cells_of(found))
        else:
            problems.add("is not a JSON object", number)


def json_records(value: Any, path: Path, what: str = "records") -> list[Any]:
    """The records of a JSON that is a list of objects, or an object of columns as pandas writes it.

    Raises:
        UserError: it is neither.
    """
    if isinstance(value, dict) and value and all(isinstance(v, dict | list) for v in value.values()):
        columns = {k: v if isinstance(v, dict) else dict(enumerate(v)) for k, v in value.items()}
        first = next(iter(columns.values()))
        if any(set(column) != set(first) for column in columns.values()):
            raise UserError(f"{path}: its columns have different rows; give a list of objects.")
        return [{name: column[key] for name, column in columns.items()} for key in first]
    if not isinstance(value, list):
        raise UserError(f"{path} must hold {what}: a list of objects, or one object of columns.")
    return value


def _several_lines(path: Path) -> bool:
    return sum(1 for line in itertools.islice((x for x in _lines(path) if x.strip()), 2)) == 2


def _parsed(text: str, where: str) -> Any:
    """The JSON value of one line; None where it is none."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) < len(pairs):
            keys = [key for key, _ in pairs]
            _refuse_doubled(where, keys)
        return record

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        return None


def _parquet(path: Path, first: int = 1, split: str | None = None) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _refuse_doubled(path, file.schema_arrow.names)
            decode = _class_names(file.schema_arrow.metadata)
            number = first - 1
            for batch in file.iter_batches(batch_size=1024):
                for record in batch.to_pylist():
                    number += 1
                    yield _decoded(record, number, decode, split)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        raise UserError(f"{path} could not be read as PARQUET: {_reason(error)}.") from None


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Names of every class-label column, where `datasets` wrote the Parquet."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        inner = {c: f.get("feature", f) if isinstance(f, dict) else f[0] for c, f in features.items()}
        return {c: f["names"] for c, f in inner.items() if isinstance(f, dict) and f.get("_type") == "ClassLabel"}
    except (ValueError, KeyError, TypeError, AttributeError, IndexError):
        return {}


def _saved(path: Path) -> Iterator[Record]:
    """A folder that `save_to_disk` wrote, or one of Parquet files named after their splits."""
    if not any((path / name).is_file() for name in ("dataset_info.json", "dataset_dict.json")):
        files = sorted([*path.glob("*.parquet"), *path.glob("data/*.parquet")])
        if not files:
            raise UserError(f"{path} could not be read: no dataset that `datasets` saved, and no Parquet files in it.")
        number = 0
        for file in files:
            split = PARTS.match(file.stem)
            for record in _parquet(file, number + 1, split.group(1).lower() if split else None):
                number = record.number
                yield record
        return
    import datasets  # slow to import, and only needed here

    try:
        loaded = datasets.load_from_disk(str(path))
        parts = loaded if isinstance(loaded, Mapping) else {None: loaded}
        number = 0
        for split, table in parts.items():
            names = class_names(table.features)
            for record in table:
                number += 1
                yield _decoded(record, number, names, split)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(f"{path} could not be read as a saved dataset: {_reason(error)}.") from None


def class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of every class-label column of a `datasets` table."""
    inner = {column: getattr(feature, "feature", feature) for column, feature in features.items()}
    return {column: feature.names for column, feature in inner.items() if hasattr(feature, "names")}


def _decoded(record: dict[str, Any], number: int, names: Mapping[str, list[str]], split: str | None) -> Record:
    for column, known in names.items():
        value = record.get(column)
        record[column] = [_named(k, known) for k in value] if isinstance(value, list) else _named(value, known)
    cells = cells_of(record)
    if split is not None:
        cells.setdefault("split", str(split))
    return Record(number, number, cells)


def _named(number: int | None, names: Sequence[str]) -> str | None:
    return names[number] if number is not None and 0 <= number < len(names) else None


# ------------------------------------------------------------------------------------------- cells


def _needed(path: Path, needs: Sequence[str], records: Iterator[Record], problems: Problems) -> Iterator[Record]:
    """The records that have the needed columns; refused where none of the first has one of them."""
    head = list(itertools.islice(records, LOOKED_AT))
    if head:
        need_columns(path, dict.fromkeys(name for record in head for name in record.cells), needs)
    for record in itertools.chain(head, records):
        if _missing(record.cells, needs):
            problems.add("lacks a column", record.row)
        else:
            yield record


def _missing(present: Iterable[str], needs: Sequence[str]) -> list[str]:
    known = set(present)
    return [column for column in needs if not any(alternative in known for alternative in column.split("|"))]


def _refuse_doubled(where: Path | str, names: Sequence[str]) -> None:
    for i, name in enumerate(names):
        if name in names[:i]:
            raise UserError(f"{where}: two columns are called {printable(name)!r}; rename one of them.")


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else str(value)
    return value if isinstance(value, str) else str(value)


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(text.split()), 200).rstrip(".")


class _Mended:
    """Rows with mended cells, for one note a kind."""

    def __init__(self) -> None:
        self._controls: list[int] = []
        self._halves: list[int] = []

    def add(self, row: int, cells: Iterable[str]) -> None:
        halved = [halves(cell) for cell in cells]
        if any(halved):
            self._halves.append(row)
        if not all(halved):
            self._controls.append(row)

    def tell(self, path: Path) -> None:
        for rows, what in (
            (self._controls, "held Windows-1252 control characters, read as the characters they stand for"),
            (self._halves, "held half of an emoji (a lone surrogate), read as U+FFFD"),
        ):
            if rows:
                tell(f"{path}: {count(len(rows))} {what} ({places(rows)}).")
