"""Probabilities that somebody else logged, with their prompts, as a table of answers.

The format is that of Model-Personas (Shu et al. 2024): a CSV with a `prompt` column and one column `p(spelling)` per
first token, and a JSON of prompts with the fields text, prompt_id, options, reversed and neg.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from interp.errors import UserError, nearest
from interp.surveys.reliability.pairing import COLUMNS
from interp.texts.mending import mend
from interp.texts.problems import Problems
from interp.texts.records import json_records, read, read_json

NEGATIONS = {"False": "none", "negation_word": "direct", "semantic": "paraphrastic"}
"""What the released prompts call a negation, and what it is called here; our own names are understood as well."""
WORDINGS = {("true", "false"): "truth", ("yes", "no"): "yes_no", ("agree", "disagree"): "agree"}
"""Options by name, the agreeing one first."""
ROUNDING = 1e-3
"""By how much the two options' logged probabilities may add up to more than one."""


class Logged(NamedTuple):
    """A table of answers, and the rows that could not be used."""

    table: pd.DataFrame
    problems: Problems


def read_logged(probabilities: str | Path, prompts: str | Path) -> Logged:
    """Joins logged probabilities to their prompts by the prompt's text.

    Spellings of an option that differ only in case are merged by the largest of their probabilities, as the authors
    do. They log only the likeliest tokens (fifty a prompt): a spelling that is not in a row's list is less likely than
    the least one that is. An option none of whose spellings is listed counts as zero, and is named. A row is left out,
    and named, where a probability is no number between 0 and 1, or where neither option was logged.

    Raises:
        UserError: files of another shape, or none of whose rows can be used.
    """
    asked, problems = read_prompts(Path(prompts))
    cells = _read_probabilities(Path(probabilities), problems)
    table = _join(asked, cells, Path(probabilities).name, problems)
    if table.empty:
        shown = f" First: {problems[0]}." if problems else ""
        raise UserError(f"{probabilities} has no usable row for the prompts of {prompts}.{shown}")
    return Logged(table, problems)


# --------------------------------------------------------------------------------------------- prompts


def read_prompts(path: Path) -> tuple[pd.DataFrame, Problems]:
    """Prompts of a JSON file: one row per prompt with `text`, `options` (agreeing first) and the factors.

    A prompt whose id and variation came before with another text is left out and named; so is the very same prompt.

    Raises:
        UserError: not such a file, or options of which it is not known which one agrees.
    """
    records = _json_records(path)
    rows: list[dict[str, Any]] = []
    problems = Problems()
    seen: dict[tuple[Any, ...], str] = {}
    for number, record in enumerate(records, 1):
        row = _prompt_row(record, f"{path}, prompt {number}")
        key = tuple(row[k] for k in ("question", "wording", "order", "negation", "format", "persona"))
        if key in seen:
            same = seen[key] == row["text"]
            what = "the same prompt again" if same else "another text under an id and variation that came before"
            kind = "repeated prompts" if same else "duplicate prompts with different text"
            problems.add(kind, number, f"{what}; the first is used", question=row["question"], file=path.name)
            continue
        seen[key] = row["text"]
        rows.append(row)
    return pd.DataFrame(rows), problems


def _json_records(path: Path) -> list[dict[str, Any]]:
    """Records of a JSON that is a list of objects, or an object of columns (as pandas writes it)."""
    if not path.exists():
        raise UserError(f"No file {str(path)!r}; give the JSON with the prompts.")
    value = json_records(read_json(path), path, "prompts")
    if not value or not all(isinstance(r, dict) for r in value):
        raise UserError(f"{path} must hold prompts: a list of objects, or one object of columns.")
    return value


def _prompt_row(record: Mapping[str, Any], where: str) -> dict[str, Any]:
    for name in ("text", "prompt_id", "options"):
        if record.get(name) in (None, "", []):
            raise UserError(f"{where} has no {name!r}{nearest(name, record)}")
    options = tuple(str(o).strip().lower() for o in record["options"])
    if options[::-1] in WORDINGS:  # `reversed` says in which order the prompt lists them
        options = options[::-1]
    if options not in WORDINGS:
        known = ", ".join("/".join(o) for o in WORDINGS)
        raise UserError(f"{where}: options {'/'.join(options)} are not known; known (agreeing first): {known}.")
    negation = str(record.get("neg", False))
    negation = NEGATIONS.get(negation, negation)
    if negation not in NEGATIONS.values():
        raise UserError(f"{where}: neg is {negation!r}; expected one of {', '.join(NEGATIONS)}.")
    question = str(record["prompt_id"])
    return {
        "text": _line_feeds(str(record["text"])),
        "options": options,
        "question": question,
        "instrument": str(record.get("instrument", question.split(":")[0])),
        "axis": str(record.get("axis", "all")),
        "valence": _valence(record, negation),
        "wording": WORDINGS[options],
        "order": "swapped" if record.get("reversed", False) else "given",
        "negation": negation,
        "format": str(record.get("format", "baseline")),
        "persona": str(record.get("persona", "none")),
    }


def _line_feeds(text: str) -> str:
    """A table that went through a spreadsheet has other line ends than the prompts it was made from."""
    return mend(text).replace("\r\n", "\n")


