"""Several runs side by side: one table and one figure, in a page that opens offline."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.errors import DamagedError, UserError
from interp.files.stored import read_record, read_table
from interp.report import page
from interp.report.contents import Page, PageColumn, PageFigure, PageTable, Section
from interp.report.looks import INK, add_dots, styled
from interp.surveys.reliability.measures import Share


class MeasureName(NamedTuple):
    """A measure in two words, so that a row fits a terminal of 80 columns, and what it is."""

    short: str
    meaning: str


MEASURES = {
    "agree": MeasureName("agrees", "share of plain statements agreed with"),
    "order": MeasureName("order", "same answer when the options swap places"),
    "wording": MeasureName("wording", "same answer when asked for yes/no or agree/disagree instead of true/false"),
    "format": MeasureName("format", "same answer in another of the nine formats"),
    "persona": MeasureName("persona", "same answer when told who it is"),
    "negation_direct": MeasureName("direct negation", "opposite answer to the statement with a negating word"),
    "negation_paraphrastic": MeasureName(
        "semantic negation", "opposite answer to the opposite statement in other words"
    ),
    "format_sensitivity": MeasureName("formats differ", "share of format pairs with different answers"),
    "accuracy": MeasureName("accuracy", "right in the given order of labels"),
    "accuracy_worst_order": MeasureName("in worst order", "right in the order of labels with the lowest accuracy"),
    "accuracy_every_order": MeasureName("in every order", "right whatever the order of labels"),
    "accuracy_averaged": MeasureName("orders averaged", "right if probabilities are averaged over orders"),
    "flip_rate": MeasureName("flip rate", "other answer in another order of labels"),
    "any_flip": MeasureName("texts that flip", "texts whose answer some order changes"),
    "fleiss_kappa": MeasureName("Fleiss' kappa", "agreement of the orders beyond chance"),
    "mass": MeasureName("probability mass", "probability on the options' likeliest spellings"),
    "top": MeasureName("option on top", "share of prompts whose likeliest next token is an option"),
    "position_bias": MeasureName("position bias", "+1: always the option listed first, -1: always the last"),
}
NAMES = {measure: name.short for measure, name in MEASURES.items()}


@dataclass(frozen=True)
class ComparedRun:
    """One run's overall measures, by (part, measure)."""

    name: str
    record: dict[str, Any]
    measures: dict[tuple[str, str], Share]

    def as_dict(self) -> dict[str, Any]:
        """Name, what was asked by whom, and by part and measure its share, interval, n and kappa."""
        parts = dict.fromkeys(part for part, _ in self.measures)
        return {
            "name": self.name,
            "made_by": self.record["made_by"],
            **{part: {m: share.as_dict() for (p, m), share in self.measures.items() if p == part} for part in parts},
        }


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


