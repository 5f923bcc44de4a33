"""`python -m benchmarks sweep`: eight runs of a sweep against the same eight runs, each in a process of its own.

Three sweeps: four ways of steering at two seeds, on the same texts and on such as each seed draws, and eight seeds.
Every file of a run in the sweep is compared with that of the run alone. `--model smollm2-135m-instruct`: of another
model, with its SAEs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from benchmarks.results import FOLDER, hardware, write
from interp import load_corpus
from interp.files.stored import recorded
from interp.run.sweep import Sweep, load_sweep

MODEL = "tiny"
LIMITS = {"discover": 120, "fit": 96, "test": 96}
STEERING = {"seed": [0, 1], "steering.method": ["best", "coupled", "amplify", "targeted"]}
DRAWN = "steering x seed, texts drawn"
SWEEPS: dict[str, dict[str, list[Any]]] = {
    "steering x seed": STEERING,
    DRAWN: STEERING,
    "seed": {"seed": list(range(8))},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__)
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--sweep", action="append", choices=[*SWEEPS], help="which; all if none is given")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    run(options.model, options.sweep or [*SWEEPS])


def run(model: str = MODEL, names: list[str] | None = None) -> None:
    """Writes results/sweep.md and sweep.json; rows of other models and sweeps are kept."""
    path = FOLDER / "sweep.json"
    rows = json.loads(path.read_text()) if path.exists() else []
    for name in names or [*SWEEPS]:
        found = measure(model, name)
        rows = [r for r in rows if (r["model"], r["sweep"]) != (model, name)] + [found]
        _report(rows)


def measure(model: str, name: str) -> dict[str, Any]:
    """Wall seconds of both ways, and in how many files they differ."""
    with tempfile.TemporaryDirectory() as folder:
        return _measured(model, name, Path(folder))


def _measured(model: str, name: str, here: Path) -> dict[str, Any]:
    corpora = {role: _drawn(role, n) if name == DRAWN else _first(role, n, here) for role, n in LIMITS.items()}
    base = {
        "name": "run",
        "model": model,
        "saes": model,
        "corpora": corpora | {"test": [corpora["test"]]},
        "tracing": {"candidates": 16},
        "fluency": {"limit": 4000},
    }
    (here / "base.yaml").write_text(yaml.safe_dump(base))
    tree = {"base": "base.yaml", "grid": SWEEPS[name], "out": str(here / "together")}
    (here / "sweep.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    sweep = load_sweep(here / "sweep.yaml")
    together = _seconds("sweep", str(here / "sweep.yaml"), "--quiet")
    print(f"{name}: sweep {together:.0f} s", flush=True)
    alone = []
    for one in sweep.runs:
        fields = {"seed": one.point["seed"], "name": one.name, "out": str(here / "alone")}
        fields |= {"steering.method": one.config.steering.method}
        flags = [word for field, value in fields.items() for word in (f"--{field}", value)]
        alone.append(_seconds("run", str(here / "base.yaml"), *flags, "--quiet"))
        print(f"{name}: {one.name} alone {alone[-1]:.0f} s", flush=True)
    return {
        "model": model,
        "sweep": name,
        "hardware": hardware(),
        "runs": len(sweep.runs),
        "together_seconds": round(together, 1),
        "alone_seconds": [round(seconds, 1) for seconds in alone],
        "ratio": round(together / sum(alone), 3),
        "stages_taken": _taken(sweep),
        "files": sum(len(_hashes(one.folder)) for one in sweep.runs),
        "files_that_differ": sum(_differing(one.folder, here / "alone" / one.name) for one in sweep.runs),
    }


def _drawn(role: str, n: int) -> dict[str, Any]:
    """A corpus of which each seed draws so many texts."""
    return {"name": "vignettes", "split": role, "limit": n}


def _first(role: str, n: int, folder: Path) -> dict[str, Any]:
    """A corpus of so many texts, whatever the seed."""
    texts = pd.DataFrame([{"text": e.text, "label": e.gold} for e in load_corpus("vignettes", split=role)])
    path = folder / f"{role}.csv"
    texts.groupby("label").head(n // texts["label"].nunique()).to_csv(path, index=False)
    return {"name": "local", "path": str(path), "split": "all"}


def _seconds(*words: str) -> float:
    threads = {k: str(torch.get_num_threads()) for k in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "interp.cli", *words], check=True, stdout=sys.stderr, env=os.environ | threads
    )
    return time.perf_counter() - start


def _hashes(folder: Path) -> dict[str, Any]:
    stages = json.loads((folder / "run.json").read_text())["stages"]
    return recorded({"stages": {name: entry for name, entry in stages.items() if name != "report"}})


def _differing(one: Path, other: Path) -> int:
    ours, theirs = _hashes(one), _hashes(other)
    return sum(ours.get(name) != theirs.get(name) for name in {*ours, *theirs})


def _taken(sweep: Sweep) -> int:
    records = (json.loads((one.folder / "run.json").read_text())["stages"] for one in sweep.runs)
    return sum("taken_from" in entry for record in records for entry in record.values())


def _report(rows: list[dict[str, Any]]) -> None:
    lines = [
        "# Eight runs of a sweep against eight runs alone\n\nWall seconds, loading and reports included; the machine"
        " was shared with other work. Files: all that the stages of the eight runs wrote, and how many are not to"
        " the last byte those of the run alone.\n\nsteering x seed: four ways of steering at two seeds, on"
        f" {' / '.join(map(str, LIMITS.values()))} vignettes. Texts drawn: each seed draws its own, so that only the"
        " four runs of a seed share captures. seed: eight seeds on the same vignettes. 16 candidates, 4,000 tokens of"
        " plain text; each measured once.\n",
        "| model | sweep | together | alone, in all | ratio | stages taken over | files | that differ |",
        "|---|---|---|---|---|---|---|---|",
        *(
            f"| {r['model']} | {r['sweep']} | {r['together_seconds']:.0f} | {sum(r['alone_seconds']):.0f} |"
            f" {r['ratio']:.2f} | {r['stages_taken']} | {r['files']} | {r['files_that_differ']} |"
            for r in rows
        ),
        "",
        *dict.fromkeys(r["hardware"] for r in rows),
    ]
    write("sweep", rows, lines)


if __name__ == "__main__":
    main()
