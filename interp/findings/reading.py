"""The files of a run as findings read them: no model, one line for what is damaged."""

import json
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from interp.analysis.features import load_features
from interp.errors import UserError
from interp.report.run_files import RunFiles
from interp.statistics import resample_weights

Array = np.ndarray
BROKEN = (pyarrow.ArrowException, zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, zlib.error)
"""What a damaged table, array file or JSON file raises."""
NEEDED = {
    "effects_by_example": ("row", "emotion", "layer", "feature", "effect"),
    "examples": ("corpus", "role", "split", "gold", "predicted"),
}


@dataclass(frozen=True)
class Run:
    """A run folder; every file is read once, and is None where it is absent or lacks columns."""

    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run of a folder.

        Raises:
            UserError: it is no run folder, or its record is damaged.
        """
        record = folder / "run.json"
        if not record.is_file():
            raise UserError(f"{folder} is no run folder (it holds no run.json); give one such as runs/tiny.")
        run = cls(folder)
        try:
            run.config["labels"], run.config["seed"], run.record["model"]["name"], run.config["corpora"]["discover"]
        except (KeyError, TypeError, ValueError):
            raise UserError(f"{record} is damaged; make the run again with `interp run`.") from None
        return run

    @cached_property
    def record(self) -> dict[str, Any]:
        return json.loads((self.folder / "run.json").read_text(encoding="utf-8"))

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.record["config"]

    @cached_property
    def labels(self) -> list[str]:
        return self.config["labels"]

    @property
    def model(self) -> str:
        """Name of the model, without the folders above it."""
        return Path(str(self.record["model"]["name"])).name

    @property
    def corpus(self) -> str:
        """The corpus on which features were found."""
        return str(self.config["corpora"]["discover"]["name"])

    @cached_property
    def _tables(self) -> dict[str, pd.DataFrame | None]:
        return {}

    def table(self, name: str) -> pd.DataFrame | None:
        """`NAME.parquet`.

        Raises:
            UserError: the file is damaged.
        """
        if name not in self._tables:
            try:
                found = RunFiles(self.folder).table(name)
            except BROKEN as error:
                raise self._damaged(f"{name}.parquet", error) from None
            complete = found is not None and all(c in found for c in NEEDED.get(name, ()))
            self._tables[name] = found if complete else None
        return self._tables[name]

    def json(self, name: str) -> Any:
        """`NAME.json`, None where it is absent.

        Raises:
            UserError: the file is damaged.
        """
        try:
            return RunFiles(self.folder).json(name)
        except BROKEN as error:
            raise self._damaged(f"{name}.json", error) from None

    def features(self, layer: int) -> csr_array:
        """Features of a layer, [example, d_sae].

        Raises:
            UserError: the file is damaged.
        """
        name = f"features/layer_{layer:02d}.npz"
        try:
            return load_features(self.folder / name).acts
        except BROKEN as error:
            raise self._damaged(name, error) from None

    def dictionary(self, layer: int) -> int:
        """Number of features of a layer's SAE.

        Raises:
            UserError: the file is damaged.
        """
        name = f"features/layer_{layer:02d}.npz"
        try:
            with np.load(self.folder / name) as stored:
                return int(stored["shape"][1])
        except BROKEN as error:
            raise self._damaged(name, error) from None

    @property
    def layers(self) -> list[int]:
        """Layers that have features on disk."""
        return sorted(int(p.stem.removeprefix("layer_")) for p in (self.folder / "features").glob("layer_*.npz"))

    @cached_property
    def signal_draws(self) -> dict[str, Float[Array, " resample"]]:
        """Bootstrap draws of the signals by `name/layer`; empty where there are none."""
        path = self.folder / "signals_draws.npz"
        if not path.exists():
            return {}
        try:
            with np.load(path) as stored:
                return {name: stored[name] for name in stored.files}
        except BROKEN as error:
            raise self._damaged(path.name, error) from None

    def rows(self, role: str) -> Int[Array, " example"]:
        """Rows of `examples.parquet` with a role whose emotion is one of the labels."""
        table = self.table("examples")
        if table is None:
            return np.zeros(0, int)
        return np.flatnonzero((table["role"] == role) & table["gold"].isin(self.labels))

    def gold(self, rows: Int[Array, " example"]) -> Int[Array, " example"]:
        """Number of the gold emotion in `labels`."""
        table = self.table("examples")
        assert table is not None
        return table["gold"].iloc[rows].map({x: i for i, x in enumerate(self.labels)}).to_numpy(dtype=int)

    @cached_property
    def traced(self) -> Int[Array, " example"]:
        """Rows on which effects were measured: discover examples, all or the correctly answered ones."""
        rows = self.rows("discover")
        table = self.table("examples")
        if table is None or self.config.get("tracing", {}).get("examples", "all") == "all":
            return rows
        part = table.iloc[rows]
        return rows[(part["gold"] == part["predicted"]).to_numpy()]

    def weights(self, rows: Int[Array, " example"], purpose: str) -> Float[Array, "resample example"]:
        """Bootstrap weights of some examples, drawn by group where the run knows groups."""
        table = self.table("examples")
        groups = rows if table is None or "group" not in table else table["group"].iloc[rows].to_numpy()
        return resample_weights(groups.tolist(), int(self.config.get("resamples", 1000)), self.seed(purpose))

    def seed(self, purpose: str) -> int:
        """A seed of its own for each purpose, from the run's."""
        return (int(self.config["seed"]) * 1_000_003 + zlib.crc32(purpose.encode())) % 2**32

    def _damaged(self, name: str, error: Exception) -> UserError:
        reason = " ".join(str(error).split())[:120]
        return UserError(
            f"{self.folder / name} is damaged ({type(error).__name__}: {reason}); make the run again with"
            " `interp run` into a new folder, or leave it out."
        )
