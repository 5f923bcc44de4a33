"""The page of several runs side by side."""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from interp.files.stored import read_json, read_table
from interp.report import matching
from interp.report.carrying import carrying
from interp.report.compared_scores import emotions_figure, scores_table
from interp.report.contents import Columns, Page, PageColumn, PageFigure, PageTable, Section
from interp.report.few import few
from interp.report.looks import RUNS, add_curve, styled
from interp.report.naming import run_names
from interp.report.sentences import Sentence, where
from interp.report.signal_names import signal_name
from interp.report.tables import emotions_compared
from interp.report.words import listed, short_name
from interp.run.alike import RunMatches
from interp.run.reading import PLAIN, RunFiles, score_of

SHOWN = ("probe_residuals", "probe_features", "joint_ablation", "direct_evidence")
MOST_NESTED = 3
"""Widths of curves."""


class TracedRun(NamedTuple):
    """A run under the name that tells it from the others."""

    name: str
    folder: Path
    files: RunFiles


def compared_page(
    runs: Sequence[TracedRun],
    why: pd.DataFrame,
    matched: Mapping[matching.Pair, RunMatches],
    unmatched: Sequence[str],
    gains: pd.DataFrame,
) -> Page:
    """Of `why`, `transfer.parquet` and matches of these runs, all by the names of their folders."""
    shown = run_names({run.name: run.files for run in runs})
    folders = [run.name for run in runs]
    runs = [run._replace(name=shown[run.name]) for run in runs]
    why, gains = (table.assign(run=table["run"].map(shown)) for table in (why, gains))
    matched = {(shown[one], shown[other]): found for (one, other), found in matched.items()}
    files = {run.name: run.files for run in runs}
    order = {run.name: i for i, run in enumerate(runs)}
    emotions = list(dict.fromkeys(why["emotion"]))
    ordered = why.sort_values(
        ["emotion", "run"], key=lambda c: c.map(order if c.name == "run" else emotions.index), kind="stable"
    )
    overlap = causal_overlap(runs)
    signals = [figure for figure in (_signal(runs, signal) for signal in SHOWN) if figure is not None]
    scores, by_emotion = scores_table(files), emotions_figure(files, emotions)
    return Page(
        title="Runs side by side",
        heading=f"{len(runs)} runs side by side",
        lead=" · ".join(_facts(runs, emotions)),
        labels=emotions,
        answer=_said(runs),
        notices=[*few(_tested(files), "test texts"), *unmatched],
        sections=[
            Section("What was run", "runs", tables=[_runs(runs, folders)], short="Runs"),
            Section("Recognition and steering", "scores", tables=[scores] if scores else [], short="Scores"),
            Section("Signals over relative depth", "signals", signals, short="Layers"),
            Section(
                "Per emotion",
                "emotions",
                [by_emotion] if by_emotion else [],
                [emotions_compared(ordered, ["emotion", "run"])],
                short="Emotions",
            ),
            Section(
                "Are they the same features?",
                "overlap",
                tables=[_overlap(overlap)] if len(overlap) else [],
                short="Overlap",
            ),
            *carrying(gains),
            *_alike(runs, matched, emotions),
        ],
    )


def _said(runs: Sequence[TracedRun]) -> list[Sentence]:
    """Where each run finds the emotion; runs that find the same say it together."""
    found: dict[str, list[str]] = {}
    for run in runs:
        found.setdefault(where(run.files), []).append(run.name)
    return [Sentence(listed(names), words) for words, names in found.items() if words]


def _facts(runs: Sequence[TracedRun], emotions: Sequence[str]) -> list[str]:
    """Models, corpora, emotions and days, each once."""
    records = [run.files.record for run in runs]
    models = dict.fromkeys(short_name(str(record["model"]["name"])) for record in records)
    corpora = dict.fromkeys(str(record["config"]["corpora"]["discover"]["name"]) for record in records)
    days = sorted({str(record["date"]) for record in records if record.get("date")})
    return [
        f"{'models' if len(models) > 1 else 'model'}: {', '.join(models)}",
        f"{'corpora' if len(corpora) > 1 else 'corpus'}: {', '.join(corpora)}",
        f"emotions: {', '.join(emotions)}",
        *([" to ".join(dict.fromkeys((days[0], days[-1])))] if days else []),
    ]


def _tested(runs: Mapping[str, RunFiles]) -> dict[str, int]:
    """Test texts of each run, of the corpus of which it has fewest."""
    scored = {name: run.table("evaluation") for name, run in runs.items()}
    counts = {
        name: [score_of(own, "unsteered", "accuracy") for _, own in table[table["corpus"] != PLAIN].groupby("corpus")]
        for name, table in scored.items()
        if table is not None
    }
    return {name: min(e.n for e in found if e) for name, found in counts.items() if any(found)}


def _alike(
    runs: Sequence[TracedRun], matched: Mapping[matching.Pair, RunMatches], emotions: list[str]
) -> list[Section]:
    """What one model's features are in another; nothing where no two runs read the same texts."""
    if not matched:
        return []
    depths = {run.name: int(run.files.record["model"]["n_layers"]) for run in runs}
    figures = [*matching.layer_figures(matched), matching.depth_figure(matched, depths)]
    listed = [
        matching.pairs_table(matched),
        matching.emotions_table(matched),
        matching.features_table(matched, emotions),
    ]
    return [Section("What is universal", "universal", figures, [t for t in listed if t is not None], "Universal")]


