"""`python -m benchmarks.ray_kills`: workers, a node and the run itself killed at random; the files must be the same.

The bundled model on a part of the bundled corpus. One run in a process of its own, without Ray, says what the files
are. Then, again and again: a run on two nodes of one processor each is begun, something is killed after a random time,
and where the run did not end by itself the same command is given until it has. Every file is compared.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from benchmarks.results import hardware, write

KINDS = ("worker", "raylet", "driver")
SMALL = {
    "corpora.discover.limit": "90",
    "corpora.fit.limit": "60",
    "corpora.test.0.limit": "60",
    "tracing.candidates": "8",
    "fluency.limit": "500",
    "resamples": "100",
    "steering.labels": "5",
    "resources.cpus": "1",
}
MOST = 5
"""Times that a command is given before something is wrong."""
ON_RAY = """
import sys
import ray
from ray.cluster_utils import Cluster
from interp.cli.main import main

small = {"num_cpus": 1, "object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
cluster.add_node(**small)
cluster.wait_for_nodes()
ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
try:
    main()
finally:
    ray.shutdown()
    cluster.shutdown()
"""
"""A run on a cluster of two nodes that ends with it."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ray_kills", description=__doc__)
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="an empty folder for the runs, which are kept")
    parser.add_argument("--kind", choices=KINDS, help="only this")
    options = parser.parse_args()
    rng, found = random.Random(options.seed), list[dict[str, Any]]()
    with nullcontext(options.keep) if options.keep else tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        _finished(_begun(Path(folder) / "one", ray=False))
        seconds = time.perf_counter() - start
        expected = contents(Path(folder) / "one" / "tiny")
        for k in range(options.times):
            kind = options.kind or KINDS[k % len(KINDS)]
            after = rng.uniform(0.15, 1.1) * seconds
            one = killed(Path(folder) / str(k), kind, after, rng)
            got = contents(Path(folder) / str(k) / "tiny")
            others = sorted(name for name in {*got, *expected} if got.get(name) != expected.get(name))
            one["files"], one["same"] = len(expected), not others
            found.append(one)
            print(json.dumps(one), flush=True)
            if others:
                raise SystemExit(f"not the same: {', '.join(others)}; what was said: {Path(folder) / f'{k}.log'}")
    _report(found)


def killed(out: Path, kind: str, after: float, rng: random.Random) -> dict[str, Any]:
    """A run in which something is killed; given again until it has ended."""
    run = _begun(out, ray=True)
    time.sleep(after)
    hit = _kill(run, kind, out, rng)
    status, again = run.wait(600), 0
    _clear(hit.began)
    while status:
        again += 1
        if again > MOST:
            raise SystemExit(f"the run did not end after {MOST} times")
        run = _begun(out, ray=again < MOST - 1)
        status = run.wait(600)
    return {"killed": kind, "after": round(after, 1), "hit": hit.stage, "given_again": again}


def _begun(out: Path, *, ray: bool) -> "subprocess.Popen[bytes]":
    words = ["run", str(Path(__file__).parents[1] / "experiments/tiny.yaml"), "--out", str(out)]
    words += [word for key, value in SMALL.items() for word in (f"--{key}", value)]
    words += ["--engine", "auto", "--resources.workers", "2"] if ray else []
    how = ["-c", ON_RAY] if ray else ["-m", "interp.cli"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}
    environment["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "1"
    out.mkdir(parents=True, exist_ok=True)
    with (out.parent / f"{out.name}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *how, *words, "--quiet"],
            stdout=log,
            stderr=log,
            env=environment,
            cwd=out.parent,
            start_new_session=True,
        )


def _finished(run: "subprocess.Popen[bytes]") -> None:
    if run.wait(600):
        raise SystemExit("the run without Ray failed")


class Hit(NamedTuple):
    """In which stage something was killed, and the processes that the run had begun."""

    stage: str
    began: Sequence[psutil.Process]


def _kill(run: "subprocess.Popen[bytes]", kind: str, out: Path, rng: random.Random) -> Hit:
    """Kills one process of the run."""
    stage = _stage(out / "tiny")
    if run.poll() is not None:
        return Hit("nothing: the run had ended", [])
    below = psutil.Process(run.pid).children(recursive=True)
    if kind == "driver":
        victims = [psutil.Process(run.pid)]
    elif kind == "raylet":
        victims = [p for p in below if _name(p) == "raylet"]
    else:
        victims = [p for p in below if _name(p).startswith("ray::Worker")]
    if not victims:
        return Hit(f"nothing: there was no {kind} yet", below)
    rng.choice(victims).send_signal(signal.SIGKILL)
    return Hit(stage, below)


def _name(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
        return Path(words[0].split()[0]).name if words else ""
    except (psutil.Error, IndexError):
        return ""


def _stage(run: Path) -> str:
    """The stage that was under way."""
    try:
        stages = json.loads((run / "run.json").read_text())["stages"]
    except (OSError, ValueError, KeyError):
        return "start"
    return next((name for name, entry in stages.items() if not entry.get("finished")), "between stages")


def _clear(began: Sequence[psutil.Process]) -> None:
    """Ends what a killed run had begun and could not end: its cluster."""
    for process in began:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(began, timeout=30)


def contents(run: Path) -> dict[str, str]:
    """Hash of every file; of run.json, without its timings and without where it lies."""
    found = {}
    for file in sorted(run.rglob("*")):
        if file.is_file() and file.name != ".lock":
            data = file.read_bytes()
            if file.name == "run.json":
                record = json.loads(data)
                record["config"].pop("out")
                record.pop("working_directory", None)
                record.pop("git", None)
                stages = {name: entry["outputs"] for name, entry in record["stages"].items()}
                record["stages"] = {name: outputs for name, outputs in stages.items() if name != "report"}
                data = json.dumps(record).encode()
            found[file.relative_to(run).as_posix()] = hashlib.sha256(data).hexdigest()
    found.pop("report.html", None)  # it tells where the run was started
    return found


def _report(found: list[dict[str, Any]]) -> None:
    lines = [
        f"# Killed, and the same files\n\n{hardware()}. The bundled model, two nodes of one processor.\n",
        "| killed | after, s | in stage | given again | files | same |",
        "|---|---|---|---|---|---|",
        *(
            f"| {r['killed']} | {r['after']} | {r['hit']} | {r['given_again']} | {r['files']} | {r['same']} |"
            for r in found
        ),
    ]
    write("ray_kills", found, lines)


if __name__ == "__main__":
    main()
