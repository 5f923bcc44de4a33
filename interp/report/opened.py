"""A run at hand in a notebook: its tables with what their columns mean, and the figures of its report to restyle."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.errors import UserError, nearest
from interp.report.glance import facts, heading
from interp.report.sentences import Sentence, answer
from interp.run import tables
from interp.run.places import here
from interp.run.reading import RunFiles

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from interp.report.contents import PageFigure


def open_run(path: str | Path) -> "OpenedRun":
    """A finished run, or one under way, from its folder alone: no model is loaded.

    Args:
        path: of the folder, or its URL (`s3://bucket/runs/tiny`), of which a working copy is read.

    Raises:
        UserError: no run folder, or a URL that cannot be read.
    """
    run = OpenedRun(RunFiles(here(path)))
    _ = run.files.record
    return run


@dataclass(frozen=True, repr=False)
class OpenedRun:
    """What a run has found.

    `run.effects`, `run.signals` and so on are its tables (`run.tables` lists them), `run.plot.ladder()` and so on the
    figures of its report, `run.answer` what it found in sentences.
    """

    files: RunFiles

    @property
    def folder(self) -> Path:
        return self.files.folder

    @property
    def labels(self) -> list[str]:
        """The emotions."""
        return self.files.labels

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, every field."""
        return dict(self.files.record["config"])

    @property
    def answer(self) -> list[Sentence]:
        """What was found, as the report begins."""
        return answer(self.files)

    @property
    def plot(self) -> "Plots":
        """The figures of the report."""
        return Plots(self.files)

    @property
    def tables(self) -> pd.DataFrame:
        """One row per table that is there: name, what it holds, what a row is, how many there are."""
        lines = []
        for file in tables.FILES.values():
            name = file.name.removesuffix(".parquet")
            if file.name.endswith(".parquet") and (self.folder / file.name).exists():
                table = self.files.table(name)
                n = 0 if table is None else len(table)
                lines.append({"table": name, "holds": file.holds, "a row is": file.rows, "rows": n})
        return pd.DataFrame(lines, columns=["table", "holds", "a row is", "rows"])

    def table(self, name: str) -> pd.DataFrame:
        """A table as a data frame of one's own; its `attrs["columns"]` say what each column is.

        Raises:
            UserError: an unknown table, or one that this run does not have.
        """
        names = [file.removesuffix(".parquet") for file in tables.FILES if file.endswith(".parquet")]
        if name not in names:
            raise UserError(f"No table {name!r}{nearest(name, names)}")
        schema = tables.FILES[f"{name}.parquet"]
        found = self.files.table(name)
        if found is None and not (self.folder / schema.name).exists():
            made = f"`interp {schema.command} {self.folder}` makes it" if schema.command else f"stage {schema.stage}"
            raise UserError(f"{self.folder} has no {schema.name} ({made}); it has: {', '.join(self.tables['table'])}.")
        copy = tables.empty(schema.name) if found is None else found.copy()
        copy.attrs["columns"] = {
            name: c.meaning + (f" ({c.unit})" if c.unit else "") for name, c in _known(schema, copy)
        }
        return copy

    def columns(self, name: str) -> pd.DataFrame:
        """What the columns of a table are: meaning, unit, type; by their names."""
        table, schema = self.table(name), tables.FILES[f"{name}.parquet"]
        lines = {column: [c.meaning, c.unit, str(table[column].dtype)] for column, c in _known(schema, table)}
        return pd.DataFrame.from_dict(lines, orient="index", columns=["is", "unit", "type"])

    def __getattr__(self, name: str) -> pd.DataFrame:
        if name.startswith("_") or f"{name}.parquet" not in tables.FILES:
            raise AttributeError(f"a run has no {name!r}{nearest(name, self.__dir__())}")
        return self.table(name)

    def __dir__(self) -> list[str]:
        here = (file.removesuffix(".parquet") for file in tables.FILES if file.endswith(".parquet"))
        return [*super().__dir__(), *(name for name in here if (self.folder / f"{name}.parquet").exists())]

    def __repr__(self) -> str:
        return f"OpenedRun({str(self.folder)!r}: {heading(self.files)})"

    def _repr_html_(self) -> str:
        said = "".join(f"<p><b>{escape(s.head)}</b> {escape(s.words)}</p>" for s in self.answer)
        figures = ", ".join(f"<code>.plot.{name}()</code>" for name in self.plot.available)
        rows = ", ".join(f"<code>.{name}</code>" for name in self.tables["table"])
        return (
            f"<div><h4>{escape(heading(self.files))}</h4><p>{escape(' · '.join(facts(self.files)))}</p>{said}"
            f"<p>Tables: {rows}</p><p>Figures: {figures}</p></div>"
        )


def _known(schema: tables.FileSchema, table: pd.DataFrame) -> list[tuple[str, tables.ColumnSchema]]:
    """What is known of a table's columns; an older one may have others."""
    return [(str(n), c) for n in table for c in schema.columns if c.pattern.fullmatch(str(n))]


