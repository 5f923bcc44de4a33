"""The files of a run as report, findings and commands read them: those that are there, and a word about the rest."""

import warnings
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from interp.analysis import effect_rows
from interp.errors import DamagedError, InterpWarning
from interp.files.folder import SCHEMA_VERSION
from interp.files.stored import as_recorded, read_json, read_record
from interp.resources import NO_SAES
from interp.run import tables
from interp.run.afterwards import stale
from interp.run.stage import declared_stages, in_order, without_saes
from interp.statistics import Estimate

PLAIN = "plain text"
"""In the place of a corpus: rows on what a steering costs in language."""


@dataclass(frozen=True)
class RunFiles:
    """What a run has written so far; a missing file, or one that lacks columns, is None.

    Tables have the present names of their columns, also those of a run of an earlier layout. A file that is not what
    `run.json` records, or cannot be read, is refused (`DamagedError`).

    Attributes:
        lacking: a sentence for every table that lacks columns, as one of an older version may.
    """

    folder: Path
    lacking: dict[str, str] = field(default_factory=dict)
    _tables: dict[str, pd.DataFrame | None] = field(default_factory=dict, repr=False)

    @cached_property
    def record(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            UserError: there is none, or it lacks what the report says of a run.
        """
        record = read_record(self.folder)
        for name in tables.FILES["run.json"].needed:
            entry, _, key = name.partition(".")
            if entry not in record or (key and (not isinstance(record[entry], dict) or key not in record[entry])):
                raise DamagedError(self.folder / "run.json", f"no {name} in it")
        if not isinstance(record["name"], str):
            raise DamagedError(self.folder / "run.json", "no name in it")
        if older := earlier_layout(record):
            _note(f"{self.folder}: {older}")
        return record

    @property
    def labels(self) -> list[str]:
        return list(self.record["config"]["labels"])

    @property
    def missing(self) -> list[str]:
        """Files of which the report shows something and that are not there, though the configuration asks for them."""
        without = self.record["config"].get("saes", {}).get("name") == NO_SAES
        possible = {one.name for one in (without_saes(in_order(declared_stages())) if without else ())}
        shown = [
            f.name
            for f in tables.FILES.values()
            if f.reported and not f.command and (not f.asked or self.asks(f.asked))
            if not without or not f.stage or f.stage in possible
        ]
        return [name for name in shown if not (self.folder / name).exists()]

    def asks(self, name: str) -> bool:
        """Whether a field of the configuration, by its dotted name, is there and not empty."""
        part: Any = self.record["config"]
        for step in name.split("."):
            part = part.get(step) if isinstance(part, dict) else None
        return bool(part)

    def table(self, name: str) -> pd.DataFrame | None:
        """`NAME.parquet`, where it is there, holds a row, and has all columns that are needed; to be left as it is."""
        if name not in self._tables:
            self._tables[name] = self._read(f"{name}.parquet")
        return self._tables[name]

    def added(self, name: str) -> pd.DataFrame | None:
        """A table that a command of its own added to the run, where it is of the run as it is now."""
        return None if tables.FILES[f"{name}.parquet"].command in stale(self.record) else self.table(name)

    def _read(self, name: str) -> pd.DataFrame | None:
        path = self.folder / name
        if not path.exists():
            return None
        as_recorded(self.folder, [name], self.record)
        table = tables.read(path)
        absent = [c for c in tables.FILES[name].needed if c not in table]
        if absent:
            made = self.record.get("versions", {}).get("interp", "an unknown version")
            self.lacking[path.stem] = (
                f"{name} (written by interp {made}) has no column {', '.join(absent)}: what needs it is left out."
            )
            return None
        return table if len(table) else None

    def json(self, name: str) -> Any:
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        as_recorded(self.folder, [path.name], self.record)
        return read_json(path)

    @cached_property
    def steering(self) -> dict[str, Any] | None:
        """`steering.json` where a steering was chosen; None where none was, or none was looked for."""
        chosen: dict[str, Any] | None = self.json("steering")
        return None if chosen is None or chosen["method"] == "none" else chosen

    def causal_features(self, emotion: str | None = None) -> pd.DataFrame:
        """Rows of `effects.parquet` of causal features, as measured on the discover examples; none before tracing.

        Args:
            emotion: the one whose answer they cause; any if left out.
        """
        effects = self.table("effects")
        return effect_rows.causal_features(tables.empty("effects.parquet") if effects is None else effects, emotion)

    def causal_for(self) -> dict[tuple[int, int], list[str]]:
        """By layer and feature, the emotions that a feature is causal for."""
        by_feature = self.causal_features().groupby(["layer", "feature"])["emotion"]
        return {(int(layer), int(feature)): list(emotions) for (layer, feature), emotions in by_feature}


def score_of(scores: pd.DataFrame, method: str, metric: str) -> Estimate | None:
    """A method's figure among rows of `evaluation.parquet`; None where it is not there."""
    rows = scores[(scores["method"] == method) & (scores["metric"] == metric)]
    return Estimate.of(rows.iloc[0]) if len(rows) else None


@cache
def _note(sentence: str) -> None:
    """Once, however often a command reads a run."""
    warnings.warn(sentence, InterpWarning, stacklevel=3)


def earlier_layout(record: dict[str, Any]) -> str:
    """A sentence on what a run of an earlier layout lacks; empty for one of the present."""
    version = record.get("schema_version", 1)
    if version >= SCHEMA_VERSION:
        return ""
    renamed = [f"{c.was} in {f.name} is read as {c.name}" for f in tables.FILES.values() for c in f.columns if c.was]
    return (
        f"This run was begun in layout {version} of the run folder, now {SCHEMA_VERSION}: {', '.join(renamed)}, and its"
        " tables do not tell what their columns mean."
    )
