"""A model's answers to many prompts, written as they come: a killed run goes on at the first unfinished batch."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from interp.errors import UserError
from interp.files.folder import RunFolder, fingerprint
from interp.reporting import Progress, silent
from interp.surveys.reliability.answering import Answered
from interp.surveys.reliability.variations import Asked

LOG = "rows.jsonl"
AT_ONCE = 512
"""Prompts per batch; the batches of a run are the same whatever was finished before, and so are its numbers."""

Answerer = Callable[[Sequence[Asked]], Answered]


class Row(NamedTuple):
    """What is known about one prompt's answer."""

    probabilities: list[float]
    top: bool
    method: str
    cut: int


def open_folder(path: Path, made_by: Mapping[str, Any]) -> RunFolder:
    """The folder of a run, new or begun before by the same model in the same state.

    Raises:
        UserError: the folder holds something else, or rows of another model.
    """
    folder = RunFolder.open(path, "reliability")
    before = folder.record.get("made_by")
    if before is not None and before != dict(made_by):
        differs = next(k for k in {**before, **made_by} if before.get(k) != made_by.get(k))
        raise UserError(
            f"{path} holds answers of another run ({differs}: {before.get(differs)}, now {made_by.get(differs)});"
            " choose another --out."
        )
    folder.note(name="reliability", made_by=dict(made_by))
    return folder


def collect(
    asked: Sequence[Asked],
    answer: Answerer,
    log: Path,
    *,
    around: Callable[[], AbstractContextManager] = nullcontext,
    progress: Progress = silent,
) -> list[Row]:
    """The answer to every prompt, in order; those already in `log` are not asked again.

    Args:
        log: JSON lines, appended to after every batch.
        around: entered around each batch, for instance a steering of the model that answers.
        progress: shows the batches.
    """
    keys = [fingerprint([str(a.prompt), a.options]) for a in asked]
    done = read_log(log)
    order = sorted(range(len(asked)), key=lambda i: (str(asked[i].prompt), keys[i]))
    batches = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
    for batch in progress(batches, "answers", "batch"):
        missing = [i for i in batch if keys[i] not in done]
        if not missing:
            continue
        with around():
            rows = list(_rows(answer([asked[i] for i in batch])))
        found = dict(zip(batch, rows, strict=True))
        _append(log, {keys[i]: found[i] for i in missing})
        done |= {keys[i]: found[i] for i in missing}
    return [done[key] for key in keys]


def read_log(log: Path) -> dict[str, Row]:
    """Rows by key. A last line that was cut short by a killed run is removed from the file.

    Raises:
        UserError: a damaged line.
    """
    if not log.exists():
        return {}
    content = log.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if len(whole) < len(content):
        log.write_bytes(whole)
    rows = {}
    for number, line in enumerate(whole.split(b"\n")[:-1], 1):
        try:
            key, probabilities, top, method, cut = json.loads(line)
            rows[str(key)] = Row([float(p) for p in probabilities], bool(top), str(method), int(cut))
        except (TypeError, ValueError, RecursionError):
            raise UserError(f"{log}, line {number} is damaged; remove the line, or choose another --out.") from None
    return rows


def questionnaire_table(asked: Sequence[Asked], rows: Sequence[Row]) -> pd.DataFrame:
    """A table of answers as `scoring.score` takes it, with the method of each answer."""
    return _table(asked, rows, lambda a, row: {"p_agree": row.probabilities[0], "p_disagree": row.probabilities[1]})


def emotion_table(asked: Sequence[Asked], rows: Sequence[Row], labels: Sequence[str]) -> pd.DataFrame:
    """A table of answers as `emotion_scoring.score_emotions` takes it: p_<label> for every label."""
    return _table(asked, rows, lambda a, row: {f"p_{n}": p for n, p in zip(labels, row.probabilities, strict=True)})


def _table(
    asked: Sequence[Asked], rows: Sequence[Row], columns: Callable[[Asked, Row], dict[str, float]]
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**a.facts, **columns(a, row), "top": row.top, "method": row.method, "cut": row.cut}
            for a, row in zip(asked, rows, strict=True)
        ]
    )


def _rows(answered: Answered) -> Iterator[Row]:
    fields: Iterable = zip(answered.probabilities, answered.top, answered.method, answered.cut, strict=True)
    for probabilities, top, method, cut in fields:
        yield Row(probabilities.tolist(), bool(top), method, cut)


def _append(log: Path, rows: Mapping[str, Row]) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps([key, *row]) + "\n" for key, row in rows.items()))
