"""The files of a run as findings read them: no model, one line for what is damaged."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array

from interp.analysis.features import load_features
from interp.analysis.labelled import seed_for
from interp.defaults import RESAMPLES
from interp.errors import DamagedError, UserError
from interp.files.stored import read_arrays
from interp.run.reading import RunFiles
from interp.statistics import Bootstrap

Array = np.ndarray


class Run(RunFiles):
    """A run folder; every file is read once, and is None where it is absent or lacks columns."""

    @classmethod
    def open(cls, folder: Path) -> "Run":
        """The run of a folder.

        Raises:
            UserError: it is no run folder, or its record is damaged.
        """
        run = cls(folder)
        try:
            run.config["corpora"]["discover"]["name"]
        except (KeyError, TypeError, DamagedError):
            raise UserError(f"{folder / 'run.json'} is damaged; make the run again with `interp run`.") from None
        return run

    @property
    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = self.record["config"]
        return config

    @property
    def model(self) -> str:
        """Name of the model, without the folders above it."""
        return Path(str(self.record["model"]["name"])).name

    @property
    def corpus(self) -> str:
        """The corpus on which features were found."""
        return str(self.config["corpora"]["discover"]["name"])

    def features(self, layer: int) -> csr_array:
        """Features of a layer, [example, d_sae].

        Raises:
            DamagedError: the file is damaged.
        """
        return load_features(self.folder / f"features/layer_{layer:02d}.npz").acts

    def dictionary(self, layer: int) -> int:
        """Number of features of a layer's SAE.

        Raises:
            DamagedError: the file is damaged.
        """
        return int(read_arrays(self.folder / f"features/layer_{layer:02d}.npz", ["shape"])["shape"][1])

    @property
    def layers(self) -> list[int]:
        """Layers that have features on disk."""
        return sorted(int(p.stem.removeprefix("layer_")) for p in (self.folder / "features").glob("layer_*.npz"))

    @cached_property
    def signal_draws(self) -> dict[str, Float[Array, " resample"]]:
        """Bootstrap draws of the signals by `name/layer`; empty where there are none."""
        path = self.folder / "signals_draws.npz"
        return read_arrays(path) if path.exists() else {}

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
        return np.asarray(pd.Index(self.labels).get_indexer(table["gold"].iloc[rows]))

    @cached_property
    def traced(self) -> Int[Array, " example"]:
        """Rows on which effects were measured: discover examples, all or the correctly answered ones."""
        rows = self.rows("discover")
        table = self.table("examples")
        if table is None or self.config.get("tracing", {}).get("examples", "all") == "all":
            return rows
        part = table.iloc[rows]
        return np.compress(part["gold"] == part["predicted"], rows)

    def weights(self, rows: Int[Array, " example"], purpose: str) -> Float[Array, "resample example"]:
        """Bootstrap weights of some examples, drawn by group where the run knows groups."""
        table = self.table("examples")
        groups = rows if table is None or "group" not in table else table["group"].iloc[rows].to_numpy()
        return Bootstrap(groups.tolist(), int(self.config.get("resamples", RESAMPLES)), self.seed(purpose)).weights

    def seed(self, purpose: str) -> int:
        """A seed of its own for each purpose, from the run's."""
        return seed_for(int(self.config["seed"]), purpose)
