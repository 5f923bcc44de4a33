"""A comparison to `comparison.html`, tables beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from interp.files.folder import write_json, writing
from interp.files.jsonable import jsonable
from interp.report.contents import Page, PageColumn, PageFigure, PageTable, Section
from interp.report.page import write_page
from interp.report.sentences import Sentence
from interp.surveys.express import figures
from interp.surveys.express.comparing import ExpressComparison

SCORES_NOTE = (
    "VRate: answers with one word per mask. AccL: the writer's own word. AccV: a word of the same vector. F1V, AccV-2:"
    " overlap of the vectors, over the labels of valid answers only. A word the lexicon lacks is a zero vector, and two"
    ' zero vectors count as a match in AccV and AccV-2; "no all-zero pairs" leaves those labels out. AccV-2 is high for'
    " any answer, because most dimensions of most words are zero. Several words can fit a gap: a wrong word is not"
    " always a wrong feeling."
)


def write_comparison(comparison: ExpressComparison, out: Path, *, resamples: int, seed: int) -> Path:
    """Writes `comparison.html` (self-contained), `.json`, `.csv` and `differences.csv`; same input, same bytes."""
    for name, table in (("comparison", comparison.table), ("differences", comparison.differences)):
        first = ["entry"] if "entry" in table else []
        with writing(out / f"{name}.csv") as part:
            table[[*first, *(c for c in table if c not in first)]].to_csv(part, index=False)
    write_json(out / "comparison.json", jsonable(comparison.as_dict()))
    n, lexicon = len(comparison.entries), comparison.lexicon
    page = Page(
        title="EXPRESS comparison",
        heading="Does it name what people say they feel?",
        lead=(
            f"{n} {'entry' if n == 1 else 'entries'} · lexicon {lexicon.name} ({len(lexicon.words)} words) ·"
            f" 95 % intervals, {resamples} bootstrap resamples of posts, seed {seed}"
        ),
        answer=_said(comparison),
        sections=[*_sections(comparison), *([] if comparison.human is None else [_human(comparison.human)])],
    )
    return write_page(out / "comparison.html", page)


def _said(comparison: ExpressComparison) -> list[Sentence]:
    """The share of answers that name the writer's own word, and whether entries differ in it."""
    exact = {e.name: e.scores.section("scores").loc["AccL"] for e in comparison.entries}
    shares = ", ".join(f"{name} {row['value']:.3f}{_ends(row)} (n = {int(row['n']):,})" for name, row in exact.items())
    words = [Sentence("The writer's own word is named", f"{shares}.")]
    differences = comparison.differences[comparison.differences["name"] == "AccL"]
    if len(differences):
        first = comparison.entries[0].name
        changes = ", ".join(
            f"{row['entry']} {row['value']:+.3f}{_ends(row, '+.3f')} (n = {int(row['n']):,} segments)"
            for row in differences.to_dict("records")
        )
        words.append(Sentence(f"Against {first}, on the same segments", f"{changes}."))
    return words


def _ends(row: Mapping[str, Any], form: str = ".3f") -> str:
    return "" if row["ci_low"] != row["ci_low"] else f" [{row['ci_low']:{form}}, {row['ci_high']:{form}}]"


def _sections(comparison: ExpressComparison) -> list[Section]:
    names = [entry.name for entry in comparison.entries]
    n = sum(sum(map(len, entry.answers.labels)) for entry in comparison.entries)
    over = f"n = {n:,} labels of {len(names)} {'entry' if len(names) == 1 else 'entries'}."
    matrices = [(e.name, e.scores.confusion) for e in comparison.entries]
    shown = [
        PageFigure(
            "headline",
            "Scores side by side",
            figures.headline(comparison.table, names),
            f"Bars are 95 % intervals over posts, {over} AccV-2 is high even for answers that name no emotion: most"
            " dimensions of most words are zero.",
        ),
        PageFigure(
            "emotions",
            "F1 with intervals",
            figures.emotions(comparison.table, names),
            f"F1 of the eight basic emotions with 95 % intervals, {over} An emotion that neither gold words nor answers"
            " have has no F1.",
            group="emotions",
        ),
        PageFigure(
            "radar",
            "on the wheel",
            figures.radar(comparison.table, names),
            f"The same, neighbours as on Plutchik's wheel, {over}",
            group="emotions",
            most=640,
        ),
        PageFigure(
            "confusion",
            "Which emotions are taken for which",
            figures.confusions(matrices),
            "Of the labels of valid answers whose gold word has the row's emotion (n in brackets), the share whose"
            " answer has the column's. Words have several emotions, so rows do not add up to 100 %; the diagonal is"
            " recall. A column that is dark throughout is an emotion that is always named.",
        ),
    ]
    sections = [
        Section("Scores side by side", "scores", shown[:1], [_scores(comparison)], "Scores"),
        Section("Which emotions are heard", "emotions", shown[1:3], short="Emotions"),
        Section("Which emotions are taken for which", "confusions", shown[3:], short="Confusions"),
    ]
    if len(comparison.differences):
        sections.append(
            Section("Paired differences", "differences", tables=[_differences(comparison)], short="Differences")
        )
    return sections


