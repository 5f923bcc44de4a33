"""A run: its stages in order, and which of them must run again. Nothing is loaded to learn that none must."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import reduce
from importlib.util import find_spec
from operator import attrgetter, getitem
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from safetensors import SafetensorError

from interp.errors import DamagedError
from interp.files.folder import RunFolder, claimed, fingerprint, out_of_space
from interp.files.remote import RECORD, RemoteRunFolder
from interp.files.stored import UNREADABLE, Stored, files_below
from interp.models.store import content_hash
from interp.reporting import Progress, silent
from interp.resources import NO_SAES
from interp.run.config import Config
from interp.run.engines import LOCAL, Engine, check_engine
from interp.run.inputs import Inputs
from interp.run.pace import Pace
from interp.run.places import run_folder, run_path, run_url
from interp.run.shared import Shared, shared_keys
from interp.run.stage import Stage, declared_stages, in_order, with_what_follows, without_saes

if TYPE_CHECKING:
    from interp.run.session import Session

STAGES = in_order(declared_stages())
LEAVES_OUT = {"trace": ("steer",), "trees": ("attribution", "baselines")}
"""The stages that a command leaves out, with all that follow from them (all commands write the report)."""
WITHOUT_SAES = "without SAEs (--saes names some): no features, but layers, directions, modules, steering by directions"
"""Said of a run that has none."""
REPORT = "interp.report"
"""The package whose `write_report` ends a run, by name: it stands above the stages, and is loaded when it is used."""


@dataclass(frozen=True)
class Outcome:
    """What a run did."""

    folder: Path
    report: Path
    ran: list[str]
    skipped: list[str]
    stale: list[str]
    """Stages that ran again because the configuration, the model, the SAEs or a corpus changed."""
    seconds: float
    mended: list[str] = field(default_factory=list)
    """Stages that ran again because files of theirs were missing or damaged."""
    taken: dict[str, str] = field(default_factory=dict)
    """Stages whose files were taken over, and from which run."""


def run(
    config: Config,
    *,
    command: str = "run",
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
    shared: Shared | None = None,
) -> Outcome:
    """Runs what is missing or stale, in order, and writes the report.

    Args:
        command: `trees` stops after the emotion trees, `trace` after the causal effects, `steer` and `run` after the
            evaluation.
        say: receives a line when a stage begins or is skipped.
        shared: what it has in common with other runs; None: nothing.

    Raises:
        UserError: anything in the configuration, the data or the folder that the user can mend.
    """
    began = time.perf_counter()
    check_engine(config)
    url = run_url(config)
    with claimed(run_path(config), RECORD if url is None else None):
        folder = run_folder(config)
        if url is not None:
            say(f"what is finished goes to {url}; working copy: {folder.path}")
        inputs = Inputs(config)
        inputs.check()
        if not inputs.has_saes:
            say(WITHOUT_SAES)
        possible = {stage.name for stage in stages_of(config)}
        folder.forget({stage.name: stage.outputs for stage in STAGES if stage.name not in possible})
        done = _run_stages(inputs, folder, stages_for(config, command), progress, say, shared)
        if folder.record.get("config") != config.as_dict():
            folder.note(config=config.as_dict())
        report = _report(folder)
        if isinstance(folder, RemoteRunFolder):
            folder.put()
    return replace(done, report=report, seconds=time.perf_counter() - began)


def stages_of(config: Config) -> tuple[Stage, ...]:
    """The stages that a configuration can have, in order: without autoencoders, those that can do without."""
    return STAGES if config.saes.name != NO_SAES else without_saes(STAGES)


def stages_for(config: Config, command: str) -> list[Stage]:
    """Those of them that a command runs."""
    possible = stages_of(config)
    left_out = set[str]().union(*(with_what_follows(possible, name) for name in LEAVES_OUT.get(command, ())))
    return [stage for stage in possible if stage.name not in left_out]


def _run_stages(
    inputs: Inputs,
    folder: RunFolder,
    stages: Sequence[Stage],
    progress: Progress,
    say: Callable[[str], None],
    shared: Shared | None,
) -> Outcome:
    """Runs the stages that are not done, or whose files are not those they wrote, and all that comes after those.

    What a stage reads has thus been written, or found to be what was written, in this very run.
    """
    done = Outcome(folder.path, folder / "report.html", [], [], [], 0.0, [])
    prints = fingerprints(inputs, stages)
    keys = shared_keys(inputs, stages) if shared is not None and shared.takes else {}
    session: Session | None = None
    changed: set[str] = set()
    pace = Pace([stage.name for stage in stages])
    with ExitStack() as at_the_end:
        for stage in stages:
            print_, before = prints[stage.name], folder.outputs(stage.name)
            anew = bool(changed.intersection(stage.needs))
            current = folder.is_current(stage.name, print_)
            broken = folder.broken(stage.name, stage.outputs) if current and not anew else []
            if current and not broken and not anew:
                done.skipped.append(stage.name)
                pace.skip(stage.name)
                if shared is not None and keys:
                    shared.tell(keys[stage.name], folder, stage)
                continue
            if session is None:
                session = _session(inputs, folder, progress, shared)
                if shared is None:
                    at_the_end.enter_context(closing(session))
                session.engine = _engine(session, say)
            if broken:
                say(f"{stage.name}: {_listed(broken)} missing or damaged, made again")
                folder.discard(broken)
                done.mended.append(stage.name)
            if folder.begin(stage.name, print_, stage.outputs, anew=anew):
                done.stale.append(stage.name)
            written = None
            if shared is not None and keys:
                written = _taken(shared, keys[stage.name], folder, stage, print_, done, say)
            if written is None:
                say(pace.heading(stage.name))
                start = time.perf_counter()
                _run_one(session, stage, print_, say)
                written = folder.finish(stage.name, print_, time.perf_counter() - start, stage.outputs)
                done.ran.append(stage.name)
                pace.finish(stage.name)
                if shared is not None and keys:
                    shared.tell(keys[stage.name], folder, stage)
            else:
                pace.skip(stage.name)
            if anew or (broken and written != before):
                changed.add(stage.name)
    return done


def _taken(
    shared: Shared,
    key: str,
    folder: RunFolder,
    stage: Stage,
    print_: str,
    done: Outcome,
    say: Callable[[str], None],
) -> dict[str, Stored] | None:
    """The files of a stage as another run has made them, where one has."""
    start = time.perf_counter()
    source = shared.take(key, folder, stage)
    if source is None:
        return None
    say(f"{stage.name}: as in {source}")
    done.taken[stage.name] = source
    return folder.finish(stage.name, print_, time.perf_counter() - start, stage.outputs, taken_from=source)


def _engine(session: "Session", say: Callable[[str], None]) -> Engine:
    """Where the units of a session are computed."""
    if session.config.engine == LOCAL:
        return session.engine
    from interp.run.ray_engine import RayEngine

    return session.shared.workers(session, lambda: RayEngine(session, say))


def _session(inputs: Inputs, folder: RunFolder, progress: Progress, shared: Shared | None) -> "Session":
    """What the stages work with: torch, the model and the SAEs are loaded here, and the record says which they are."""
    from interp.run.record import facts
    from interp.run.session import Session

    session = Session.going_on(inputs, folder, progress, shared)
    known, began = facts(session), folder.record.get("date") or str(datetime.now(UTC).date())
    folder.note(name=inputs.config.name, date=began, config=inputs.config.as_dict(), **known)
    return session


def _run_one(session: "Session", stage: Stage, print_: str, say: Callable[[str], None]) -> None:
    """A stage goes on from what a killed run left; where that is damaged, it is removed and the stage begins anew."""
    folder = session.folder
    left = files_below(folder.path, stage.outputs)
    try:
        stage.run(session)
    except (*UNREADABLE, DamagedError, SafetensorError) as error:
        if not left or out_of_space(error):
            raise
        say(f"{stage.name}: what an earlier run left is damaged, begun anew")
        folder.begin(stage.name, print_, stage.outputs, anew=True)
        stage.run(session)


def _report(folder: RunFolder) -> Path:
    """The report, made again unless these very files were made into the one that is there, by this very code."""
    print_ = _report_print(folder)
    if not folder.is_current("report", print_) or folder.broken("report", ["report.html"]):
        folder.begin("report", print_, [])
        start = time.perf_counter()
        resolve_name(f"{REPORT}:write_report")(folder.path)
        folder.finish("report", print_, time.perf_counter() - start, ["report.html"])
    return folder / "report.html"


def _report_print(folder: RunFolder) -> str:
    """A hash of what the report depends on: the record, but for timings and its own entry, and the code."""
    finished = {name: entry.get("outputs") for name, entry in folder.record["stages"].items() if name != "report"}
    config = {name: value for name, value in folder.record["config"].items() if name != "out"}
    spec = find_spec(REPORT)
    places = (spec.submodule_search_locations if spec is not None else None) or []
    code = [path for place in places for path in sorted(Path(place).iterdir()) if path.is_file()]
    return fingerprint([{**folder.record, "config": config, "stages": finished}, content_hash(code)])


def fingerprints(inputs: Inputs, stages: Sequence[Stage]) -> dict[str, str]:
    """Per stage, of stages in order, a hash of all that its files depend on."""
    tree, prints = inputs.config.as_dict(), dict[str, str]()
    for stage in stages:
        own = {name: reduce(getitem, name.split("."), tree) for name in stage.fields}
        own = {name: value for name, value in own.items() if value is not None}  # a field that is new changes nothing
        sources = [attrgetter(name)(inputs) for name in stage.sources]
        edition = [stage.edition] if stage.edition > 1 else []
        prints[stage.name] = fingerprint([own, [prints[name] for name in stage.needs], sources or None, *edition])
    return prints


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
