"""What runs have in common: a model and SAEs that stay loaded, texts that pass once, and stages that ran already."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import reduce
from operator import attrgetter, getitem
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from interp.files.folder import RunFolder, fingerprint, linked, write_json
from interp.files.store import Store
from interp.files.stored import differing, read_json
from interp.files.units import Units
from interp.run.config import Config
from interp.run.inputs import Inputs
from interp.run.stage import Stage

if TYPE_CHECKING:
    from interp.engine.kept import KeptCaptures
    from interp.evaluation.fluency import PlainText
    from interp.models.language_model import LanguageModel
    from interp.run.engines import Workers
    from interp.run.session import Session
    from interp.saes.stack import SaeStack

T = TypeVar("T")
RECORDS = 2**26
"""Bytes of records about stages that ran, a few hundred bytes each."""
LOADING = ("model", "device", "dtype", "device_map", "quantization", "prompt.chat")
"""Fields by which a model is another one in memory."""
BITS = ("model", "device", "device_map", "batch_size")
"""Fields on which files depend in their last bits, or that they tell of, though no stage runs again for them."""
PASSED = 2
"""Plain texts whose passes stay in memory: all of it, and its beginning."""


def scratch_captures(folder: Path) -> Path:
    """Where the processes of a run keep captures for each other while it lasts."""
    return folder / "scratch_captures"


class Shared:
    """The things of one run after the other, each made when it is first asked for and kept while it serves.

    With a folder, also on disk: captures and finished units by what they were computed from, and which run has
    finished which stage, so that another one takes its files over. Runs are the same to the last bit with and without.
    """

    def __init__(self, folder: Path | None = None, *, budget: int = 0) -> None:
        """
        Args:
            folder: where captures, units and records go; the runs lie beside it.
            budget: bytes that captures and units may take on disk.
        """
        self.folder, self.budget = folder, budget
        self.store = None if folder is None or not budget else Store(folder / "store", budget)
        self._stages = None if folder is None else Store(folder / "stages", RECORDS)
        self._held: dict[str, tuple[str, Any]] = {}
        self._plain: dict[str, PlainText] = {}
        self._captures: KeptCaptures | None = None
        self._common = self.store
        self._workers: tuple[str, Workers] | None = None

    def share_captures(self, folder: Path) -> None:
        """From here on the processes of a run find each other's captures: in the store, or in the run's folder."""
        from interp.engine.kept import MEMORY_SHARE

        if self.store is None:
            self._common = Store(scratch_captures(folder), int(shutil.disk_usage(folder).free * MEMORY_SHARE))
            if self._captures is not None:
                self._captures.store = self._common

    # ------------------------------------------------------------------------------- in memory

    def model(self, config: Config) -> "LanguageModel":
        """The model of a run, loaded unless the run before had the same."""
        from interp.models.loading import load_model

        def load() -> "LanguageModel":
            return load_model(
                config.model,
                device=config.device,
                dtype=config.dtype,
                device_map=config.device_map,
                quantization=config.quantization,
                chat=config.prompt.chat,
            )

        return self._one("model", loaded_as(config), load, ends=("SAEs",))

    def saes(self, config: Config) -> "SaeStack":
        """The same of its SAEs."""
        from interp.saes.loading import load_saes

        model = self.model(config)
        key = fingerprint([loaded_as(config), asdict(config.saes)])
        return self._one("SAEs", key, lambda: load_saes(model=model, **asdict(config.saes)))

    def plain_text(self, key: str, make: "Callable[[], PlainText]") -> "PlainText":
        """A text whose unsteered passes are kept."""
        if key not in self._plain:
            while len(self._plain) >= PASSED:
                del self._plain[next(iter(self._plain))]
            self._plain[key] = make()
        return self._plain[key]

    def captures(self, folder: Path) -> "KeptCaptures":
        """What captures left behind.

        Args:
            folder: of the run; a scratch folder is made there where there is no common one.
        """
        from interp.engine.kept import KeptCaptures

        if self._captures is None:
            if self.folder is not None:
                self.folder.mkdir(parents=True, exist_ok=True)
            self._captures = KeptCaptures(self.folder or folder, store=self._common)
        self._captures.next_run()
        return self._captures

    def workers(self, session: "Session", start: "Callable[[], Workers]") -> "Workers":
        """Those that compute for a run: of the run before, unless that asked for others.

        Args:
            start: starts them, for this run.
        """
        config = session.config
        key = fingerprint([config.engine, asdict(config.resources)])
        if self._workers is not None and self._workers[0] == key:
            self._workers[1].serve(session)
        else:
            self._let_workers_go()
            self._workers = key, start()
        return self._workers[1]

    def close(self) -> None:
        """Lets go of workers, of captures and of what they took on disk for themselves; model and SAEs stay."""
        self._let_workers_go()
        self._let_captures_go()

    def _let_workers_go(self) -> None:
        if self._workers is not None:
            self._workers[1].close()
        self._workers = None

    def _let_captures_go(self) -> None:
        if self._captures is not None:
            self._captures.close()
        self._captures = None
        self._plain.clear()

    def _one(self, what: str, key: str, load: Callable[[], T], ends: Sequence[str] = ()) -> T:
        """The thing of that kind, in the place of another one."""
        known, value = self._held.get(what, ("", None))
        if known != key:
            value = None  # two models at a time may not fit
            for name in (what, *ends):
                self._held.pop(name, None)
            if ends:
                self._let_captures_go()
            value = load()
            self._held[what] = (key, value)
        found: T = value
        return found

    # ------------------------------------------------------------------------------- on disk

    def units(self, folder: Path, stage: str) -> Units:
        """The finished units of a stage's work, those of other runs among them."""
        return Units(folder, stage, self.store)

    def take(self, key: str, folder: RunFolder, stage: Stage) -> str | None:
        """Puts another run's files of a stage into a folder, where one has finished it and they are still intact.

        Returns:
            The name of that run; None where there is none.
        """
        path = None if self._stages is None else self._stages.get(key)
        if path is None or self.folder is None:
            return None
        facts = read_json(path)
        source = self.folder.parent / facts["run"]
        if source.resolve() == folder.path.resolve() or differing(source, facts["outputs"]):
            return None
        folder.discard(stage.outputs)
        for name in facts["outputs"]:
            linked(source / name, folder / name)
        return str(facts["run"])

    def tell(self, key: str, folder: RunFolder, stage: Stage) -> None:
        """Lets other runs know that this one has finished a stage."""
        if self._stages is not None and self.folder is not None and folder.path.parent == self.folder.parent:
            outputs = {name: list(file) for name, file in folder.outputs(stage.name).items()}
            facts = {"run": folder.path.name, "stage": stage.name, "outputs": outputs}
            self._stages.put(key, ".json", lambda part: write_json(part, facts))

    @property
    def takes(self) -> bool:
        """Whether stages are taken over at all."""
        return self._stages is not None


