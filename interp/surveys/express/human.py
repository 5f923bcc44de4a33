"""Human preferences between people's own words and a model's, and how far answers and lexicon agree with them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.inter_rater import aggregate_raters, fleiss_kappa

from interp.errors import UserError
from interp.statistics import Bootstrap, Estimates, numbered
from interp.surveys.express.lexicon import Lexicon
from interp.surveys.express.parsing import parse_labels
from interp.texts.problems import Problems
from interp.texts.records import read

CHOICES = ("SD", "LLM", "both", "neither")
"""Self-disclosed words, the model's words, both equally, neither."""
COLUMNS = ("coder", "index", "option1", "option2", "your_choice", "choice")


@dataclass(frozen=True)
class Preferences:
    """Judgements of coders, one a row: which of two lists of words fits a segment better.

    Attributes:
        table: coder, index, preferred and other (tuples of words; empty for both and neither), one, two (the options),
            choice, code (the coder's reason, empty where there is none).
        problems: rows that could not be used.
    """

    table: pd.DataFrame
    problems: Problems


def read_preferences(path: str | Path) -> Preferences:
    """The authors' `human-evaluation.csv`, or a table with its columns.

    Raises:
        UserError: no such file or columns, or no usable row.
    """
    problems, rows = Problems(), []
    for record in read(Path(path), COLUMNS, problems):
        row, cells = record.row, record.cells
        one, two = parse_labels(cells["option1"]), parse_labels(cells["option2"])
        marked = cells["your_choice"].lower().replace(" ", "")
        if one is None or two is None or len(one) != len(two):
            problems.add("has options that are not two lists of as many words", row)
        elif cells["choice"] not in CHOICES or marked not in ("option1", "option2", "both", "neither"):
            problems.add("has a choice that is none of option 1, option 2, both, neither", row)
        else:
            preferred, other = {"option1": (one, two), "option2": (two, one)}.get(marked, ((), ()))
            code = cells.get("code", "").removesuffix(".0")
            rows.append((cells["coder"], cells["index"], preferred, other, one, two, cells["choice"], code))
    if not rows:
        raise UserError(f"{path} has no usable judgement.")
    names = ["coder", "index", "preferred", "other", "one", "two", "choice", "code"]
    return Preferences(pd.DataFrame(rows, columns=names), problems)


def describe(preferences: Preferences, lexicon: Lexicon, *, resamples: int, seed: int) -> dict[str, Any]:
    """Shares of the choices (intervals over segments), agreement of coders, and what the lexicon makes of the options.

    `option_similarity` is the mean cosine between the two options' vectors by choice: if the lexicon measures
    what coders see, options judged equally fitting are more alike than others.
    """
    table = preferences.table
    bootstrap = Bootstrap(numbered(table["index"].tolist()), resamples, seed)
    chosen = np.column_stack([(table["choice"] == c).to_numpy(float) for c in CHOICES])
    alike = np.array([similarity(lexicon, a, b) for a, b in zip(table["one"], table["two"], strict=True)])
    shares = bootstrap.ratios(chosen, np.ones_like(chosen))
    likeness = bootstrap.ratios(chosen * alike[:, None], chosen)
    counts = chosen.sum(0).astype(int)
    return {
        "judgements": len(table),
        "segments": int(table["index"].nunique()),
        "choices": {c: _entry(shares, i, len(table)) for i, c in enumerate(CHOICES)},
        "option_similarity": {c: _entry(likeness, i, counts[i]) for i, c in enumerate(CHOICES)},
        "fleiss_kappa": _kappa(table),
        "codes": _codes(table),
        "skipped": preferences.problems.as_dict(),
    }


def agreement(
    preferences: Preferences, answers: Mapping[str, tuple[str, ...]], lexicon: Lexicon, *, resamples: int, seed: int
) -> dict[str, Any]:
    """How often answers are nearer, by the lexicon, to the words that a coder preferred than to the others.

    Judgements without a preference, or equally near to both, say nothing and are counted apart; 0.5 is chance.

    Args:
        answers: by segment id, the words of a valid answer.
    """
    table = preferences.table
    usable = [
        (id_, answers[id_], preferred, other)
        for id_, preferred, other in zip(table["index"], table["preferred"], table["other"], strict=True)
        if preferred and id_ in answers and len(answers[id_]) == len(preferred)
    ]
    gain = np.array([similarity(lexicon, a, p) - similarity(lexicon, a, o) for _, a, p, o in usable])
    told = np.flatnonzero(gain != 0)
    found: dict[str, Any] = {"judgements": len(usable), "equally_near": len(usable) - len(told)}
    if len(told):
        bootstrap = Bootstrap(numbered([usable[i][0] for i in told]), resamples, seed)
        nearer = (gain[told] > 0).astype(float)[:, None]
        found["nearer_to_preferred"] = _entry(bootstrap.ratios(nearer, np.ones_like(nearer)), 0, len(told))
    return found


def similarity(lexicon: Lexicon, one: tuple[str, ...], two: tuple[str, ...]) -> float:
    """Mean over masks of the cosine of the words' vectors: 1 for the same word, 0 where one has no dimension."""
    a, b = (lexicon.lookup(words, fallbacks=True).vectors for words in (one, two))
    norm = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    cosine = np.divide((a * b).sum(1), norm, out=np.zeros(len(norm)), where=norm > 0)
    return float(np.where(np.array(one, dtype=object) == np.array(two, dtype=object), 1.0, cosine).mean())


def _codes(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Judgements per code, and how many of them preferred which words."""
    coded = table[table["code"] != ""]
    counts = pd.crosstab(coded["code"], coded["choice"]).reindex(columns=CHOICES, fill_value=0)
    order = sorted(counts.index, key=lambda code: (len(code), code))
    return {code: {"n": int(counts.loc[code].sum()), **counts.loc[code].astype(int).to_dict()} for code in order}


def _kappa(table: pd.DataFrame) -> dict[str, Any]:
    """Fleiss' kappa (1971) over the segments that all coders judged."""
    wide = table.drop_duplicates(["index", "coder"]).pivot(index="index", columns="coder", values="choice").dropna()
    if len(wide) < 2 or wide.shape[1] < 2:
        return {"value": None, "n": len(wide), "coders": wide.shape[1]}
    counts, _ = aggregate_raters(wide.to_numpy(dtype=str))
    value = fleiss_kappa(counts)
    return {"value": float(value) if np.isfinite(value) else None, "n": len(wide), "coders": wide.shape[1]}


def _entry(estimates: Estimates, i: int, n: int) -> dict[str, Any]:
    value, low, high = (float(x[i]) if np.isfinite(x[i]) else None for x in estimates)
    return {"value": value, "ci_low": low, "ci_high": high, "n": int(n)}
