"""Segments: people's own experiences with the emotion words masked, and the words they used."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.resources import data_file
from interp.surveys.express.answers import labelled_rows, left_out
from interp.texts.mending import mend
from interp.texts.problems import Problems
from interp.texts.records import Record, cells_of, read

HUB = "bangzhao/express-emotion-recognition"
COLUMNS = ("segment", "number_of_labels", "labels")


@dataclass(frozen=True)
class Segment:
    """A text with one `<mask>` for each of `labels`, the words its writer used.

    Attributes:
        post: segments cut from one post share it; intervals are clustered by it.
    """

    id: str
    post: str
    text: str
    labels: tuple[str, ...]


def load_segments(source: str | Path | None = None) -> tuple[list[Segment], Problems]:
    """Segments in file order, and the rows that could not be used.

    Args:
        source: a CSV or JSONL file in the corpus' format, `hub` for the full corpus (33,679 segments) through
            `datasets`, or None for the small corpus that ships.

    Raises:
        UserError: no such file or columns, the hub cannot be reached, or no usable row.
    """
    problems = Problems()
    if source is None:
        source = data_file("express_segments.csv")
    records = _hub_records() if str(source) == "hub" else read(Path(source), COLUMNS, problems)
    segments = [
        Segment(row.id, row.post, row.cells["segment"].strip(), row.labels) for row in labelled_rows(records, problems)
    ]
    if not segments:
        raise UserError(f"{source} has no usable segment{left_out(problems)}.")
    return segments, problems


def as_record(segment: Segment) -> dict[str, Any]:
    """The columns of the corpus."""
    return {
        "index": segment.id,
        "original_index": segment.post,
        "segment": segment.text,
        "number_of_labels": len(segment.labels),
        "labels": str(list(segment.labels)),
        "word_count": len(segment.text.split()),
    }


def _hub_records() -> Iterator[Record]:
    import datasets  # slow to import, and only needed here

    try:
        loaded = datasets.load_dataset(HUB)
    except (OSError, datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
        raise UserError(
            f"Could not fetch {HUB!r} from the Hugging Face hub ({type(error).__name__});"
            " check the network, or give --segments the CSV file."
        ) from None
    number = 0
    for table in loaded.values():
        missing = [column for column in COLUMNS if column not in table.column_names]
        if missing:
            raise UserError(f"{HUB} has no column {missing[0]!r} any more (it has: {', '.join(table.column_names)}).")
        for record in table:
            number += 1
            yield Record(number + 1, number, {name: mend(cell) for name, cell in cells_of(record).items()})
