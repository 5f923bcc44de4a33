"""The command line in processes of its own that need not load torch and its like: they are forked from one that has."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path

LOADED = ("torch", "transformers", "sae_lens", "scipy.stats", "sklearn.linear_model", "statsmodels.stats.proportion")
"""What takes seconds to load; nothing of `interp`."""
STARTED = {**os.environ, "OMP_NUM_THREADS": "1"}
"""The environment in which these are loaded."""
SECONDS = 300
"""A command takes no longer."""


def run(words: tuple[str, ...], cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What `python -m interp.cli WORDS` says and returns, in an environment, with one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    if _told_when_loaded(environment) != _told_when_loaded(STARTED):
        command = [sys.executable, "-m", "interp.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        process = _started(words, cwd, out, err, environment)
        process.join(SECONDS)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(words, SECONDS)
        return subprocess.CompletedProcess(words, process.exitcode, out.read_text(), err.read_text())


def killed(words: tuple[str, ...], cwd: Path, when: Path) -> None:
    """Lets a command work until there is a file, and kills it then (SIGKILL)."""
    with tempfile.TemporaryDirectory() as folder:
        process = _started(words, cwd, Path(folder) / "out", Path(folder) / "err", {**os.environ})
        deadline = time.monotonic() + SECONDS
        while not when.exists() and process.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        ended = not process.is_alive()
        process.kill()
        process.join()
        assert not ended and when.exists(), f"it ended before {when}: {(Path(folder) / 'err').read_text()}"


def _started(words: tuple[str, ...], cwd: Path, out: Path, err: Path, environment: dict[str, str]) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LOADED])
    process = context.Process(target=_command, args=(words, cwd, out, err, environment))
    with _environment(STARTED):  # of the process that the others are forked from
        process.start()
    return process


def _told_when_loaded(environment: dict[str, str]) -> dict[str, str]:
    """What libraries may look at when they are loaded; some set KMP_ and TORCHINDUCTOR_ themselves."""
    return {k: v for k, v in environment.items() if not k.startswith(("INTERP_", "PYTEST_", "KMP_", "TORCHINDUCTOR_"))}


@contextmanager
def _environment(wanted: dict[str, str]):
    before = {**os.environ}
    os.environ.clear()
    os.environ.update(wanted)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _command(words: tuple[str, ...], cwd: Path, out: Path, err: Path, environment: dict[str, str]) -> None:
    """In the new process: what `python -m interp.cli` does."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        with path.open("wb") as file:
            os.dup2(file.fileno(), number)
    sys.argv = ["interp", *words]
    code: object = 0
    try:
        runpy.run_module("interp.cli", run_name="__main__", alter_sys=True)
    except SystemExit as exit_:
        code = exit_.code
    except BaseException:
        traceback.print_exc()
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))
