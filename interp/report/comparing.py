"""Several runs side by side: other models, corpora, templates, seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations, permutations
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import plotly.graph_objects as go

from interp.errors import DamagedError, UserError
from interp.files.stored import as_recorded, read_json, read_table
from interp.report import matching
from interp.report.carrying import carrying, gains_of
from interp.report.contents import Columns, Page, PageColumn, PageFigure, PageTable, Section
from interp.report.glance import short_name
from interp.report.looks import RUNS, add_curve, styled
from interp.report.page import write_page
from interp.report.sentences import Sentence, where
from interp.report.signal_names import signal_name
from interp.report.tables import emotions_compared
from interp.run import tables
from interp.run.alike import RunMatches, match_runs
from interp.run.carrying import carried
from interp.run.reading import RunFiles

SHOWN = ("probe_residuals", "probe_features", "joint_ablation", "direct_evidence")
MEASURES = ("recall", "n_causal", "effective_number", "share_top_1", "removed_together", "follows_in_others")
READ = ("why.parquet", "signals.parquet", "phases.json", "effects.parquet", "examples.parquet")
"""Files of every run that are read here."""


class TracedRun(NamedTuple):
    """A run under the name that tells it from the others."""

    name: str
    folder: Path
    files: RunFiles


class Compared(NamedTuple):
    """What `compare` wrote.

    Attributes:
        measures: the tidy table (run, emotion, measure, value).
        page: where the page is.
        matched: how the features of every run are found again in every other, where two read the same texts.
        unmatched: why those of the others are not, a sentence for every two runs.
    """

    measures: pd.DataFrame
    page: Path
    matched: Mapping[matching.Pair, RunMatches]
    unmatched: Sequence[str]


def compare(folders: Sequence[Path], out: Path, *, match: bool = True) -> Compared:
    """Writes `compare.html` and the tables of `interp/run/comparison.toml` into `out`; layers are aligned by relative
    depth, features matched on the texts that two runs have in common.

    Args:
        match: whether features are matched, which takes some seconds for every two runs.

    Raises:
        UserError: fewer than two runs, the same one twice, or one that has not been traced.
    """
    if len(folders) < 2:
        raise UserError("interp compare needs at least two run folders.")
    given = Counter(folder.resolve() for folder in folders)
    twice = next((folder for folder in folders if given[folder.resolve()] > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is given twice; a run beside itself shows nothing: name each run once.")
    runs = [TracedRun(name, folder, RunFiles(folder)) for name, folder in _names(folders).items()]
    for run in runs:
        for file in ("run.json", *READ):
            if not (run.folder / file).is_file():
                raise UserError(f"{run.folder} holds no {file}; run `interp trace` there first.")
        as_recorded(run.folder, READ, run.files.record)
    why = pd.concat([read_table(r.folder / "why.parquet").assign(run=r.name) for r in runs], ignore_index=True)
    tidy = why.melt(["run", "emotion"], [m for m in MEASURES if m in why], "measure", "value")
    matched, unmatched = _matched(runs) if match else ({}, ["Features were not matched: it was not asked for."])
    out.mkdir(parents=True, exist_ok=True)
    tables.write(out / "compare.parquet", tidy)
    for name in ("features", "layers", "emotions"):
        _write_matches(out / MATCH_FILES[name], matched, name)
    gains = gains_of({run.name: carried(run.files) for run in runs})
    tables.write(out / "transfer.parquet", gains)
    page = write_page(out / "compare.html", _page(runs, why, matched, unmatched, gains))
    return Compared(tidy, page, matched, unmatched)


MATCH_FILES = {
    "features": "matches.parquet",
    "layers": "match_layers.parquet",
    "emotions": "match_emotions.parquet",
}
"""By what of `RunMatches` they hold."""


def _matched(runs: Sequence[TracedRun]) -> tuple[dict[matching.Pair, RunMatches], list[str]]:
    """Each run's features in each other run, and a sentence for every two that cannot be matched."""
    matched: dict[matching.Pair, RunMatches] = {}
    unmatched: list[str] = []
    for one, other in permutations(runs, 2):
        try:
            matched[one.name, other.name] = match_runs(one.files, other.files)
        except DamagedError:
            raise
        except UserError as error:
            unmatched.append(str(error))
    return matched, _once(unmatched)


