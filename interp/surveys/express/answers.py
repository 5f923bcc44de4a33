"""Answers to score: gold labels and what a model wrote, as the authors release them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from interp.errors import UserError
from interp.surveys.express.parsing import parse_labels
from interp.surveys.express.tables import Problems, read_records

MASK = "<mask>"
COLUMNS = ("number_of_labels", "labels", "output_formatted|output")


@dataclass(frozen=True)
class Answers:
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
        return len(self.rows) + self.problems.total


def read_answers(path: str | Path) -> Answers:
    """The rows of an answers file (CSV or JSONL) that can be scored; the others are counted with their row numbers.

    Needs `number_of_labels`, `labels` and `output_formatted` or `output` (the first where both are there). Uses, where
    there, `index`, `original_index`, `segment` and `word_count`.

    Raises:
        UserError: no such file, no such columns, or not one usable row.
    """
    path, problems = Path(path), Problems()
    labels_of = lru_cache(maxsize=100_000)(parse_labels)
    found: list[tuple[int, str, str, tuple[str, ...], str, float]] = []
    seen: set[str] = set()
    for row, record in read_records(path, COLUMNS, problems):
        labels = labels_of(record["labels"])
        reason = row_problem(labels, record["number_of_labels"], record.get("segment"))
        id_ = record.get("index") or str(row)
        if reason is None and id_ in seen:
            reason = "has the id of an earlier row"
        if reason is not None or labels is None:
            problems.add(reason or "", row)
            continue
        seen.add(id_)
        output = record["output_formatted"] if "output_formatted" in record else record["output"]
        found.append((row, id_, record.get("original_index") or id_, labels, output, _context(record)))
    if not found:
        left_out = f": {'; '.join(problems.lines())}" if problems.total else ""
        raise UserError(f"{path} has no row that can be scored{left_out}.")
    rows, ids, posts, gold, outputs, context = zip(*found, strict=True)
    return Answers(list(rows), list(ids), list(posts), list(gold), list(outputs), np.array(context), problems)


def row_problem(labels: tuple[str, ...] | None, number: str, segment: str | None) -> str | None:
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


def _context(record: Mapping[str, str]) -> float:
    if record.get("word_count", "").strip().isdigit():
        return float(record["word_count"])
    return float(len(record["segment"].split())) if record.get("segment") else float("nan")
