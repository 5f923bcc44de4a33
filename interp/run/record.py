"""What `run.json` says of a run besides its configuration: model, SAEs, versions, state of the code."""

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from interp.run.config import local_paths
from interp.run.session import Session

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


def facts(session: Session) -> dict[str, Any]:
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
            **({} if model.source is None else {"source": asdict(model.source)}),
            "chat_reason": model.chat_reason,
            **({"frame": model.frame} if model.chat else {}),
            "answers_scored_by": "whole words" if session.answers.whole else "first tokens",
        },
        "saes": {
            "name": session.config.saes.name,
            "identity": saes.identity,
            "layers": list(saes.sources),
            "neuronpedia": {k: s.neuronpedia for k, s in saes.sources.items() if s.neuronpedia},
            "d_sae": [saes.d_sae(k) for k in saes.sources],
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
