"""Several runs side by side: one table and one figure, in a page that opens offline."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs
from plotly.subplots import make_subplots

from interp.errors import DamagedError, UserError
from interp.files.folder import writing
from interp.files.stored import read_record, read_table
from interp.report.figures import FURTHER, INK
from interp.surveys.reliability.measures import Share

NAMES = {
    "agree": "agrees",
    "order": "order",
    "wording": "wording",
    "format": "format",
    "persona": "persona",
    "negation_direct": "direct negation",
    "negation_paraphrastic": "semantic negation",
    "format_sensitivity": "formats differ",
    "accuracy": "accuracy",
    "accuracy_worst_order": "in worst order",
    "accuracy_every_order": "in every order",
    "accuracy_averaged": "orders averaged",
    "flip_rate": "flip rate",
    "any_flip": "texts that flip",
    "fleiss_kappa": "Fleiss' kappa",
    "mass": "probability mass",
    "top": "option on top",
    "position_bias": "position bias",
}
"""Every measure in two words, so that a row fits a terminal of 80 columns."""
MEANINGS = {
    "agree": "share of plain statements agreed with",
    "order": "same answer when the options swap places",
    "wording": "same answer when asked for yes/no or agree/disagree instead of true/false",
    "format": "same answer in another of the nine formats",
    "persona": "same answer when told who it is",
    "negation_direct": "opposite answer to the statement with a negating word",
    "negation_paraphrastic": "opposite answer to the opposite statement in other words",
    "mass": "probability on the options' likeliest spellings",
    "top": "share of prompts whose likeliest next token is an option",
    "format_sensitivity": "share of format pairs with different answers",
    "position_bias": "+1: always the option listed first, -1: always the last",
    "accuracy": "right in the given order of labels",
    "accuracy_worst_order": "right in the order of labels with the lowest accuracy",
    "accuracy_every_order": "right whatever the order of labels",
    "accuracy_averaged": "right if probabilities are averaged over orders",
    "flip_rate": "other answer in another order of labels",
    "any_flip": "texts whose answer some order changes",
    "fleiss_kappa": "agreement of the orders beyond chance",
}


@dataclass(frozen=True)
class ComparedRun:
    """One run's overall measures, by (part, measure)."""

    name: str
    record: dict[str, Any]
    measures: dict[tuple[str, str], Share]


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
    parts = [part for part in ("questionnaire", "emotions") if any(p == part for p, _ in keys)]
    sizes = [sum(p == part for p, _ in keys) for part in parts]
    drawn = make_subplots(
        rows=len(parts),
        cols=2,
        column_widths=[0.62, 0.38],
        row_heights=[s / sum(sizes) for s in sizes],
        horizontal_spacing=0.04,
        vertical_spacing=0.1 if len(parts) > 1 else 0,
        shared_yaxes=True,
        subplot_titles=[title for part in parts for title in (f"{part}: share", "kappa")],
    )
    for row, part in enumerate(parts, 1):
        own = [measure for p, measure in keys if p == part]
        place = {measure: -i for i, measure in enumerate(own)}
        for number, run in enumerate(runs):
            shares = {m: run.measures[(part, m)] for m in own if (part, m) in run.measures}
            offset = (number - (len(runs) - 1) / 2) * -0.6 / max(2, len(runs))
            colour = FURTHER[number % len(FURTHER)]
            points = {place[m] + offset: (s.value, s.low, s.high, s.n) for m, s in shares.items()}
            kappas = {place[m] + offset: (s.kappa, s.kappa_low, s.kappa_high, s.n) for m, s in shares.items()}
            first = part == next(p for p, _ in keys if any(k == p for k, _ in run.measures))
            _dots(drawn, row, 1, points, colour=colour, name=run.name, legend=first)
            _dots(drawn, row, 2, kappas, colour=colour, name=run.name, legend=False)
        _constants(drawn, row, runs, part, place)
        axis = {"tickvals": list(place.values()), "ticktext": [NAMES[m] for m in own], "range": [-len(own) + 0.4, 0.6]}
        drawn.update_yaxes(**axis, row=row)
    drawn.update_xaxes(zeroline=True, zerolinecolor=INK, gridcolor="rgba(125,133,144,.25)", range=[-1.05, 1.05])
    drawn.update_yaxes(gridcolor="rgba(125,133,144,.25)", zeroline=False)
    drawn.update_layout(
        height=140 + 44 * len(keys),
        margin={"l": 10, "r": 10, "t": 70, "b": 30},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font_color=INK,
        legend={"orientation": "h", "x": 0, "y": 1, "yref": "container", "yanchor": "top"},
    )
    return drawn


def write_page(runs: Sequence[ComparedRun], out: Path) -> Path:
    """The comparison as one HTML file that needs no network; returns its path."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        (files("interp.surveys.reliability") / "template.html").read_text(encoding="utf-8")
    )
    config = {"responsive": True, "displaylogo": False, "displayModeBar": "hover"}
    plot = figure(runs).to_html(include_plotlyjs=False, full_html=False, div_id="figure-reliability", config=config)
    rows = [
        {
            "part": part,
            "measure": NAMES[m],
            "meaning": MEANINGS[m],
            "shares": [run.measures.get((part, m)) for run in runs],
        }
        for part, m in common_measures(runs)
    ]
    page = template.render(runs=runs, rows=rows, figure=plot, plotly=get_plotlyjs())
    with writing(out) as part:
        part.write_text(page, encoding="utf-8")
    return out


def _dots(
    drawn: go.Figure,
    row: int,
    column: int,
    points: dict[float, tuple[float, float, float, int]],
    *,
    colour: str,
    name: str,
    legend: bool,
) -> None:
    known = {y: p for y, p in points.items() if p[0] == p[0]}
    values = [p[0] for p in known.values()]
    drawn.add_scatter(
        x=values,
        y=list(known),
        mode="markers",
        name=name,
        legendgroup=name,
        showlegend=legend,
        marker={"color": colour, "size": 9},
        error_x={
            "array": [p[2] - p[0] for p in known.values()],
            "arrayminus": [p[0] - p[1] for p in known.values()],
            "thickness": 1.5,
            "width": 3,
        },
        customdata=[p[1:] for p in known.values()],
        hovertemplate="%{x:.3f} [%{customdata[0]:.3f}, %{customdata[1]:.3f}], n = %{customdata[2]}",
        row=row,
        col=column,
    )


def _constants(drawn: go.Figure, row: int, runs: Sequence[ComparedRun], part: str, place: dict[str, int]) -> None:
    """What a constant answerer gets, where that is defined."""
    shares = {m: next(r.measures[(part, m)] for r in runs if (part, m) in r.measures) for m in place}
    known = {m: s.constant for m, s in shares.items() if s.constant == s.constant}
    drawn.add_scatter(
        x=list(known.values()),
        y=[place[m] for m in known],
        mode="markers",
        name="a constant answerer",
        legendgroup="constant",
        showlegend=row == 1,
        marker={"color": INK, "size": 11, "symbol": "diamond-open"},
        hovertemplate="a constant answerer: %{x:.3f}",
        row=row,
        col=1,
    )
