"""The files of a run as the report reads them: those that are there, and a word about those that are not."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import DamagedError
from interp.files.stored import as_recorded, read_json, read_record, read_table

EXPECTED = (
    "signals.parquet",
    "phases.json",
    "selectivity.parquet",
    "effects.parquet",
    "concentration.parquet",
    "joint.parquet",
    "overshadowing.parquet",
    "insertion.parquet",
    "baselines.parquet",
    "why.parquet",
    "cards.json",
    "steering.json",
    "evaluation.parquet",
    "dose.parquet",
    "side_effects.parquet",
)
NEEDED: dict[str, Sequence[str]] = {
    "signals": ("layer", "signal", "value", "ci_low", "ci_high", "n"),
    "selectivity": ("layer", "feature", "emotion", "auroc", "q", "kind", "lexical"),
    "effects": (
        *("layer", "phase", "feature", "emotion", "split", "n", "n_active", "effect", "ci_low", "ci_high"),
        *("flip_rate", "attribution", "control", "causal"),
    ),
    "concentration": ("emotion", "phase", "n_causal", "share_top_1", "effective_number", "n"),
    "joint": ("emotion", "phase", "k", "control", "effect", "ci_low", "ci_high", "n"),
    "overshadowing": ("emotion", "answer", "effect"),
    "insertion": ("emotion", "target", "control", "follows", "n"),
    "baselines": ("layer", "method", "emotion", "effect", "n"),
    "why": ("emotion", "n", "recall", "n_causal", "effective_number", "n_selective", "lexical"),
    "evaluation": ("corpus", "method", "metric", "value", "ci_low", "ci_high", "n"),
    "dose": ("corpus", "method", "strength", "value", "ci_low", "ci_high", "n"),
    "side_effects": ("method", "metric", "value", "ci_low", "ci_high", "n"),
    "learning": ("corpus", "method", "examples", "value", "ci_low", "ci_high", "draws"),
    "predictions": ("corpus", "method", "gold", "predicted"),
    "examples": ("role", "corpus", "split", "gold", "predicted", "cut"),
}
"""Columns without which a table cannot be shown."""
RECORDED: dict[str, Sequence[str]] = {
    "config": ("labels", "seed"),
    "model": ("name", "identity", "n_layers", "d_model", "device", "dtype"),
    "saes": ("name", "identity", "layers"),
    "versions": ("interp",),
}
"""What a record says without which there is no report."""


@dataclass(frozen=True)
class RunFiles:
    """What a run has written so far; a missing file, or one that lacks columns, is None.

    A file that is not what `run.json` records, or cannot be read, is refused (`DamagedError`).

    Attributes:
        lacking: a sentence for every table that lacks columns, as one of an older version may.
    """

    folder: Path
    lacking: dict[str, str] = field(default_factory=dict)

    @cached_property
    def record(self) -> dict[str, Any]:
        """`run.json`.

        Raises:
            UserError: there is none, or it lacks what the report says of a run.
        """
        record = read_record(self.folder)
        for entry, keys in RECORDED.items():
            part = record.get(entry)
            if not isinstance(part, dict) or not set(keys) <= set(part):
                raise DamagedError(self.folder / "run.json", f"no {entry} with {', '.join(keys)} in it")
        if not isinstance(record.get("name"), str):
            raise DamagedError(self.folder / "run.json", "no name in it")
        return record

    @property
    def labels(self) -> list[str]:
        return self.record["config"]["labels"]

    @property
    def missing(self) -> list[str]:
        return [name for name in EXPECTED if not (self.folder / name).exists()]

    def table(self, name: str) -> pd.DataFrame | None:
        """`NAME.parquet`, where it is there, holds a row, and has all columns that are `NEEDED`."""
        path = self.folder / f"{name}.parquet"
        if not path.exists():
            return None
        as_recorded(self.folder, [path.name], self.record)
        found = read_table(path)
        absent = [c for c in NEEDED.get(name, ()) if c not in found]
        if absent:
            made = self.record.get("versions", {}).get("interp", "an unknown version")
            self.lacking[name] = (
                f"{path.name} (written by interp {made}) has no column {', '.join(absent)}: what needs it is left out."
            )
            return None
        return found if len(found) else None

    def json(self, name: str) -> Any:
        path = self.folder / f"{name}.json"
        if not path.exists():
            return None
        as_recorded(self.folder, [path.name], self.record)
        return read_json(path)
