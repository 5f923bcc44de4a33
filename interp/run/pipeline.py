"""The stages of a run in order, and which of them must run again."""

import platform
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError

from interp.engine.kept import remove_scratch
from interp.errors import DamagedError, UserError
from interp.evaluation.fluency import load_plain_text
from interp.files.folder import RunFolder, claimed, fingerprint, out_of_space
from interp.files.stored import UNREADABLE, files_below
from interp.models.loading import resolve_device, resolve_dtype
from interp.processors import one_thread_per_core
from interp.report import write_report
from interp.run.config import Config, local_paths
from interp.run.session import Progress, Session, silent
from interp.run.stages import (
    attribution,
    baselines,
    capture,
    cards,
    causes,
    evaluate,
    features,
    learning,
    phases,
    selectivity,
    side_effects,
    signals,
    steer,
    trace,
    why,
)
from interp.texts.prompts import resolve_template

PACKAGES = (
    "interp",
    "torch",
    "transformers",
    "transformer-lens",
    "sae-lens",
    "numpy",
    "scipy",
    "scikit-learn",
    "ruptures",
)


@dataclass(frozen=True)
class Stage:
    """A step of a run: what it makes, from which earlier steps and which fields of the configuration."""

    name: str
    run: Callable[[Session], None]
    outputs: list[str]
    needs: tuple[str, ...] = ()
    fields: tuple[str, ...] = ()


SCORED = ("fluency", "resamples", "seed")

STAGES = (
    Stage("capture", capture.run, ["activations", "examples.parquet"], (), ("labels", "prompt", "seed")),
    Stage("features", features.run, ["features"], ("capture",)),
    Stage("selectivity", selectivity.run, ["selectivity.parquet"], ("features",)),
    Stage("attribution", attribution.run, ["attribution.npz"], ("features",), ("tracing.examples",)),
    Stage(
        "signals",
        signals.run,
        ["signals.parquet", "signals_draws.npz"],
        ("attribution",),
        ("resamples", "seed"),
    ),
    Stage("phases", phases.run, ["phases.json"], ("signals",)),
    Stage(
        "trace",
        trace.run,
        ["units/trace", "effects.parquet", "concentration.parquet", "effects_by_example.parquet"],
        ("phases",),
        ("tracing", "resamples", "seed"),
    ),
    Stage(
        "causes",
        causes.run,
        ["joint.parquet", "overshadowing.parquet", "insertion.parquet", "cofiring.parquet", "units/causes"],
        ("trace",),
        ("resamples", "seed"),
    ),
    Stage("baselines", baselines.run, ["baselines.parquet", "units/baselines"], ("capture",), ("resamples", "seed")),
    Stage("why", why.run, ["why.parquet"], ("causes", "selectivity")),
    Stage("cards", cards.run, ["cards.json"], ("trace",)),
    Stage(
        "steer",
        steer.run,
        ["steering.safetensors", "steering.json", "trials.parquet", "steerings", "units/steer"],
        ("trace",),
        ("steering.method", "steering.features", "steering.perplexity_budget", "steering.harm_budget", *SCORED),
    ),
    Stage(
        "evaluate",
        evaluate.run,
        ["evaluation.parquet", "predictions.parquet", "units/evaluate"],
        ("steer",),
        ("steering.low_rank", *SCORED),
    ),
    Stage(
        "side_effects",
        side_effects.run,
        ["dose.parquet", "side_effects.parquet", "units/side_effects"],
        ("steer",),
        SCORED,
    ),
    Stage(
        "learning",
        learning.run,
        ["learning.parquet", "units/learning"],
        ("steer",),
        ("steering.learning_curve", "seed"),
    ),
)

FEWEST = 2
"""Discover examples without which no stage has anything to compare."""
LAST_STAGE = {"trace": "cards", "steer": "learning", "run": "learning"}
"""The stage with which each command ends (all of them write the report)."""


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


