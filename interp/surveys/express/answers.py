"""Answers to score: gold labels and what a model wrote, as the authors release them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from interp.errors import UserError
from interp.surveys.express.parsing import parse_labels
from interp.texts.corpora.express import MASK
from interp.texts.problems import Problems
from interp.texts.records import Record, read

RECORD = "express.json"
"""Beside the answers of a run: model and question that they belong to."""
COLUMNS = ("number_of_labels", "labels", "output_formatted|output")


@dataclass(frozen=True)
class AnswerSheet:
    """One entry per usable row.

    Attributes:
        rows: row numbers in the file, its header being row 1.
        ids: `index` of the row where the file has one, else its row number.
        posts: what intervals are clustered by: `original_index` where the file has it, else the id.
        labels: gold words, one per mask.
        outputs: what the model wrote; empty where there is nothing.
        context: words of the segment; NaN where the file does not tell.
        problems: the rows that were left out.
    """

    rows: list[int]
    ids: list[str]
    posts: list[str]
    labels: list[tuple[str, ...]]
    outputs: list[str]
    context: np.ndarray
    problems: Problems

    @property
    def n_read(self) -> int:
        return len(self.rows) + len(self.problems)


class LabelledRow(NamedTuple):
    """A row of a table in the corpus' format whose gold words can be used."""

    row: int
    id: str
    post: str
    labels: tuple[str, ...]
    cells: Mapping[str, str]


def read_answers(path: str | Path) -> AnswerSheet:
    """The rows of an answers file (CSV or JSONL) that can be scored; the others are counted with their row numbers.

    Needs `number_of_labels`, `labels` and `output_formatted` or `output` (the first where both are there). Uses, where
    there, `index`, `original_index`, `segment` and `word_count`.

    Raises:
        UserError: no such file, no such columns, or not one usable row.
    """
    problems = Problems()
    rows = list(labelled_rows(read(Path(path), COLUMNS, problems), problems))
    if not rows:
        raise UserError(f"{path} has no row that can be scored{left_out(problems)}.")
    return AnswerSheet(
        rows=[row.row for row in rows],
        ids=[row.id for row in rows],
        posts=[row.post for row in rows],
        labels=[row.labels for row in rows],
        outputs=[row.cells.get("output_formatted", row.cells.get("output", "")) for row in rows],
        context=np.array([_context(row.cells) for row in rows]),
        problems=problems,
    )


def labelled_rows(records: Iterable[Record], problems: Problems) -> Iterator[LabelledRow]:
    """The rows with gold words, one for each mask, and an id of their own; the others go to `problems`."""
    labels_of = lru_cache(maxsize=100_000)(parse_labels)
    seen: set[str] = set()
    for record in records:
        labels = labels_of(record.cells["labels"])
        id_ = record.cells.get("index") or str(record.row)
        reason = _row_problem(labels, record.cells["number_of_labels"], record.cells.get("segment"))
        if reason is None and id_ in seen:
            reason = "has the id of an earlier row"
        if reason is not None or labels is None:
            problems.add(reason or "", record.row)
            continue
        seen.add(id_)
        yield LabelledRow(record.row, id_, record.cells.get("original_index") or id_, labels, record.cells)


def left_out(problems: Problems) -> str:
    """Why nothing is left, as the end of a sentence."""
    return f": {'; '.join(problems.lines())}" if problems else ""


def _row_problem(labels: tuple[str, ...] | None, number: str, segment: str | None) -> str | None:
    """Why a row with these gold labels cannot be used; None where it can."""
    if labels is None:
        return "has labels that are not a list of quoted words"
    if not labels:
        return "has no labels"
    if number.strip().removesuffix(".0") != str(len(labels)):
        return "has number_of_labels that is not the number of labels"
    if segment is not None and MASK not in segment:
        return f"has a segment without {MASK}"
    if segment is not None and segment.count(MASK) != len(labels):
        return "has not as many masks as labels"
    return None


def _context(cells: Mapping[str, str]) -> float:
    if cells.get("word_count", "").strip().isdigit():
        return float(cells["word_count"])
    return float(len(cells["segment"].split())) if cells.get("segment") else float("nan")
