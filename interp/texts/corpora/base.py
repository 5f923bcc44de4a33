"""What a corpus is: how its released files are read, where it lives, and under which licence."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import UserError
from interp.texts.problems import Problems

SPLIT_ALIASES = {"dev": "validation", "val": "validation", "valid": "validation"}
FROM_VALIDATION = {"discover": "validation", "fit": "validation"}
"""`Corpus.official` where the authors' test split is the test split here."""


class Row(NamedTuple):
    """What a reader yields: a text with all labels its annotators gave it, in the corpus' own names."""

    id: str
    text: str
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    keyword_free: bool | None = None
    key: str | None = None
    """The text as it was released, where it was mended: splits are drawn by it, so that mending moves no row."""
    ratings: Mapping[str, float] = {}
    """What its raters gave it, by name of the scale; without those that are missing."""


class RatingScale(NamedTuple):
    """Something that texts are rated for, from `low` to `high`, and the column of the released file that holds it."""

    name: str
    column: str
    low: float = -math.inf
    high: float = math.inf

    def read(self, cell: str) -> float | None:
        """The rating that a cell holds; None where it is no number of the scale."""
        try:
            value = float(cell)
        except ValueError:
            return None
        return value if self.low <= value <= self.high and math.isfinite(value) else None


def ratings_of(cells: Mapping[str, str], scales: Sequence[RatingScale]) -> dict[str, float]:
    """By name, the ratings that a record holds."""
    found = {scale.name: scale.read(cells[scale.column]) for scale in scales if scale.column in cells}
    return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class HubSource:
    """Where a corpus lives on the Hugging Face hub, and how one of its records becomes a `Row`."""

    repository: str
    config: str | None
    to_row: Callable[[Mapping[str, Any], Mapping[str, list[str]]], Row]
    """(record, names of every class-label column) -> Row without split."""
    parts: tuple[str, ...] = ()
    """For a release in tables that are no train / validation / test: the tables that count, cut like one file."""


@dataclass(frozen=True)
class Corpus:
    """A known corpus.

    `read` yields rows from the released files and counts those it leaves out; `shares` cuts rows without an official
    split by a hash of their group; `official` says of which released split the project's discover / fit / test are
    made.
    """

    read: Callable[[Path, Problems], Iterator[Row]]
    description: str
    licence: str
    hub: HubSource | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=lambda: {"discover": 0.3, "fit": 0.2, "test": 0.5})
    official: Mapping[str, str] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    """Its own labels."""
    files: str = ""
    """What `path` is given."""
    rows: str = ""
    """How many rows its authors released, by split where there are some."""
    bundled: str | None = None
    """File in `interp/data`, where the corpus ships."""
    scales: tuple[RatingScale, ...] = ()
    """What its texts are rated for, where they are."""
    rows_of: Callable[[], Iterator[Row]] | None = None
    """Its rows, where they come neither from a file nor from a known place on the hub."""
    single: bool = False
    """Whether rows with several labels are left out, also where only one of them is asked for."""


def released(path: Path, suffix: str) -> list[Path]:
    """The file itself, or the folder's files with that ending.

    Raises:
        UserError: there is none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.lower().endswith(suffix.lower()))
    if not found:
        raise UserError(f"{path} holds no {suffix} file; give the folder or file as its authors released it.")
    return found


def official_split(part: str) -> str:
    return SPLIT_ALIASES.get(part, part)


def words(text: Iterable[str] | str) -> tuple[str, ...]:
    return tuple(text.split() if isinstance(text, str) else text)