def _once(sentences: Sequence[str]) -> list[str]:
    """Two runs that cannot be matched say so both ways round: the words are the same but for their order."""
    seen: dict[frozenset[str], str] = {}
    for sentence in sentences:
        seen.setdefault(frozenset(sentence.split()), sentence)
    return list(seen.values())


def _write_matches(path: Path, matched: Mapping[matching.Pair, RunMatches], part: str) -> None:
    found = []
    for (run, beside), matches in matched.items():
        own = getattr(matches, part).assign(run=run, beside=beside, n=matches.n)
        found.append(own.assign(kind=matches.kind) if part == "features" else own)
    tables.write(path, pd.concat(found, ignore_index=True) if found else pd.DataFrame())


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


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """Folder names, with as many of their parents as tell them from their namesakes."""
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-length:]) for own in parts]
        short = [own[-1] for own in parts]
        names = [name if short.count(own[-1]) > 1 else own[-1] for name, own in zip(names, parts, strict=True)]
        if len(set(names)) == len(names):
            break
    return dict(zip(names, folders, strict=True))


def _page(
    runs: Sequence[TracedRun],
    why: pd.DataFrame,
    matched: Mapping[matching.Pair, RunMatches],
    unmatched: Sequence[str],
    gains: pd.DataFrame,
) -> Page:
    order = {run.name: i for i, run in enumerate(runs)}
    emotions = list(dict.fromkeys(why["emotion"]))
    ordered = why.sort_values(
        ["emotion", "run"], key=lambda c: c.map(order if c.name == "run" else emotions.index), kind="stable"
    )
    overlap = causal_overlap(runs)
    return Page(
        title="Runs side by side",
        lead=" · ".join(order),
        labels=emotions,
        answer=[Sentence(run.name, where(run.files)) for run in runs],
        notices=unmatched,
        sections=[
            Section("What was run", "runs", tables=[_runs(runs)], short="Runs"),
            Section(
                "Signals over relative depth", "signals", [_signal(runs, signal) for signal in SHOWN], short="Layers"
            ),
            Section(
                "Per emotion", "emotions", tables=[emotions_compared(ordered, ["emotion", "run"])], short="Emotions"
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
    *map(PageColumn, ("run", "model", "SAEs", "corpus")),
    PageColumn("n", "number", 0),
    PageColumn("accuracy", "share", 0),
    PageColumn("phases", "number", 0),
    PageColumn("resamples that agree", "share", 0),
    *map(PageColumn, ("changes at layer", "template", "examples")),
    PageColumn("seed", "number", 0),
]


def _runs(runs: Sequence[TracedRun]) -> PageTable:
    rows = []
    for run in runs:
        record, config, phases = run.files.record, run.files.record["config"], run.files.json("phases")
        examples = read_table(run.folder / "examples.parquet", columns=["role", "gold", "predicted"])
        discover = examples[examples["role"] == "discover"]
        changes = zip(phases["boundaries"], phases["intervals"], strict=True)
        rows.append(
            [
                run.name,
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


def _signal(runs: Sequence[TracedRun], signal: str) -> PageFigure:
    figure, counts = go.Figure(), []
    for i, run in enumerate(runs):
        depth = max(run.files.record["model"]["n_layers"] - 1, 1)
        table = read_table(run.folder / "signals.parquet")
        curve = table[table["signal"] == signal].sort_values("layer")
        colour = RUNS[i % len(RUNS)]
        add_curve(figure, curve.assign(depth=curve["layer"] / depth), "depth", run.name, colour)
        for boundary in read_json(run.folder / "phases.json")["boundaries"]:
            figure.add_vline(x=(boundary - 0.5) / depth, line={"color": colour, "dash": "dot", "width": 1})
        counts += curve["n"].tolist()
    name = signal_name(signal)
    figure.update_xaxes(title_text="relative depth")
    figure.update_yaxes(title_text=name.unit)
    caption = (
        f"{name.name[0].upper()}{name.name[1:]}. Depth 0 is the first layer, 1 the last. Points: means over the"
        f" discover examples of a run (n = {min(counts):,} to {max(counts):,}); bands: 95 % bootstrap intervals. Dotted"
        " lines: where the phases of the run of that colour change."
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