def _valence(record: Mapping[str, Any], negation: str) -> float:
    """+1 or -1 for the statement as it was before any negation; the released files give that of the prompt itself."""
    sign = {"positive": 1.0, "negative": -1.0}.get(str(record.get("valence")).lower(), float("nan"))
    return sign if negation == "none" else -sign


# --------------------------------------------------------------------------------------------- probabilities


def _read_probabilities(path: Path, problems: Problems) -> pd.DataFrame:
    """Numbers per prompt and spelling, indexed by prompt text; NaN where a cell is empty."""
    unread = Problems()
    records = list(read(path, ("prompt",), unread))
    raw = pd.DataFrame([r.cells for r in records], index=[r.number for r in records], dtype=object).fillna("")
    spellings = [c for c in raw.columns if c.startswith("p(") and c.endswith(")")]
    if not spellings:
        raise UserError(f"{path} has no column such as p(True); one p(spelling) column per option is needed.")
    raw["prompt"] = raw["prompt"].map(_line_feeds)
    text = raw[spellings].apply(lambda column: column.str.strip())
    empty = text.isin(["", "NaN", "nan", "NA"])
    cells = text.mask(empty).apply(pd.to_numeric, errors="coerce")
    wrong = (cells.isna() & ~empty) | (cells < 0) | (cells > 1)
    problems.add_unreadable(unread, path.name)
    for row, column in zip(*np.nonzero(wrong.to_numpy()), strict=True):
        what = f"{spellings[column]} is {text.iloc[row, column]!r}, no number from 0 to 1; the row is left out"
        problems.add("probabilities out of range", int(raw.index[row]), what, file=path.name)
    cells = cells.assign(prompt=raw["prompt"], row=raw.index, bad=wrong.any(axis=1))
    _add_repeated(cells, spellings, path.name, problems)
    return cells.drop_duplicates("prompt")


def _add_repeated(cells: pd.DataFrame, spellings: Sequence[str], file: str, problems: Problems) -> None:
    for _, group in cells[cells.duplicated("prompt", keep=False)].groupby("prompt", sort=False):
        first = group.iloc[0]
        for _, other in group.iloc[1:].iterrows():
            same = first[spellings].equals(other[spellings])
            kind = "repeated rows" if same else "rows of one prompt with different probabilities"
            what = f"the prompt of row {first['row']} again; the first is used"
            problems.add(kind, int(other["row"]), what, file=file)


def _join(asked: pd.DataFrame, cells: pd.DataFrame, file: str, problems: Problems) -> pd.DataFrame:
    cells = cells.set_index("prompt")
    _add_unknown(asked, cells, file, problems)
    parts = [
        _fill(part, cells.loc[part["text"]], options, file, problems)
        for options, part in asked[asked["text"].isin(cells.index)].groupby("options", sort=False)
    ]
    table = pd.concat(parts) if parts else asked.iloc[:0].reindex(columns=list(COLUMNS))
    return table.sort_index()[list(COLUMNS)].reset_index(drop=True)


def _fill(
    asked: pd.DataFrame, cells: pd.DataFrame, options: Sequence[str], file: str, problems: Problems
) -> pd.DataFrame:
    """Probabilities for the prompts of one pair of options; `cells` has their rows, in their order."""

    def add(kind: str, where: pd.Series, what: str) -> None:
        for row, question in zip(cells.loc[where, "row"], asked.loc[where.to_numpy(), "question"], strict=True):
            problems.add(kind, int(row), what, question=question, file=file)

    spellings = {o: [c for c in cells if c[:2] == "p(" and c[2:-1].strip().lower() == o] for o in options}
    for option, columns in spellings.items():
        if not columns:
            raise UserError(f"{file} has no column for the option {option!r}, such as p({option.capitalize()}).")
    usable = ~cells["bad"]
    listed = pd.DataFrame({option: cells[columns].notna().any(axis=1) for option, columns in spellings.items()})
    silent = usable & ~listed.any(axis=1)
    add("missing probabilities", silent, "no spelling of either option was logged; the row is left out")
    usable &= ~silent
    for option in options:
        what = f"{option!r} is not among the spellings that were logged: it is less likely than those, and counts as 0"
        add("options that were not logged", usable & ~listed[option], what)
    agree, disagree = (cells[spellings[o]].max(axis=1).fillna(0.0) for o in options)
    over = usable & (agree + disagree > 1 + ROUNDING)
    add("probabilities out of range", over, "the two options' probabilities add up to more than 1; the row is left out")
    usable &= ~over
    largest = cells[[c for c in cells if c[:2] == "p("]].max(axis=1)
    filled = asked.assign(
        p_agree=agree.to_numpy(),
        p_disagree=disagree.to_numpy(),
        top=(np.maximum(agree, disagree) >= largest).to_numpy(),
    )
    return filled[usable.to_numpy()]


def _add_unknown(asked: pd.DataFrame, cells: pd.DataFrame, file: str, problems: Problems) -> None:
    """Rows whose prompt nobody declared, and prompts for which nothing was logged."""
    for row in cells.loc[~cells.index.isin(asked["text"]), "row"]:
        what = "its prompt is not among the prompts; the row is left out"
        problems.add("rows without a prompt", int(row), what, file=file)
    for number, question in asked.loc[~asked["text"].isin(cells.index), "question"].items():
        what = "no probabilities were logged for this prompt"
        problems.add("prompts without a row", int(number) + 1, what, question=question, file=file)