@dataclass(frozen=True)
class Plots:
    """The figures of a run's report as plotly figures, to be shown, restyled and saved.

    Each method returns a figure of its own; `captions[name]` says what it shows, with n and how to read it.
    """

    run: RunFiles

    @cached_property
    def _figures(self) -> "Mapping[str, PageFigure]":
        from interp.report.sections import sections

        return {figure.name: figure for section in sections(self.run) for figure in section.figures}

    @property
    def available(self) -> list[str]:
        """The methods for which this run has what they draw."""
        return [name for name, slug in SLUGS.items() if any(found.startswith(slug) for found in self._figures)]

    @property
    def captions(self) -> dict[str, str]:
        """By method, what the figure shows and how to read it."""
        return {name: self._first(SLUGS[name]).caption for name in self.available}

    def layer_phases(self, what: str = "held") -> "go.Figure":
        """Signals over the layers, with phases.

        Args:
            what: `held`, what can be read from each layer; or `used`, what the answer takes from it.
        """
        slugs = {"held": "layers-representational", "used": "layers-causal"}
        if what not in slugs:
            raise UserError(f"layer_phases draws what is held or used; got {what!r}.")
        return self._figure("layer_phases", slugs[what])

    def emotion_map(self) -> "go.Figure":
        """Layer by emotion: selective features, and summed effects of the causal ones."""
        return self._figure("emotion_map")

    def ladder(self) -> "go.Figure":
        """Exact effects of single features in order, by emotion."""
        return self._figure("ladder")

    def concentration(self) -> "go.Figure":
        """Whether few features do it or many."""
        return self._figure("concentration")

    def joint_removal(self) -> "go.Figure":
        """Causal features removed together, beside controls."""
        return self._figure("joint_removal")

    def together(self) -> "go.Figure":
        """What removing an emotion's features gives to the other answers, and what putting them in does."""
        return self._figure("together")

    def circuit(self, emotion: str) -> "go.Figure":
        """An emotion's circuit (`interp circuit`)."""
        if emotion not in self.run.labels:
            raise UserError(f"This run knows no emotion {emotion!r}{nearest(emotion, self.run.labels)}")
        return self._figure("circuit", f"circuit-{self.run.labels.index(emotion)}")

    def feature_sets(self) -> "go.Figure":
        """Selective features by the set of emotions they are selective for."""
        return self._figure("feature_sets")

    def modules(self) -> "go.Figure":
        """The field's own ablations by layer: directions, attention, MLP."""
        return self._figure("modules")

    def patching(self) -> "go.Figure":
        """Activation patching by layer and part (`interp patch`)."""
        return self._figure("patching")

    def gains(self) -> "go.Figure":
        """What every method changes in macro-F1, with its price in language."""
        return self._figure("gains")

    def recalls(self) -> "go.Figure":
        """Recall of every emotion before and after steering."""
        return self._figure("recalls")

    def confusions(self) -> "go.Figure":
        """Which emotions are taken for which, on the first test corpus."""
        return self._figure("confusions")

    def emotion_trees(self) -> "go.Figure":
        """Which emotions are near each other, in the answers and in a layer."""
        return self._figure("emotion_trees")

    def tree_agreement(self) -> "go.Figure":
        """How far the layers' trees agree with the answers' one."""
        return self._figure("tree_agreement")

    def dose(self) -> "go.Figure":
        """The chosen steering weaker and stronger."""
        return self._figure("dose")

    def price(self) -> "go.Figure":
        """Gain against price."""
        return self._figure("price")

    def learning(self) -> "go.Figure":
        """Gain by number of labelled examples."""
        return self._figure("learning")

    def _first(self, slug: str) -> "PageFigure":
        return next(figure for name, figure in self._figures.items() if name.startswith(slug))

    def _figure(self, name: str, slug: str | None = None) -> "go.Figure":
        import plotly.graph_objects as go

        wanted = slug or SLUGS[name]
        if not any(found.startswith(wanted) for found in self._figures):
            have = ", ".join(self.available) or "nothing yet"
            raise UserError(f"{self.run.folder} has nothing to draw for plot.{name}(); it has: {have}.")
        return go.Figure(self._first(wanted).figure)


SLUGS: Mapping[str, str] = {
    "layer_phases": "layers-",
    "emotion_map": "map",
    "ladder": "ladder",
    "concentration": "concentration",
    "joint_removal": "joint",
    "together": "together",
    "circuit": "circuit-",
    "feature_sets": "sets",
    "modules": "baselines",
    "patching": "patching",
    "gains": "gains",
    "recalls": "recalls",
    "confusions": "confusion-",
    "emotion_trees": "trees",
    "tree_agreement": "tree-agreement",
    "dose": "dose",
    "price": "price",
    "learning": "learning",
}
"""By method of `Plots`, how the names of its figures on the page begin."""
