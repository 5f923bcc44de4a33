"""The stages of a run in order, and which of them must run again."""

import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp.config import Config
from interp.evaluation.fluency import load_plain_text
from interp.folder import RunFolder, fingerprint
from interp.loading import resolve_device, resolve_dtype
from interp.report import write_report
from interp.session import Progress, Session, silent
from interp.stages import (
    baselines,
    capture,
    cards,
    causes,
    evaluate,
    features,
    learning,
    side_effects,
    signals,
    steer,
    trace,
    why,
)

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
    Stage("features", features.run_features, ["features"], ("capture",)),
    Stage("selectivity", features.run_selectivity, ["selectivity.parquet"], ("features",)),
    Stage("attribution", signals.run_attribution, ["attribution.npz"], ("features",), ("tracing.examples",)),
    Stage(
        "signals",
        signals.run_signals,
        ["signals.parquet", "signals_draws.npz"],
        ("attribution",),
        ("resamples", "seed"),
    ),
    Stage("phases", signals.run_phases, ["phases.json"], ("signals",)),
    Stage(
        "trace",
        trace.run,
        ["tracing", "effects.parquet", "concentration.parquet", "effects_by_example.parquet"],
        ("phases",),
        ("tracing", "resamples", "seed"),
    ),
    Stage(
        "causes",
        causes.run,
        ["joint.parquet", "overshadowing.parquet", "insertion.parquet", "cofiring.parquet"],
        ("trace",),
        ("resamples", "seed"),
    ),
    Stage("baselines", baselines.run, ["baselines.parquet"], ("capture",), ("resamples", "seed")),
    Stage("why", why.run, ["why.parquet"], ("causes", "selectivity")),
    Stage("cards", cards.run, ["cards.json"], ("trace",)),
    Stage(
        "steer",
        steer.run,
        ["steering.safetensors", "steering.json", "trials.parquet", "steerings"],
        ("trace",),
        ("steering.method", "steering.features", "steering.perplexity_budget", "steering.harm_budget", *SCORED),
    ),
    Stage(
        "evaluate",
        evaluate.run,
        ["evaluation.parquet", "predictions.parquet"],
        ("steer",),
        ("steering.low_rank", *SCORED),
    ),
    Stage(
        "side_effects",
        side_effects.run,
        ["dose.parquet", "side_effects.parquet"],
        ("steer",),
        SCORED,
    ),
    Stage("learning", learning.run, ["learning.parquet"], ("steer",), ("steering.learning_curve", "seed")),
)

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
    folder = RunFolder.open(Path(config.out) / config.name, config.name)
    session = Session(config, folder, progress)
    prints = _fingerprints(session)
    folder.note(name=config.name, date=_began(folder), config=config.as_dict(), **_identities(session))
    ran, skipped, stale = [], [], []
    names = [s.name for s in STAGES]
    for stage in STAGES[: names.index(LAST_STAGE[command]) + 1]:
        if folder.is_current(stage.name, prints[stage.name]):
            skipped.append(stage.name)
            continue
        if folder.begin(stage.name, prints[stage.name], stage.outputs):
            stale.append(stage.name)
        say(stage.name)
        start = time.perf_counter()
        stage.run(session)
        folder.finish(stage.name, prints[stage.name], time.perf_counter() - start)
        ran.append(stage.name)
    report = write_report(folder.path)
    return Outcome(folder.path, report, ran, skipped, stale, time.perf_counter() - began)


def _began(folder: RunFolder) -> str:
    """The day on which the run began (UTC), as its record says where it goes on."""
    return str(folder.record.get("date") or datetime.now(UTC).date())


def _fingerprints(session: Session) -> dict[str, str]:
    """Per stage, a hash of all that its files depend on."""
    config = session.config
    tree = config.as_dict()
    device = resolve_device(config.device)
    sources = {
        "capture": [
            session.model.identity,
            str(device.type),
            str(resolve_dtype(config.dtype, device)),
            config.quantization,
            session.model.chat,
            [[role, e.id, e.text, e.gold] for role, e in session.examples],
        ],
        "features": [session.saes.identity],
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


def _identities(session: Session) -> dict[str, Any]:
    model, saes = session.model, session.saes
    return {
        "versions": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
        "model": {
            "name": session.config.model,
            "identity": model.identity,
            "n_layers": model.n_layers,
            "d_model": model.d_model,
            "device": str(model.device),
            "dtype": str(model.dtype).removeprefix("torch."),
            "chat": model.chat,
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
