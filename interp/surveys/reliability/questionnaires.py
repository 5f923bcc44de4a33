"""Statements to agree or disagree with, each with its negations: the bundled questionnaire, or a table by path."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interp.errors import UserError
from interp.resources import data_file
from interp.surveys.reliability.problems import Problem, unread
from interp.texts.records import Problems, read

NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "prompt_id"),
    "instrument": ("instrument", "Instrument"),
    "axis": ("axis", "Theme"),
    "statement": ("statement", "Prompt"),
    "negation_direct": ("negation_direct", "Negated Prompt (negation word)"),
    "negation_paraphrastic": ("negation_paraphrastic", "Negated Prompt (semantic)"),
    "valence": ("valence", "Sentiment(Prompt)"),
}
"""Our columns, and what Model-Personas (Shu et al. 2024) calls them in `original_prompts.csv`."""
BUNDLED = "daily"
KINDS = {"direct": "negation_direct", "paraphrastic": "negation_paraphrastic"}
VALENCES = {"positive": 1.0, "negative": -1.0}


@dataclass(frozen=True)
class Item:
    """One statement.

    Attributes:
        statement, negations: sentences; `negations` by kind (direct, paraphrastic), those it has.
        valence: +1 where agreeing means more of the axis, -1 where it means less, NaN where that is unknown.
    """

    question: str
    instrument: str
    axis: str
    statement: str
    negations: Mapping[str, str]
    valence: float


@dataclass(frozen=True)
class Questionnaire:
    """Items, and the rows that could not be used as they were."""

    name: str
    items: Sequence[Item]
    problems: Sequence[Problem] = ()


def load_questionnaire(path: str | Path | None = None) -> Questionnaire:
    """The bundled questionnaire, or any table with the columns of `NAMES`.

    Only a statement column is needed: without a negation that measure is skipped, without a valence the axis cannot be
    scored. Rows without a statement, and rows that repeat an id or statement, are left out; every such row is named.

    Raises:
        UserError: no such file, not a table, no statement column, or no usable row.
    """
    bundled = data_file("questionnaire.csv")
    source = bundled if path is None else Path(path)
    table, problems = _read(source)
    items: list[Item] = []
    seen: dict[str, Item] = {}
    numbers: dict[str, int] = {}
    for row, record in table:
        instrument = record["instrument"] or source.stem
        number = numbers[instrument] = numbers.get(instrument, -1) + 1
        question = record["id"] or f"{instrument}:{number}"
        if not record["statement"]:
            problems.append(Problem("rows without a statement", source.name, row, question, "left out"))
            continue
        item, found = _item(question, instrument, record)
        earlier = seen.get(question) or seen.get(f"{instrument}/{item.statement}")
        if earlier is not None:
            problems.append(_repeated(source.name, row, item, earlier))
            continue
        seen[question] = seen[f"{instrument}/{item.statement}"] = item
        problems += [Problem(kind, source.name, row, question, what) for kind, what in found]
        items.append(item)
    if not items:
        raise UserError(f"{source} has no usable statement in its {len(table) + len(problems)} rows.")
    return Questionnaire(BUNDLED if path is None else source.stem, items, problems)


def sentence(text: str) -> str:
    """With a capital letter and a full stop: the statement as it is put to a model."""
    trimmed = text.strip()
    whole = trimmed[:1].upper() + trimmed[1:]
    return whole if whole[-1:] in (".", "!", "?", '"') else whole + "."


def _item(question: str, instrument: str, record: Mapping[str, str]) -> tuple[Item, list[tuple[str, str]]]:
    """An item, and (kind, what) of its problems."""
    problems = []
    statement = sentence(record["statement"])
    negations = {}
    for kind, column in KINDS.items():
        if not record[column]:
            problems.append((f"statements without a {kind} negation", "that measure is skipped for it"))
        elif sentence(record[column]) == statement:
            problems.append((f"statements without a {kind} negation", "its negation is the statement itself"))
        else:
            negations[kind] = sentence(record[column])
    valence = VALENCES.get(record["valence"].lower(), float("nan"))
    if valence != valence:
        what = f"valence is {record['valence']!r}, not positive or negative; its axis cannot be scored with it"
        problems.append(("statements without a valence", what))
    return Item(question, instrument, record["axis"] or "all", statement, negations, valence), problems


def _repeated(file: str, row: int, item: Item, earlier: Item) -> Problem:
    same = (item.statement, item.negations) == (earlier.statement, earlier.negations)
    kind = "repeated statements" if same else "duplicate prompts with different text"
    return Problem(kind, file, row, item.question, f"comes after {earlier.question}, which is used")


def _read(path: Path) -> tuple[list[tuple[int, dict[str, str]]], list[Problem]]:
    """(data row, cells) of every row, stripped, columns by our names; a column the file lacks is empty."""
    left_out = Problems()
    records = list(read(path, ("|".join(NAMES["statement"]),), left_out))
    present = {
        name: next((c for c in known if any(c in r.cells for r in records)), None) for name, known in NAMES.items()
    }
    rows = [
        (r.number, {name: r.cells.get(column, "").strip() if column else "" for name, column in present.items()})
        for r in records
    ]
    return rows, unread(left_out, path.name)
