"""Several runs side by side: their answer in sentences, one figure and one table, in a page that opens offline."""

import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from interp.errors import DamagedError, UserError
from interp.files.stored import read_record, read_table
from interp.report import page
from interp.report.contents import Page, PageColumn, PageFigure, PageTable, Section
from interp.report.few import few
from interp.report.sentences import Sentence
from interp.report.words import listed, percent, share
from interp.surveys.reliability.compared import MEASURES, NAMES, ComparedRun, common_measures, constant_of
from interp.surveys.reliability.figures import figure
from interp.surveys.reliability.measures import Share


def load_runs(folders: Sequence[Path]) -> list[ComparedRun]:
    """Runs in the order given; runs of one name are told apart by their folder.

    Raises:
        UserError: no folder given, or one that holds no finished run.
    """
    if not folders:
        raise UserError("Nothing to compare; give folders that `interp reliability run` wrote.")
    found = []
    for folder in folders:
        scores = folder / "scores.parquet"
        if not scores.is_file() or not (folder / "run.json").is_file():
            raise UserError(
                f"{folder} holds no finished reliability run; `interp reliability run --out {folder}` first."
            )
        names = [f.name for f in fields(Share)]
        table = read_table(scores, columns=["part", "level", "measure", *names])
        measures = {
            (row["part"], row["measure"]): Share(**{n: row[n] for n in names})
            for row in table[table["level"] == "all"].to_dict("records")
        }
        record = read_record(folder)
        made_by = record.get("made_by")
        if not isinstance(made_by, dict) or not {"model", "state"} <= set(made_by):
            raise DamagedError(folder / "run.json", "it does not say by what it was made")
        state = "" if made_by["state"] == "unsteered" else f" ({made_by['state']})"
        found.append(ComparedRun(Path(made_by["model"]).name + state, record, measures))
    repeated = {run.name for run in found if [r.name for r in found].count(run.name) > 1}
    return [
        ComparedRun(f"{run.name}: {folder.name}" if run.name in repeated else run.name, run.record, run.measures)
        for run, folder in zip(found, folders, strict=True)
    ]


def write_page(runs: Sequence[ComparedRun], out: Path) -> Path:
    """The comparison as one HTML file that needs no network; returns its path."""
    counts = [share.n for run in runs for share in run.measures.values()]
    caption = (
        "Dots: shares with 95 % bootstrap intervals, resampled by question or text, and beside them Cohen's kappa;"
        f" n = {min(counts):,} to {max(counts):,} pairs of answers, or answers. Hollow diamonds: what a model would get"
        " that always says the same; a stable share near the diamond proves nothing, and kappa near 0 says so. Position"
        " bias runs from -1 (always the option listed last) to 1 (always the first)."
    )
    asked = dict.fromkeys(
        str(name) for run in runs for name in (run.record.get("questionnaire"), run.record.get("corpus")) if name
    )
    shown = Page(
        title="Reliability",
        heading="Does the answer survive the question?",
        lead=" · ".join(
            (
                listed([run.name for run in runs]),
                f"asked: {', '.join(asked)}",
                "the same questions, asked in ways that should not matter, or that should turn the answer round",
            )
        ),
        answer=[Sentence(run.name, words) for run in runs if (words := _said(run))],
        notices=few({run.name: min(s.clusters for s in run.measures.values()) for run in runs}, "questions or texts"),
        sections=[
            Section(
                "Measures by model",
                "measures",
                [PageFigure("reliability", "Measures", figure(runs), caption)],
                short="Measures",
            ),
            Section("In numbers", "numbers", tables=[_numbers(runs), _asked(runs)], short="Numbers"),
        ],
    )
    return page.write_page(out, shown)


def _said(run: ComparedRun) -> str:
    """Whether answers stay when the options swap places, and turn round when the statement does."""
    order, negated = (run.measures.get(("questionnaire", m)) for m in ("order", "negation_direct"))
    flips, every = (run.measures.get(("emotions", m)) for m in ("flip_rate", "accuracy_every_order"))
    said = []
    if order is not None and order.value == order.value:
        said.append(
            f"When the two options swap places, {_percent(order)} of answers stay as they are"
            f" (n = {order.n:,}{_beyond(order)}; a model that always says the same: {share(order.constant)})."
        )
    if negated is not None and negated.value == negated.value:
        said.append(
            f"When the statement is denied, {_percent(negated)} turn round, as they should"
            f" (n = {negated.n:,}{_beyond(negated)}; always the same: {share(negated.constant)})."
        )
    if flips is not None and flips.value == flips.value:
        said.append(f"Asked for an emotion, {_percent(flips)} of answers change with the order of the labels.")
    if every is not None and every.value == every.value:
        said.append(f"Right whatever the order: {_percent(every)} of n = {every.n:,} texts.")
    return " ".join(said)


def _percent(found: Share) -> str:
    return percent(found.value, found.low, found.high)


def _beyond(found: Share) -> str:
    """Kappa, where it is defined."""
    return "" if found.kappa != found.kappa else f", kappa {found.kappa:.2f}"


def _numbers(runs: Sequence[ComparedRun]) -> PageTable:
    """A row per measure and run: narrow enough for a telephone, however many runs there are."""
    rows = [
        [NAMES[measure], run.name, *_cells(found), constant_of(runs, part, measure), part, MEASURES[measure].meaning]
        for part, measure in common_measures(runs)
        for run in runs
        if (found := run.measures.get((part, measure))) is not None
    ]
    columns = [
        *map(PageColumn, ("measure", "model")),
        PageColumn("share", "interval"),
        PageColumn("kappa", "interval", 2),
        PageColumn("n", "number", 0),
        PageColumn("always the same", "number"),
        *map(PageColumn, ("asked of", "what it is")),
    ]
    note = (
        "n: pairs of answers, or answers, that a number is made of. Kappa: agreement beyond chance, left out where both"
        " sides always say the same. Always the same: the share that a model would get that never changes its answer."
    )
    return PageTable("measures", "In numbers", columns, rows, note)


def _digits(value: float) -> int:
    """Behind the point: three, or as many as a value needs that would be nothing else."""
    return 3 if value == 0 or abs(value) >= 0.0005 else min(-math.floor(math.log10(abs(value))), 6)


def _cells(found: Share) -> tuple[list[float] | None, list[float] | None, int]:
    value = None if found.value != found.value else [found.value, found.low, found.high, _digits(found.value)]
    kappa = None if found.kappa != found.kappa else [found.kappa, found.kappa_low, found.kappa_high]
    return value, kappa, found.n


def _asked(runs: Sequence[ComparedRun]) -> PageTable:
    columns = [PageColumn(title) for title in ("model", "questionnaire", "corpus", "answers")]
    rows = [
        [
            run.name,
            run.record.get("questionnaire") or "-",
            run.record.get("corpus") or "-",
            run.record["made_by"]["answers"],
        ]
        for run in runs
    ]
    return PageTable("asked", "What was asked", columns, rows, "One row per run.")