def _scores(comparison: ExpressComparison) -> PageTable:
    rows: list[list[Any]] = []
    for entry in comparison.entries:
        keyed = entry.scores.table.set_index(["section", "name"])
        cells = [_interval(keyed.loc[(section, name)]) for section, name, _ in figures.SCORES]
        unknown = sum(entry.scores.facts["unknown_words"]["predicted"].values())
        rows.append([entry.name, len(entry.answers.rows), sum(map(len, entry.answers.labels)), *cells, unknown])
    columns = [PageColumn("entry"), *_counts("segments", "labels")]
    columns += [*(PageColumn(title, "interval") for *_, title in figures.SCORES), *_counts("unknown answers")]
    return PageTable("scores", "Scores", columns, rows, SCORES_NOTE)


def _differences(comparison: ExpressComparison) -> PageTable:
    table, first = comparison.differences, comparison.entries[0].name
    names = list(dict.fromkeys(table["name"]))
    rows = [
        [entry, int(own["n"].iloc[0]), *(_interval(row) for _, row in own.iterrows())]
        for entry, own in table.groupby("entry", sort=False)
    ]
    columns = [PageColumn(f"minus {first}"), *_counts("shared segments")]
    columns += [PageColumn(name, "interval", sign=True) for name in names]
    note = (
        "On the segments that both answered, the same resamples for both; not corrected for the number of comparisons."
    )
    return PageTable("differences", "Paired differences", columns, rows, note)


def _human(human: Mapping[str, Any]) -> Section:
    choices, kappa, alike = human["choices"], human["fleiss_kappa"], human["option_similarity"]
    agreed = "-" if kappa["value"] is None else f"{kappa['value']:.2f}"
    words = (
        f"{human['judgements']} judgements of {human['segments']} segments: the writers' own words"
        f" {_told(choices['SD'])}, a model's words {_told(choices['LLM'])}, both {_told(choices['both'])}, neither"
        f" {_told(choices['neither'])}. Agreement of {kappa['coders']} coders on {kappa['n']} segments: Fleiss' kappa"
        f" {agreed}. Mean likeness of the two options where coders said both: {_told(alike['both'])}; where they chose"
        f" one: {_told(alike['SD'])} (own words), {_told(alike['LLM'])} (model's)."
    )
    entries = PageTable(
        "human",
        "Answers against what was preferred",
        [
            PageColumn("entry"),
            *_counts("judgements of its segments", "equally near to both"),
            PageColumn("nearer to the preferred words (chance 0.5)", "interval"),
        ],
        [
            [name, found["judgements"], found["equally_near"], _interval(found.get("nearer_to_preferred"))]
            for name, found in human["entries"].items()
        ],
        '"Nearer" is by the mean cosine of the lexicon\'s vectors.',
    )
    codes = PageTable(
        "codes",
        "Reasons",
        [PageColumn("code"), *_counts("judgements", "own words preferred", "model's words preferred")],
        [[code, count["n"], count["SD"], count["LLM"]] for code, count in human["codes"].items()],
        "Codes are the coders' reasons, numbered as in the file.",
    )
    return Section("What people preferred", "human", tables=[entries, codes], short="People", words=words)


def _counts(*titles: str) -> list[PageColumn]:
    return [PageColumn(title, "number", 0) for title in titles]


def _interval(row: Mapping[str, Any] | pd.Series | None) -> list[Any] | None:
    """A cell; None where there is no value, and no ends where nothing was resampled."""
    if row is None or pd.isna(row["value"]):
        return None
    return [row["value"], row["ci_low"], row["ci_high"]]


def _told(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "-"
    ends = "" if estimate["ci_low"] is None else f" [{estimate['ci_low']:.2f}, {estimate['ci_high']:.2f}]"
    return f"{estimate['value']:.2f}{ends}"
