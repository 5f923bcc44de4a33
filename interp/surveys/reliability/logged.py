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
from interp.surveys.reliability.problems import Problem, unread
from interp.texts.mending import mend
from interp.texts.records import Problems, json_records, read, read_json

NEGATIONS = {"False": "none", "negation_word": "direct", "semantic": "paraphrastic"}
"""What the released prompts call a negation, and what it is called here; our own names are understood as well."""
WORDINGS = {("true", "false"): "truth", ("yes", "no"): "yes_no", ("agree", "disagree"): "agree"}
"""Options by name, the agreeing one first."""
ROUNDING = 1e-3
"""By how much the two options' logged probabilities may add up to more than one."""


class Logged(NamedTuple):
    """A table of answers, and the rows that could not be used."""

    table: pd.DataFrame
    problems: list[Problem]


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
    cells, found = _read_probabilities(Path(probabilities))
    problems += found
    table, found = _join(asked, cells, Path(probabilities).name)
    problems += found
    if table.empty:
        shown = f" First: {problems[0]}." if problems else ""
        raise UserError(f"{probabilities} has no usable row for the prompts of {prompts}.{shown}")
    return Logged(table, problems)


# --------------------------------------------------------------------------------------------- prompts


def read_prompts(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Prompts of a JSON file: one row per prompt with `text`, `options` (agreeing first) and the factors.

    A prompt whose id and variation came before with another text is left out and named; so is the very same prompt.

    Raises:
        UserError: not such a file, or options of which it is not known which one agrees.
    """
    records = _json_records(path)
    rows: list[dict[str, Any]] = []
    problems: list[Problem] = []
    seen: dict[tuple, str] = {}
    for number, record in enumerate(records, 1):
        row = _prompt_row(record, f"{path}, prompt {number}")
        key = tuple(row[k] for k in ("question", "wording", "order", "negation", "format", "persona"))
        if key in seen:
            same = seen[key] == row["text"]
            what = "the same prompt again" if same else "another text under an id and variation that came before"
            kind = "repeated prompts" if same else "duplicate prompts with different text"
            problems.append(Problem(kind, path.name, number, row["question"], f"{what}; the first is used"))
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


def _read_probabilities(path: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Numbers per prompt and spelling, indexed by prompt text; NaN where a cell is empty."""
    left_out = Problems()
    records = list(read(path, ("prompt",), left_out))
    raw = pd.DataFrame([r.cells for r in records], index=[r.number for r in records], dtype=object).fillna("")
    spellings = [c for c in raw.columns if c.startswith("p(") and c.endswith(")")]
    if not spellings:
        raise UserError(f"{path} has no column such as p(True); one p(spelling) column per option is needed.")
    raw["prompt"] = raw["prompt"].map(_line_feeds)
    text = raw[spellings].apply(lambda column: column.str.strip())
    empty = text.isin(["", "NaN", "nan", "NA"])
    cells = text.mask(empty).apply(pd.to_numeric, errors="coerce")
    wrong = (cells.isna() & ~empty) | (cells < 0) | (cells > 1)
    problems = unread(left_out, path.name)
    for row, column in zip(*np.nonzero(wrong.to_numpy()), strict=True):
        what = f"{spellings[column]} is {text.iloc[row, column]!r}, no number from 0 to 1; the row is left out"
        problems.append(Problem("probabilities out of range", path.name, int(raw.index[row]), "", what))
    cells = cells.assign(prompt=raw["prompt"], row=raw.index, bad=wrong.any(axis=1))
    problems += _repeated(cells, spellings, path.name)
    return cells.drop_duplicates("prompt"), problems


def _repeated(cells: pd.DataFrame, spellings: Sequence[str], file: str) -> list[Problem]:
    problems = []
    for _, group in cells[cells.duplicated("prompt", keep=False)].groupby("prompt", sort=False):
        first = group.iloc[0]
        for _, other in group.iloc[1:].iterrows():
            same = first[spellings].equals(other[spellings])
            kind = "repeated rows" if same else "rows of one prompt with different probabilities"
            what = f"the prompt of row {first['row']} again; the first is used"
            problems.append(Problem(kind, file, int(other["row"]), "", what))
    return problems


def _join(asked: pd.DataFrame, cells: pd.DataFrame, file: str) -> tuple[pd.DataFrame, list[Problem]]:
    cells = cells.set_index("prompt")
    problems = _unknown(asked, cells, file)
    parts = []
    for options, part in asked[asked["text"].isin(cells.index)].groupby("options", sort=False):
        filled, found = _fill(part, cells.loc[part["text"]], options, file)
        parts.append(filled)
        problems += found
    table = pd.concat(parts) if parts else asked.iloc[:0].reindex(columns=list(COLUMNS))
    return table.sort_index()[list(COLUMNS)].reset_index(drop=True), problems


def _fill(
    asked: pd.DataFrame, cells: pd.DataFrame, options: Sequence[str], file: str
) -> tuple[pd.DataFrame, list[Problem]]:
    """Probabilities for the prompts of one pair of options; `cells` has their rows, in their order."""
    spellings = {o: [c for c in cells if c[:2] == "p(" and c[2:-1].strip().lower() == o] for o in options}
    problems = []
    usable = ~cells["bad"]
    for option, own in spellings.items():
        if not own:
            raise UserError(f"{file} has no column for the option {option!r}, such as p({option.capitalize()}).")
    listed = pd.DataFrame({option: cells[own].notna().any(axis=1) for option, own in spellings.items()})
    silent = usable & ~listed.any(axis=1)
    what = "no spelling of either option was logged; the row is left out"
    problems += _named("missing probabilities", file, cells[silent], asked[silent.to_numpy()], what)
    usable &= ~silent
    for option in options:
        rare = usable & ~listed[option]
        what = f"{option!r} is not among the spellings that were logged: it is less likely than those, and counts as 0"
        problems += _named("options that were not logged", file, cells[rare], asked[rare.to_numpy()], what)
    agree, disagree = (cells[spellings[o]].max(axis=1).fillna(0.0) for o in options)
    over = usable & (agree + disagree > 1 + ROUNDING)
    what = "the two options' probabilities add up to more than 1; the row is left out"
    problems += _named("probabilities out of range", file, cells[over], asked[over.to_numpy()], what)
    usable &= ~over
    largest = cells[[c for c in cells if c[:2] == "p("]].max(axis=1)
    filled = asked.assign(
        p_agree=agree.to_numpy(),
        p_disagree=disagree.to_numpy(),
        top=(np.maximum(agree, disagree) >= largest).to_numpy(),
    )
    return filled[usable.to_numpy()], problems


def _named(kind: str, file: str, rows: pd.DataFrame, prompts: pd.DataFrame, what: str) -> list[Problem]:
    numbered = zip(rows["row"], prompts["question"], strict=True)
    return [Problem(kind, file, int(row), question, what) for row, question in numbered]


def _unknown(asked: pd.DataFrame, cells: pd.DataFrame, file: str) -> list[Problem]:
    """Rows whose prompt nobody declared, and prompts for which nothing was logged."""
    stray = cells[~cells.index.isin(asked["text"])]
    problems = [
        Problem("rows without a prompt", file, int(row), "", "its prompt is not among the prompts; the row is left out")
        for row in stray["row"]
    ]
    silent = asked[~asked["text"].isin(cells.index)]
    problems += [
        Problem("prompts without a row", file, number + 1, question, "no probabilities were logged for this prompt")
        for number, question in zip(silent.index, silent["question"], strict=True)
    ]
    return problems
