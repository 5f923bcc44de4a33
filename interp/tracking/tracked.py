"""A finished folder as a tracker shows it: numbers, configuration, figures and tables. No text of a corpus is in it."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from interp.errors import UserError
from interp.files.stored import read_json, read_record, read_table
from interp.report.glance import facts, heading, recognised
from interp.report.sentences import answer
from interp.run import tables
from interp.run.reading import PLAIN, RunFiles

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

EXPRESS = "express.json"
"""The record of a run of `interp express`."""
TEXTS = ("text",)
"""Columns that hold texts of corpora."""
WITH_TEXTS = ("cards.json",)
OF_A_SURVEY = ("run.json", EXPRESS, "scores.json", "scores.csv", "scores.parquet")
SHOWN = ("unsteered", "steered")
"""Methods whose scores are numbers of their own; the other ones are in the table."""


@dataclass(frozen=True)
class Tracked:
    """What is sent.

    Attributes:
        kind: run, express or reliability.
        numbers: `CORPUS/METHOD/METRIC`, and with `_low` and `_high` the ends of its 95 % interval.
        figures: by their names in the report.
        files: a folder with tables and records; it is gone after sending.
        notes: what was found, in sentences.
    """

    name: str
    kind: str
    config: Mapping[str, Any]
    numbers: Mapping[str, float]
    figures: "Mapping[str, go.Figure]"
    files: Path
    notes: str = ""


@contextmanager
def tracked(folder: Path) -> Iterator[Tracked]:
    """The folder of a run or a survey, as long as this lasts.

    Raises:
        UserError: neither, or one that has no results yet.
    """
    with TemporaryDirectory() as name:
        files = Path(name)
        if (folder / EXPRESS).is_file():
            yield _express(folder, files)
            return
        record = read_record(folder)
        yield _reliability(folder, record, files) if "made_by" in record else _run(folder, files)


def _run(folder: Path, files: Path) -> Tracked:
    from interp.report.sections import sections

    run = RunFiles(folder)
    record = run.record
    for file in tables.FILES.values():
        if file.name not in WITH_TEXTS and (folder / file.name).is_file() and Path(file.name).suffix != ".npz":
            _copy(folder / file.name, files / file.name)
    made_by = {"versions": record["versions"], **{k: record[k]["identity"] for k in ("model", "saes")}}
    said = [f"{heading(run)}. {' · '.join(facts(run))}", *map(str, answer(run)), f"Report: {folder / 'report.html'}"]
    return Tracked(
        name=record["name"],
        kind="run",
        config={**record["config"], "made_by": made_by},
        numbers=_numbers(run),
        figures={figure.name: figure.figure for section in sections(run) for figure in section.figures},
        files=files,
        notes="\n\n".join(said),
    )


def _numbers(run: RunFiles) -> dict[str, float]:
    """Recognition before and after, the price, and how much was found."""
    found: dict[str, float] = {}
    scores = run.table("evaluation")
    if scores is None:
        for one in recognised(run):
            found |= _interval(f"{one.corpus}/unsteered/accuracy", *one.accuracy[:3])
    else:
        own = scores[scores["method"].isin(SHOWN) & ~scores["metric"].str.startswith("recall_")]
        columns = ["corpus", "method", "metric", "value", "ci_low", "ci_high"]
        for corpus, method, metric, *numbers in own[columns].itertuples(index=False):
            found |= _interval(f"{corpus if corpus != PLAIN else 'language'}/{method}/{metric}", *numbers)
    causal = run.causal_features()
    if run.table("effects") is not None:
        found["found/causal_features"] = len(causal[["layer", "feature"]].drop_duplicates())
    if phases := run.json("phases"):
        found["found/phases"] = phases["n_phases"]
    return found


def _express(folder: Path, files: Path) -> Tracked:
    config, scores = read_json(folder / EXPRESS), _scores(folder / "scores.csv", "express")
    numbers: dict[str, float] = {}
    for section, score, *value in scores[["section", "score", "value", "ci_low", "ci_high"]].itertuples(index=False):
        if section.count("/") == 0:
            numbers |= _interval(f"{section}/{score}", *value)
    return _survey(folder, files, "express", config, numbers)


def _reliability(folder: Path, record: Mapping[str, Any], files: Path) -> Tracked:
    scores = _scores(folder / "scores.parquet", "reliability")
    numbers: dict[str, float] = {}
    own = scores.loc[scores["level"] == "all", ["part", "measure", "value", "low", "high"]]
    for part, measure, *value in own.itertuples(index=False):
        numbers |= _interval(f"{part}/{measure}", *value)
    return _survey(folder, files, "reliability", {k: v for k, v in record.items() if k != "stages"}, numbers)


def _survey(folder: Path, files: Path, kind: str, config: Mapping[str, Any], numbers: Mapping[str, float]) -> Tracked:
    for name in OF_A_SURVEY:
        if (folder / name).is_file():
            _copy(folder / name, files / name)
    return Tracked(folder.resolve().name, kind, config, numbers, {}, files, f"Folder: {folder}")


def _scores(path: Path, kind: str) -> "pd.DataFrame":
    """The table of a survey's scores.

    Raises:
        UserError: it is not there.
    """
    import pandas as pd

    if not path.is_file():
        raise UserError(f"{path.parent} holds no finished run of interp {kind}; the command that began it goes on.")
    return read_table(path) if path.suffix == ".parquet" else pd.read_csv(path)


def _interval(name: str, value: float, low: float, high: float) -> dict[str, float]:
    """A number with its interval; ends that were not measured are left out."""
    all_ = {name: value, f"{name}_low": low, f"{name}_high": high}
    return {key: float(number) for key, number in all_.items() if number == number}


def _copy(path: Path, to: Path) -> None:
    """A file as it is; of a table with texts, the rest."""
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        names = pq.read_schema(path).names
        if not {*names}.isdisjoint(TEXTS):
            pq.write_table(pq.read_table(path, columns=[name for name in names if name not in TEXTS]), to)
            return
    shutil.copyfile(path, to)