def run(
    config: Config,
    *,
    command: str = "run",
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Runs what is missing or stale, in order, and writes the report.

    Args:
        command: `trace` stops after the causal effects, `steer` and `run` after the evaluation.
        say: receives a line when a stage begins or is skipped.

    Raises:
        UserError: anything in the configuration, the data or the folder that the user can mend.
    """
    began = time.perf_counter()
    path = Path(config.out) / config.name
    with claimed(path):
        folder = RunFolder.open(path, config.name)
        remove_scratch(folder.path)
        one_thread_per_core()
        session = Session(config, folder, progress)
        known = _identified(session)
        prints = _fingerprints(session, known)
        names = [s.name for s in STAGES]
        wanted = STAGES[: names.index(LAST_STAGE[command]) + 1]
        try:
            done = _run_stages(session, wanted, prints, say)
        finally:
            session.close()
        if folder.record.get("config") != config.as_dict():
            folder.note(config=config.as_dict())
        report = write_report(folder.path)
    return replace(done, report=report, seconds=time.perf_counter() - began)


def _run_stages(
    session: Session, stages: Sequence[Stage], prints: Mapping[str, str], say: Callable[[str], None]
) -> Outcome:
    """Runs the stages that are not done, or whose files are not those they wrote, and all that comes after those.

    What a stage reads has thus been written, or found to be what was written, in this very run.
    """
    folder = session.folder
    done = Outcome(folder.path, folder / "report.html", [], [], [], 0.0, [])
    noted = False
    changed: set[str] = set()
    for stage in stages:
        print_, before = prints[stage.name], folder.outputs(stage.name)
        anew = bool(changed.intersection(stage.needs))
        current = folder.is_current(stage.name, print_)
        broken = folder.broken(stage.name, stage.outputs) if current and not anew else []
        if current and not broken and not anew:
            done.skipped.append(stage.name)
            continue
        if not noted:
            config = session.config
            folder.note(name=config.name, date=_began(folder), config=config.as_dict(), **_facts(session))
            noted = True
        if broken:
            say(f"{stage.name}: {_listed(broken)} missing or damaged, made again")
            folder.discard(broken)
            done.mended.append(stage.name)
        if folder.begin(stage.name, print_, stage.outputs, anew=anew):
            done.stale.append(stage.name)
        say(stage.name)
        start = time.perf_counter()
        _run_one(session, stage, print_, say)
        written = folder.finish(stage.name, print_, time.perf_counter() - start, stage.outputs)
        done.ran.append(stage.name)
        if anew or (broken and written != before):
            changed.add(stage.name)
    return done


def _run_one(session: Session, stage: Stage, print_: str, say: Callable[[str], None]) -> None:
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


def _began(folder: RunFolder) -> str:
    """The day on which the run began (UTC), as its record says where it goes on."""
    return str(folder.record.get("date") or datetime.now(UTC).date())


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


class Identities(NamedTuple):
    """What the fingerprints say of model and SAEs."""

    model: str
    frame: str | bool
    """The words of the chat template around a prompt, False where there are none."""
    saes: str


def _identified(session: Session) -> Identities:
    """The one place where a run asks what model and SAEs it has; what the user named wrongly is refused before that."""
    resolve_template(session.config.prompt.template)
    load_plain_text(session.config.fluency.path)
    few = sum(role == "discover" for role, _ in session.examples)
    if few < FEWEST:
        raise UserError(
            f"corpora.discover holds {few} texts of the run's labels, and nothing can be found on fewer than {FEWEST};"
            " raise its limit, or give another corpus or mapping."
        )
    return Identities(session.model.identity, session.model.frame or session.model.chat, session.saes.identity)


def _fingerprints(session: Session, known: Identities) -> dict[str, str]:
    """Per stage, a hash of all that its files depend on."""
    config = session.config
    tree = config.as_dict()
    device = resolve_device(config.device)
    sources = {
        "capture": [
            known.model,
            str(device.type),
            str(resolve_dtype(config.dtype, device)),
            config.quantization,
            known.frame,
            [[role, e.id, e.text, e.gold] for role, e in session.examples],
        ],
        "features": [known.saes],
        "steer": [
            load_plain_text(config.fluency.path),
            [[name, [e.text for e in examples]] for name, examples in session.anchors.items()],
        ],
    }
    prints: dict[str, str] = {}
    for stage in STAGES:
        own = {name: _field(tree, name) for name in stage.fields}
        prints[stage.name] = fingerprint([own, [prints[n] for n in stage.needs], sources.get(stage.name)])
    return prints


def _field(tree: dict[str, Any], dotted: str) -> Any:
    for step in dotted.split("."):
        tree = tree[step]
    return tree


def _facts(session: Session) -> dict[str, Any]:
    """What `run.json` says of the run besides its configuration."""
    model, saes = session.model, session.saes
    return {
        "working_directory": str(Path.cwd()),
        "paths": local_paths(session.config),
        "threads": torch.get_num_threads(),
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "model": {
            "name": session.config.model,
            "identity": model.identity,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "chat": model.chat,
            **_source_of(model),
            **({"frame": model.frame} if model.chat else {}),
            "answers_scored_by": "whole words" if session.answers.whole else "first tokens",
        },
        "saes": {
            "name": session.config.saes.name,
            "identity": saes.identity,
            "layers": saes.layers,
            "neuronpedia": {k: s.neuronpedia for k, s in saes.sources.items() if s.neuronpedia},
            "d_sae": [saes.d_sae(k) for k in saes.layers],
        },
        "git": _git_state(),
    }


def _source_of(model: Any) -> dict[str, Any]:
    """Where a model comes from (file, quantisation, licence) and why it is framed as a chat, where it says so."""
    found = {}
    for name in ("source", "chat_reason"):
        fact = getattr(model, name, None)
        if fact is not None:
            found[name] = asdict(fact) if is_dataclass(fact) and not isinstance(fact, type) else fact
    return found


def _git_state() -> dict[str, Any]:
    """Commit of the code and whether it was changed since; empty where the code is no git checkout."""

    def git(*words: str) -> str | None:
        command: Sequence[str] = ("git", "-C", str(Path(__file__).parent), *words)
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    return {} if commit is None else {"commit": commit, "changed": bool(git("status", "--porcelain", "--", "."))}
