"""Several runs side by side: other models, corpora, templates, seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from interp.errors import DamagedError, UserError
from interp.files.stored import as_recorded, read_table
from interp.report import matching
from interp.report.carrying import gains_of
from interp.report.compared_page import TracedRun, compared_page
from interp.report.page import write_page
from interp.run import tables
from interp.run.alike import RunMatches, match_runs
from interp.run.carrying import carried
from interp.run.reading import RunFiles

MEASURES = ("recall", "n_causal", "effective_number", "share_top_1", "removed_together", "follows_in_others")
READ = ("why.parquet", "signals.parquet", "phases.json", "effects.parquet", "examples.parquet")
"""Files of every run that are read here."""


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
    """Writes `compare.html` and the tables of `interp/run/beside.toml` into `out`; layers are aligned by relative
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
    page = write_page(out / "compare.html", compared_page(runs, why, matched, unmatched, gains))
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
