"""A comparison to `comparison.html`, tables beside it."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from interp.files.folder import write_json, writing
from interp.files.jsonable import jsonable
from interp.report.contents import Page, PageColumn, PageFigure, PageTable, Section
from interp.report.few import few
from interp.report.page import write_page
from interp.report.sentences import Sentence
from interp.report.words import listed, signed
from interp.surveys.express import figures
from interp.surveys.express.comparing import ExpressComparison

SCORES_NOTE = (
    "VRate: answers with one word per mask. AccL: the writer's own word. AccV: a word of the same vector. F1V, AccV-2:"
    " overlap of the vectors, over the labels of valid answers only. A word the lexicon lacks is a zero vector, and two"
    ' zero vectors count as a match in AccV and AccV-2; "no all-zero" leaves those labels out. AccV-2 is high for'
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
    labels = {e.title: sum(map(len, e.answers.labels)) for e in comparison.entries}
    page = Page(
        title="EXPRESS comparison",
        heading="Does it name what people say they feel?",
        lead=(
            f"EXPRESS · {listed(list(labels))} · n = {_between(labels.values())} labels"
            f"{' each' if n > 1 else ''} · lexicon {lexicon.name} ({len(lexicon.words):,} words) · 95 % intervals,"
            f" {resamples:,} bootstrap resamples of posts, seed {seed}"
        ),
        answer=_said(comparison),
        notices=few(labels, "labels"),
        sections=_sections(comparison),
    )
    return write_page(out / "comparison.html", page)


def _between(counts: Collection[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _said(comparison: ExpressComparison) -> list[Sentence]:
    """The share of answers that name the writer's own word, and whether entries differ in it."""
    exact = {e.title: e.scores.section("scores").loc["AccL"] for e in comparison.entries}
    valid = {e.title: e.scores.section("scores").loc["VRate"] for e in comparison.entries}
    shares = ", ".join(f"{name} {row['value']:.3f}{_ends(row)} (n = {int(row['n']):,})" for name, row in exact.items())
    answered = ", ".join(f"{name} {100 * row['value']:.0f} %" for name, row in valid.items())
    words = [
        Sentence("Answers that can be read at all", f"{answered} (one word for each gap)."),
        Sentence("The writer's own word is named", f"share of labels: {shares}."),
    ]
    differences = comparison.differences[comparison.differences["name"] == "AccL"]
    if len(differences):
        first = comparison.entries[0].title
        titles = _titles(comparison)
        changes = ", ".join(
            f"{titles[row['entry']]} {signed(row['value'])}{_ends(row, signed)} (n = {int(row['n']):,} segments)"
            for row in differences.to_dict("records")
        )
        words.append(Sentence(f"Against {first}, on the same segments", f"{changes}."))
    return words


def _titles(comparison: ExpressComparison) -> dict[str, str]:
    return {entry.name: entry.title for entry in comparison.entries}


def _ends(row: Mapping[str, Any], written: Callable[[float], str] = "{:.3f}".format) -> str:
    return "" if row["ci_low"] != row["ci_low"] else f" [{written(row['ci_low'])}, {written(row['ci_high'])}]"


def _sections(comparison: ExpressComparison) -> list[Section]:
    titles = _titles(comparison)
    names = list(titles.values())
    table = comparison.table.assign(entry=comparison.table["entry"].map(titles))
    n = sum(sum(map(len, entry.answers.labels)) for entry in comparison.entries)
    over = f"n = {n:,} labels of {len(names)} {'entry' if len(names) == 1 else 'entries'}."
    known = {e.title: e.scores.confusion for e in comparison.entries}
    matrices = [(name, counts) for name, counts in known.items() if (counts.attrs["gold"] > 0).any()]
    silent = [name for name in known if name not in dict(matrices)]
    left_out = f" No valid answer, and so no matrix: {listed(silent)}." if silent else ""
    shown = [
        PageFigure(
            "headline",
            "Scores side by side",
            figures.headline(table, names),
            f"Bars are 95 % intervals over posts, {over} AccV-2 is high even for answers that name no emotion: most"
            " dimensions of most words are zero.",
        ),
        PageFigure(
            "emotions",
            "F1 with intervals",
            figures.emotions(table, names),
            f"F1 of the eight basic emotions with 95 % intervals, {over} An emotion that neither gold words nor answers"
            " have has no F1.",
            group="emotions",
        ),
    ]
    confused = [
        PageFigure(
            "confusion",
            "Which emotions are mistaken for which",
            figures.confusions(matrices),
            "Of the labels of valid answers whose gold word has the row's emotion (n in brackets), the share whose"
            " answer has the column's. Words have several emotions, so rows do not add up to 100 %; the diagonal is"
            " recall. A column that is dark throughout is an emotion that is always named; an emotion that no gold word"
            f" has has no row.{left_out}",
        )
        for _ in matrices[:1]
    ]
    wheel = figures.radar(table, names)
    if wheel is not None:
        caption = f"The same, neighbours as on Plutchik's wheel, {over}"
        shown.append(PageFigure("radar", "on the wheel", wheel, caption, group="emotions", most=640))
    sections = [
        Section("Scores side by side", "scores", shown[:1], [_scores(comparison)], "Scores"),
        Section("Which emotions are heard", "heard", shown[1:], short="Emotions"),
        Section("Which emotions are mistaken for which", "confusions", confused, short="Confusions"),
    ]
    if len(comparison.differences):
        sections.append(
            Section("Paired differences", "differences", tables=[_differences(comparison)], short="Differences")
        )
    if comparison.human is not None:
        sections.append(_human(comparison.human, titles))
    return sections


def _scores(comparison: ExpressComparison) -> PageTable:
    rows: list[list[Any]] = []
    for entry in comparison.entries:
        keyed = entry.scores.table.set_index(["section", "name"])
        cells = [_interval(keyed.loc[(section, name)]) for section, name, _ in figures.SCORES]
        unknown = sum(entry.scores.facts["unknown_words"]["predicted"].values())
        rows.append([entry.title, len(entry.answers.rows), sum(map(len, entry.answers.labels)), *cells, unknown])
    columns = [PageColumn("entry"), *_counts("segments", "labels")]
    columns += [*(PageColumn(title, "interval") for *_, title in figures.SCORES), *_counts("unknown answers")]
    return PageTable("scores", "Scores", columns, rows, SCORES_NOTE)


def _differences(comparison: ExpressComparison) -> PageTable:
    table, first, titles = comparison.differences, comparison.entries[0].title, _titles(comparison)
    names = list(dict.fromkeys(table["name"]))
    rows = [
        [titles[entry], int(own["n"].iloc[0]), *(_interval(row) for _, row in own.iterrows())]
        for entry, own in table.groupby("entry", sort=False)
    ]
    columns = [PageColumn(f"minus {first}"), *_counts("shared segments")]
    columns += [PageColumn(name, "interval", sign=True) for name in names]
    note = (
        "On the segments that both answered, the same resamples for both; not corrected for the number of comparisons."
    )
    return PageTable("differences", "Paired differences", columns, rows, note)


def _human(human: Mapping[str, Any], titles: Mapping[str, str]) -> Section:
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
            [titles[name], found["judgements"], found["equally_near"], _interval(found.get("nearer_to_preferred"))]
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
