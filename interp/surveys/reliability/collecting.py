"""A model's answers to many prompts, written as they come: a killed run goes on at the first unfinished batch."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from interp.files.folder import fingerprint
from interp.reporting import counted
from interp.surveys.answer_log import appending, read_log
from interp.surveys.reliability.answering import Answered
from interp.surveys.reliability.variations import VariedPrompt

LOG = "rows.jsonl"
AT_ONCE = 512
"""Prompts per batch; the batches of a run are the same whatever was finished before, and so are its numbers."""

Answerer = Callable[[Sequence[VariedPrompt]], Answered]


class AnswerRow(NamedTuple):
    """What is known about one prompt's answer."""

    probabilities: list[float]
    top: bool
    method: str
    cut: int


def collect(
    asked: Sequence[VariedPrompt],
    answer: Answerer,
    log: Path,
    *,
    around: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[AnswerRow]:
    """The answer to every prompt, in order; those already in `log` are not asked again.

    Args:
        log: JSON lines, appended to after every batch.
        around: entered around each batch, for instance a steering of the model that answers.
    """
    keys = [fingerprint([str(a.prompt), a.options]) for a in asked]
    known = dict(read_log(log, _answer))
    order = sorted(range(len(asked)), key=lambda i: (str(asked[i].prompt), keys[i]))
    batches = [order[start : start + AT_ONCE] for start in range(0, len(order), AT_ONCE)]
    for batch in counted(batches, "answers", "batch", total=len(batches)):
        missing = {keys[i] for i in batch} - set(known)
        if not missing:
            continue
        with around():
            found = answer([asked[i] for i in batch])
        fields = zip(batch, found.probabilities, found.top, found.method, found.cut, strict=True)
        rows = {keys[i]: AnswerRow(p.tolist(), bool(top), method, cut) for i, p, top, method, cut in fields}
        known |= {key: row for key, row in rows.items() if key in missing}
        with appending(log) as add:
            for key in rows:
                if key in missing:
                    add([key, *rows[key]])
    return [known[key] for key in keys]


def _answer(line: Any) -> tuple[str, AnswerRow]:
    key, probabilities, top, method, cut = line
    return str(key), AnswerRow([float(p) for p in probabilities], bool(top), str(method), int(cut))


def questionnaire_table(asked: Sequence[VariedPrompt], rows: Sequence[AnswerRow]) -> pd.DataFrame:
    """A table of answers as `scoring.score` takes it, with the method of each answer."""
    return _table(asked, rows, lambda a, row: {"p_agree": row.probabilities[0], "p_disagree": row.probabilities[1]})


def emotion_table(asked: Sequence[VariedPrompt], rows: Sequence[AnswerRow], labels: Sequence[str]) -> pd.DataFrame:
    """A table of answers as `emotion_scoring.score_emotions` takes it: p_<label> for every label."""
    return _table(asked, rows, lambda a, row: {f"p_{n}": p for n, p in zip(labels, row.probabilities, strict=True)})


def _table(
    asked: Sequence[VariedPrompt],
    rows: Sequence[AnswerRow],
    columns: Callable[[VariedPrompt, AnswerRow], dict[str, float]],
) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**a.facts, **columns(a, row), "top": row.top, "method": row.method, "cut": row.cut}
            for a, row in zip(asked, rows, strict=True)
        ]
    )