RUNS_TABLE = [
    *map(PageColumn, ("run", "folder", "model", "SAEs", "corpus")),
    PageColumn("n", "number", 0),
    PageColumn("accuracy", "share", 0),
    PageColumn("phases", "number", 0),
    PageColumn("resamples that agree", "share", 0),
    *map(PageColumn, ("changes at layer", "template", "examples")),
    PageColumn("seed", "number", 0),
]


def _runs(runs: Sequence[TracedRun], folders: Sequence[str]) -> PageTable:
    rows = []
    for run, folder in zip(runs, folders, strict=True):
        record, config, phases = run.files.record, run.files.record["config"], run.files.json("phases")
        examples = read_table(run.folder / "examples.parquet", columns=["role", "gold", "predicted"])
        discover = examples[examples["role"] == "discover"]
        changes = zip(phases["boundaries"], phases["intervals"], strict=True)
        rows.append(
            [
                run.name,
                folder,
                short_name(record["model"]["name"]),
                short_name(record["saes"]["name"]),
                config["corpora"]["discover"]["name"],
                len(discover),
                (discover["gold"] == discover["predicted"]).mean(),
                len(phases["phases"]),
                phases.get("support"),
                ", ".join(f"{layer} [{low}, {high}]" for layer, (low, high) in changes) or "-",
                config["prompt"]["template"],
                config["tracing"]["examples"],
                config["seed"],
            ]
        )
    note = (
        "n: discover examples, and the accuracy on them of the model as it is. Phases: stretches of layers that behave"
        " alike, as many as fit the signals best; beside them how many resamples agree on that number, and the layers"
        " with which a new one begins, with 95 % bootstrap intervals."
    )
    return PageTable("runs", "What was run", RUNS_TABLE, rows, note)


def _signal(runs: Sequence[TracedRun], signal: str) -> PageFigure | None:
    """None where no run has it. Earlier runs are drawn wider, so that one that is the same does not hide them."""
    figure, counts = go.Figure(), []
    for i, run in enumerate(runs):
        depth = max(run.files.record["model"]["n_layers"] - 1, 1)
        table = read_table(run.folder / "signals.parquet")
        curve = table[table["signal"] == signal].sort_values("layer")
        colour = RUNS[i % len(RUNS)]
        if not len(curve):
            continue
        behind = min(len(runs) - 1 - i, MOST_NESTED)
        look = {"line_width": 2 + 2 * behind, "marker_size": 6 + 2 * behind}
        add_curve(figure, curve.assign(depth=curve["layer"] / depth), "depth", run.name, colour, **look)
        for boundary in read_json(run.folder / "phases.json")["boundaries"]:
            figure.add_vline(x=(boundary - 0.5) / depth, line={"color": colour, "dash": "dot", "width": 1})
        counts += curve["n"].tolist()
    if not counts:
        return None
    name = signal_name(signal)
    figure.update_xaxes(title_text="relative depth")
    figure.update_yaxes(title_text=name.unit)
    caption = (
        f"{name.name[0].upper()}{name.name[1:]}. Depth 0 is the first layer, 1 the last. Points: means over the"
        f" discover examples of a run (n = {min(counts):,} to {max(counts):,}); bands: 95 % bootstrap intervals. Dotted"
        " lines: where the phases of the run of that colour change. A thin line inside a wide one: both runs are the"
        " same there."
    )
    return PageFigure(signal, name.name, styled(figure, 320), caption, group="signals")


OVERLAP: Columns = {
    "run": PageColumn("run"),
    "beside": PageColumn("beside"),
    "causal": PageColumn("causal", "number", 0),
    "causal_beside": PageColumn("causal beside", "number", 0),
    "overlap": PageColumn("overlap", "number"),
}


def _overlap(overlap: pd.DataFrame) -> PageTable:
    note = "Jaccard overlap of causal (layer, feature, emotion), for runs on the same SAEs."
    return PageTable.of(overlap, OVERLAP, name="overlap", title="Are they the same features?", note=note)


def causal_overlap(runs: Sequence[TracedRun]) -> pd.DataFrame:
    """Jaccard overlap of the causal (layer, feature, emotion) triples of every two runs on the same SAEs."""
    found = {}
    for run in runs:
        causal = run.files.causal_features()
        found[run.name] = set(zip(causal["layer"], causal["feature"], causal["emotion"], strict=True))
    identities = {run.name: run.files.record["saes"]["identity"] for run in runs}
    pairs = [(a, b) for a, b in combinations(found, 2) if identities[a] == identities[b]]
    return pd.DataFrame(
        {
            "run": a,
            "beside": b,
            "causal": len(found[a]),
            "causal_beside": len(found[b]),
            "overlap": len(found[a] & found[b]) / len(found[a] | found[b]) if found[a] | found[b] else float("nan"),
        }
        for a, b in pairs
    )
