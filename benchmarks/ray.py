"""`python -m benchmarks.ray`: two workers of one thread on Ray beside one process of two threads, stage by stage.

The protocol of `experiments/smollm2.yaml`. The two take turns, each in a process of its own, `--repeats` times; of each
stage the least wall seconds count. Ray's own start and the workers' loading are in the whole run and in no stage.
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

from benchmarks.ray_kills import contents
from benchmarks.results import hardware, write

CONFIG = Path(__file__).parents[1] / "experiments" / "smollm2.yaml"
SIDES = {
    "one process, 2 threads": ["--engine", "local", "--resources.cpus", "2"],
    "2 workers, 1 thread": ["--engine", "ray", "--resources.cpus", "1", "--resources.workers", "2"],
    "one process, 1 thread": ["--engine", "local", "--resources.cpus", "1"],
}
BASE, OTHER, SAME = SIDES


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray", description=__doc__)
    parser.add_argument("--config", type=Path, default=CONFIG, help="more flags go to the runs")
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--without-one-thread", action="store_true", help="do not compare bytes with one thread")
    options, more = parser.parse_known_args()
    sides = [side for side in SIDES if side != SAME or not options.without_one_thread]
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(options.repeats):
            runs += [
                measured(side, options.config.absolute(), Path(folder) / f"{k}-{i}", more)
                for i, side in enumerate(sides)
            ]
        same = None
        if SAME in sides:
            of = {r["side"]: contents(next(Path(r["folder"]).iterdir())) for r in runs}
            same = of[SAME] == of[OTHER]
    _report(runs, sides, same, options.config.name)


def measured(side: str, config: Path, out: Path, more: list[str]) -> dict[str, Any]:
    """One run: seconds by stage, and of all of it."""
    out.mkdir(parents=True)
    command = [sys.executable, "-m", "interp.cli", "run", str(config), *SIDES[side], "--out", str(out), *more]
    environment = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    begun = time.perf_counter()
    subprocess.run([*command, "--quiet"], check=True, cwd=out.parent, env=environment, stdout=subprocess.DEVNULL)
    seconds = time.perf_counter() - begun
    record = json.loads((next(out.iterdir()) / "run.json").read_text())
    stages = {name: entry["seconds"] for name, entry in record["stages"].items()}
    return {"side": side, "folder": str(out), "stages": stages, "whole": round(seconds, 1)}


def _report(runs: list[dict[str, Any]], sides: list[str], same: bool | None, config: str) -> None:
    def least(side: str, stage: str) -> float:
        mine = [r for r in runs if r["side"] == side]
        return min(r["whole"] if stage == "whole run" else r["stages"][stage] for r in mine)

    lines = [
        f"# Two workers beside one process\n\n{hardware()}. `{config}`; wall seconds, and their ratio.\n",
        "| stage | " + " | ".join(sides) + " | ratio |",
        "|---" * (len(sides) + 2) + "|",
    ]
    stages = list(runs[0]["stages"])
    inside = {side: sum(least(side, stage) for stage in stages) for side in sides}
    for stage in [*stages, "whole run"]:
        of = [least(side, stage) for side in sides]
        ratio = least(OTHER, stage) / least(BASE, stage) if least(BASE, stage) else float("nan")
        lines.append(f"| {stage} | " + " | ".join(f"{s:.1f}" for s in of) + f" | {ratio:.2f} |")
    ratio = inside[OTHER] / inside[BASE]
    lines.append("| all stages | " + " | ".join(f"{inside[s]:.1f}" for s in sides) + f" | {ratio:.2f} |")
    if same is not None:
        lines.append(f"\nFiles of the workers and of one process with one thread are {'' if same else 'NOT '}the same.")
    write("ray", runs, lines)


if __name__ == "__main__":
    main()
