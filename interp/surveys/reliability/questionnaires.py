"""Statements to agree or disagree with, each with its negations: the bundled questionnaire, or a table by path."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from interp.errors import UserError
from interp.resources import data_file
from interp.texts.problems import Problems
from interp.texts.records import read

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
    problems: Problems = field(default_factory=Problems)


def load_questionnaire(path: str | Path | None = None) -> Questionnaire:
    """The bundled questionnaire, or any table with the columns of `NAMES`.

    Only a statement column is needed: without a negation that measure is skipped, without a valence the axis cannot be
    scored. Rows without a statement, and rows that repeat an id or statement, are left out; every such row is named.

    Raises:
        UserError: no such file, not a table, no statement column, or no usable row.
    """
    bundled = data_file("questionnaire.csv")
    source = bundled if path is None else Path(path)
    problems, unread = Problems(), Problems()
    records = list(read(source, ("|".join(NAMES["statement"]),), unread))
    problems.add_unreadable(unread, source.name)
    columns = {n: next((c for c in known if any(c in r.cells for r in records)), "") for n, known in NAMES.items()}
    items: list[Item] = []
    seen: dict[str, Item] = {}
    numbers: Counter[str] = Counter()
    for record in records:
        cells = {name: record.cells.get(column, "").strip() if column else "" for name, column in columns.items()}
        instrument = cells["instrument"] or source.stem
        question = cells["id"] or f"{instrument}:{numbers[instrument]}"
        numbers[instrument] += 1
        where = {"question": question, "file": source.name}
        if not cells["statement"]:
            problems.add("rows without a statement", record.number, "left out", **where)
            continue
        item, found = _item(question, instrument, cells)
        earlier = seen.get(question) or seen.get(f"{instrument}/{item.statement}")
        if earlier is not None:
            same = (item.statement, item.negations) == (earlier.statement, earlier.negations)
            kind = "repeated statements" if same else "duplicate prompts with different text"
            problems.add(kind, record.number, f"comes after {earlier.question}, which is used", **where)
            continue
        seen[question] = seen[f"{instrument}/{item.statement}"] = item
        for kind, what in found:
            problems.add(kind, record.number, what, **where)
        items.append(item)
    if not items:
        raise UserError(f"{source} has no usable statement in its {len(records) + len(unread)} rows.")
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