def loaded_as(config: Config) -> str:
    """The same for runs that one loaded model can serve."""
    tree = config.as_dict()
    return fingerprint([reduce(getitem, name.split("."), tree) for name in LOADING])


def shared_keys(inputs: Inputs, stages: Sequence[Stage]) -> dict[str, str]:
    """Per stage, of stages in order, a hash of all that its files depend on, down to the last bit.

    Unlike fingerprints, these are the same for another seed as long as it draws the same texts and nothing else.
    """
    from importlib.metadata import version

    tree, keys = inputs.config.as_dict(), dict[str, str]()
    writer = {file: stage.name for stage in stages for file in stage.outputs}
    ground = [[reduce(getitem, name.split("."), tree) for name in BITS], [version("interp"), version("torch")]]

    for stage in stages:
        fields = [name for name in (*stage.fields, *stage.inherits) if name not in stage.draws]
        if "sae_identity" in stage.sources:
            fields.append("saes")
        own = {name: reduce(getitem, name.split("."), tree) for name in fields}
        sources = [attrgetter(name)(inputs) for name in stage.sources]
        if stage.draws:
            sources.append([[e.text, e.gold] for e in inputs.shots])
        before = sorted({keys[writer[file]] for file in stage.inputs if file in writer})
        keys[stage.name] = fingerprint([stage.name, ground, own, sources, before], whole=True)
    return keys