def common_measures(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """(part, measure) that at least one run has, in the order of `NAMES`."""
    present = {key for run in runs for key in run.measures}
    return [(part, m) for part in ("questionnaire", "emotions") for m in NAMES if (part, m) in present]


def figure(runs: Sequence[ComparedRun]) -> go.Figure:
    """A row per measure, a dot and interval per run, a hollow diamond for an answerer that always says the same."""
    keys = common_measures(runs)
    parts = list(dict.fromkeys(part for part, _ in keys))
    sizes = [sum(p == part for p, _ in keys) for part in parts]
    drawn = make_subplots(
        rows=len(parts),
        cols=2,
        column_widths=[0.62, 0.38],
        row_heights=[s / sum(sizes) for s in sizes],
        horizontal_spacing=0.04,
        vertical_spacing=0.1 if len(parts) > 1 else 0,
        shared_yaxes=True,
        subplot_titles=[title for part in parts for title in (f"{part}: share", f"{part}: kappa")],
    )
    named: set[str] = set()
    for row, part in enumerate(parts, 1):
        measures = [measure for p, measure in keys if p == part]
        for number, run in enumerate(runs):
            table = _part_of(run, part, measures)
            kappas = table.assign(value=table["kappa"], ci_low=table["kappa_low"], ci_high=table["kappa_high"])
            for column, points in ((1, table), (2, kappas)):
                known = points.dropna(subset="value")
                first = column == 1 and len(known) > 0 and run.name not in named
                panel = {"row": row, "col": column, "showlegend": first}
                add_dots(drawn, known, known["line"].tolist(), run.name, number, len(runs), **panel)
                named |= {run.name} if first else set()
        _constants(drawn, row, runs, part, measures)
        drawn.update_yaxes(
            tickvals=list(range(len(measures))),
            ticktext=[NAMES[m] for m in measures],
            range=[len(measures) - 0.4, -0.6],
            showgrid=False,
            row=row,
        )
    drawn.update_xaxes(range=[-1.05, 1.05])
    styled(drawn, 120 + 44 * len(keys))
    return drawn.update_xaxes(zeroline=True).update_yaxes(zeroline=False)


def _part_of(run: ComparedRun, part: str, measures: Sequence[str]) -> pd.DataFrame:
    """The columns of `Share`, with interval ends and the line of each measure that a run has."""
    known = {m: run.measures[part, m].as_dict() for m in measures if (part, m) in run.measures}
    table = pd.DataFrame(known.values(), columns=[f.name for f in fields(Share)])
    return table.rename(columns={"low": "ci_low", "high": "ci_high"}).assign(line=[measures.index(m) for m in known])


def _constants(drawn: go.Figure, row: int, runs: Sequence[ComparedRun], part: str, measures: Sequence[str]) -> None:
    """What a constant answerer gets, where that is defined."""
    values = [_constant(runs, part, m) for m in measures]
    drawn.add_scatter(
        x=[v for v in values if v == v],
        y=[place for place, v in enumerate(values) if v == v],
        mode="markers",
        name="a constant answerer",
        legendgroup="constant",
        showlegend=row == 1,
        marker={"color": INK, "size": 11, "symbol": "diamond-open"},
        hovertemplate="a constant answerer: %{x:.3f}",
        row=row,
        col=1,
    )


def _constant(runs: Sequence[ComparedRun], part: str, measure: str) -> float:
    return next(r.measures[part, measure].constant for r in runs if (part, measure) in r.measures)


def write_page(runs: Sequence[ComparedRun], out: Path) -> Path:
    """The comparison as one HTML file that needs no network; returns its path."""
    counts = [share.n for run in runs for share in run.measures.values()]
    caption = (
        "Dots: shares (left) and Cohen's kappa (right) with 95 % bootstrap intervals, resampled by question or text;"
        f" n = {min(counts):,} to {max(counts):,} pairs of answers, or answers. Hollow diamonds: what a model would get"
        " that always says the same; a stable share near the diamond proves nothing, and kappa near 0 says so. Position"
        " bias runs from -1 (always the option listed last) to 1 (always the first)."
    )
    shown = Page(
        title="Reliability",
        heading="Does the answer survive the question?",
        lead="The same questions, asked in ways that should not matter, or that should turn the answer round.",
        sections=[
            Section("Measures by model", "measures", [PageFigure("reliability", "Measures", figure(runs), caption)]),
            Section("In numbers", "numbers", tables=[_numbers(runs), _asked(runs)]),
        ],
    )
    return page.write_page(out, shown)


def _numbers(runs: Sequence[ComparedRun]) -> PageTable:
    """A row per measure: the share, kappa and n of every run."""
    rows = []
    for part, measure in common_measures(runs):
        shares = [run.measures.get((part, measure)) for run in runs]
        cells = [cell for share in shares for cell in (_cells(share) if share else (None, None, None))]
        rows.append([NAMES[measure], part, _constant(runs, part, measure), *cells, MEASURES[measure].meaning])
    columns = [PageColumn("measure"), PageColumn("asked of"), PageColumn("constant", "number")]
    for run in runs:
        columns += [PageColumn(run.name, "interval"), PageColumn("kappa", "interval", 2), PageColumn("n", "number", 0)]
    note = (
        "n: pairs of answers, or answers, that a number is made of. Kappa is left out where both sides always say the"
        " same. Constant: what a model would get that always says the same."
    )
    return PageTable("measures", "In numbers", [*columns, PageColumn("what it is")], rows, note)


def _cells(share: Share) -> tuple[list[float] | None, list[float] | None, int]:
    value = None if share.value != share.value else [share.value, share.low, share.high]
    kappa = None if share.kappa != share.kappa else [share.kappa, share.kappa_low, share.kappa_high]
    return value, kappa, share.n


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
