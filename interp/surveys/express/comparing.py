"""Several models or settings side by side: one table, paired differences, figures, agreement with people."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.errors import UserError
from interp.files.stored import read_json
from interp.report.naming import told_apart
from interp.report.words import short_name
from interp.statistics import Bootstrap, numbered
from interp.surveys.express.answers import RECORD, AnswerSheet, read_answers
from interp.surveys.express.human import Preferences, agreement, describe
from interp.surveys.express.lexicon import Lexicon
from interp.surveys.express.pairs import ScoreColumn, headline, pair_up, without_empty
from interp.surveys.express.parsing import parse_answer
from interp.surveys.express.scoring import Scores, score


@dataclass(frozen=True)
class ScoredAnswers:
    """One model or setting.

    Attributes:
        name: the folder's or file's, by which tables go.
        shown: what it is called on a page: the model, and what else tells it from the others.
    """

    name: str
    answers: AnswerSheet
    scores: Scores
    shown: str = ""

    @property
    def title(self) -> str:
        return self.shown or self.name


@dataclass(frozen=True)
class ExpressComparison:
    """Entries by the same lexicon.

    Attributes:
        table: entry, then the columns of `Scores.table`.
        differences: entry minus the first entry on the segments that both answered: name, value, ci_low, ci_high, n
            (segments).
        human: what people preferred, and how often each entry's answers are nearer to it.
    """

    entries: list[ScoredAnswers]
    lexicon: Lexicon
    table: pd.DataFrame
    differences: pd.DataFrame
    human: Mapping[str, Any] | None

    def as_dict(self) -> dict[str, Any]:
        """The scores of every entry, what the others differ in from the first, and what people preferred."""
        scores = {entry.name: entry.scores.as_dict() for entry in self.entries}
        return {"entries": scores, "differences": self.differences, "human": self.human}


def load_entries(sources: Sequence[Path], lexicon: Lexicon, *, resamples: int, seed: int) -> list[ScoredAnswers]:
    """Run folders or answer files, scored by one lexicon and named by their folder or file.

    Raises:
        UserError: a folder without answers, or two entries of one name.
    """
    entries: list[ScoredAnswers] = []
    for source in sources:
        path = source / "answers.csv" if source.is_dir() else source
        if source.is_dir() and not path.exists():
            raise UserError(f"{source} holds no answers.csv; let `interp express run` finish there first.")
        name = source.resolve().name if source.is_dir() else source.stem
        if name in {entry.name for entry in entries}:
            raise UserError(f"Two entries are called {name!r}; rename one of the folders or files.")
        answers = read_answers(path)
        entries.append(ScoredAnswers(name, answers, score(answers, lexicon, resamples=resamples, seed=seed)))
    if not entries:
        raise UserError("Nothing to compare; give run folders or answer files.")
    shown = told_apart({e.name: _facts(source, e.name) for e, source in zip(entries, sources, strict=True)})
    return [replace(e, shown=shown[e.name]) for e in entries]


def _facts(source: Path, name: str) -> list[str]:
    """Model, steering, mode and examples of a run folder; of answers from elsewhere, their file's name."""
    path = source / RECORD
    record = read_json(path) if source.is_dir() and path.is_file() else {}
    if "model" not in record:
        return [name, "", "", "", ""]
    shots, chain = record.get("shots", 0), record.get("chain_of_thought")
    return [
        short_name(str(record["model"])),
        str(record.get("variant") or "unsteered").replace("-", " "),
        str(record.get("mode", "")),
        f"{shots} examples" if shots else "no examples",
        "with reasoning" if chain else "",
    ]


def compare(
    entries: Sequence[ScoredAnswers],
    lexicon: Lexicon,
    *,
    preferences: Preferences | None = None,
    resamples: int,
    seed: int,
) -> ExpressComparison:
    """Scores side by side, differences paired with the first entry, and agreement with people's preferences."""
    table = pd.concat([e.scores.table.assign(entry=e.name) for e in entries], ignore_index=True)
    first, *others = entries
    differences = [
        paired(first, other, lexicon, resamples=resamples, seed=seed).assign(entry=other.name) for other in others
    ]
    human = None
    if preferences is not None:
        options = {"resamples": resamples, "seed": seed}
        human = describe(preferences, lexicon, **options)
        human["entries"] = {e.name: agreement(preferences, _valid(e.answers), lexicon, **options) for e in entries}
    joined = pd.concat(differences, ignore_index=True) if differences else _no_differences()
    return ExpressComparison(list(entries), lexicon, table, joined, human)


def paired(first: ScoredAnswers, other: ScoredAnswers, lexicon: Lexicon, *, resamples: int, seed: int) -> pd.DataFrame:
    """other minus first, on the segments with the same id and gold words; posts resampled together."""
    place = {id_: i for i, id_ in enumerate(other.answers.ids)}
    shared = [
        (i, place[id_])
        for i, id_ in enumerate(first.answers.ids)
        if id_ in place and first.answers.labels[i] == other.answers.labels[place[id_]]
    ]
    if not shared:
        return _no_differences()
    sides = [_subset(e.answers, [pair[k] for pair in shared]) for k, e in enumerate((first, other))]
    columns = [_columns(side, lexicon) for side in sides]
    bootstrap = Bootstrap(numbered(sides[0].posts), resamples, seed)
    stacked = [
        [np.stack([getattr(c, part) for c in own], 1) for part in ("numerator", "denominator")] for own in columns
    ]
    changes = bootstrap.ratio_changes(*stacked)
    return pd.DataFrame({"name": [c.name for c in columns[0]], **changes._asdict(), "n": len(shared)})


def _columns(answers: AnswerSheet, lexicon: Lexicon) -> list[ScoreColumn]:
    pairs = pair_up(answers, lexicon)
    told = [replace(c, name=f"{c.name} without all-zero pairs") for c in without_empty(pairs)[:3]]
    return [*headline(pairs), *told]


def _subset(answers: AnswerSheet, rows: Sequence[int]) -> AnswerSheet:
    names = ("rows", "ids", "posts", "labels", "outputs")
    listed: dict[str, Any] = {name: [getattr(answers, name)[i] for i in rows] for name in names}
    return replace(answers, **listed, context=answers.context[list(rows)])


def _valid(answers: AnswerSheet) -> dict[str, tuple[str, ...]]:
    found = {}
    for id_, labels, output in zip(answers.ids, answers.labels, answers.outputs, strict=True):
        parsed = parse_answer(output, len(labels))
        if parsed.reason is None:
            found[id_] = parsed.words
    return found


def _no_differences() -> pd.DataFrame:
    return pd.DataFrame({"name": [], "value": [], "ci_low": [], "ci_high": [], "n": [], "entry": []})
