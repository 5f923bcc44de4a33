"""Modules by the names they had before the packages: scripts and notebooks that import them go on working."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

MOVED = {
    "evaluation.statistics": "statistics",
    "stored": "files.stored",
    "folder": "files.folder",
    "scalars": "files.scalars",
    "options": "cli.options",
    "saes_cli": "cli.saes",
    "express.cli": "cli.express",
    "reliability.cli": "cli.reliability",
    "listing": "cli.model_tables",
    "reliability.problems": "texts.problems",
    "express.tables": "texts.records",
    "emotions": "texts.emotions",
    "records": "texts.records",
    "delimited": "texts.delimited",
    "mending": "texts.mending",
    "plain_documents": "texts.plain_documents",
    "corpora": "texts.examples",
    "corpus_formats": "texts.corpora",
    "corpus_names": "texts.corpus_names",
    "prompts": "texts.prompts",
    "corpus_readers": "texts.corpora",
    "model": "models.language_model",
    "tokenization": "models.tokenization",
    "placing": "models.placing",
    "answers": "models.answers",
    "loading": "models.loading",
    "sources": "models.sources",
    "store": "models.store",
    "wheels": "models.wheels",
    "weights": "models.weights",
    "gguf_files": "models.gguf_files",
    "gguf_header": "models.gguf_header",
    "catalogue": "saes.catalogue",
    "sae_loading": "saes.loading",
    "sae_checks": "saes.checks",
    "sae_folders": "saes.folders",
    "releases": "saes.releases",
    "capture": "engine.capture",
    "kept": "engine.kept",
    "evaluation.passes": "engine.passes",
    "reliability.prefixes": "engine.prefixes",
    "express.choosing": "engine.words",
    "tracing": "engine",
    "features": "analysis.features",
    "selectivity": "analysis.selectivity",
    "profiles": "analysis.profiles",
    "signals": "analysis.signals",
    "phases": "analysis.phases",
    "candidates": "analysis.candidates",
    "entropy": "analysis.entropy",
    "config": "run.config",
    "session": "run.session",
    "pipeline": "run.pipeline",
    "checking": "run.checking",
    "fetch": "run.fetch",
    "inspecting": "run.inspecting",
    "units": "files.units",
    "stages": "run.stages",
    "report.answer": "report.sentences",
    "report.figures": "report.looks",
    "report.features": "report.feature_sets",
    "report.run_files": "run.reading",
    "steering.additive": "run.additive",
    "express": "surveys.express",
    "reliability": "surveys.reliability",
}
"""Old name to new, below `interp`; a package takes its modules along."""


class _Alias(Loader):
    """Gives the module at its new name, and leaves it as it is."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Moved(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        name = new_name(fullname)
        return ModuleSpec(fullname, _Alias(name)) if name is not None else None


def new_name(fullname: str) -> str | None:
    """Where a module of the old layout is now; None for every other name."""
    package, _, name = fullname.partition(".")
    parts = name.split(".")
    if package != "interp" or not name:
        return None
    for length in range(len(parts), 0, -1):
        new = MOVED.get(".".join(parts[:length]))
        if new is not None:
            return ".".join((package, new, *parts[length:]))
    return None


def install() -> None:
    """Looked up first, since a folder that an older version left behind would pass for a package."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Moved())
