"""A run folder behind a URL: a working copy here, and there what every finished stage has left.

Object stores know no renames, links or locks, and most libraries write files. So a run works in a folder of its own and
puts what a stage has finished to its URL: first the files, then `run.json`, which has their hashes. What is there is
therefore whole at any moment, and a run that is lost with its machine goes on at its first unfinished stage. A record
that is not the one last seen is another process's: before the run its files are fetched, within it the run stops.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from interp.errors import UserError, nearest, quoted
from interp.files.folder import LOCK, RunFolder, writing
from interp.files.stored import Stored, differing, is_record, recorded

T = TypeVar("T")
URL = re.compile(r"[a-z][a-z0-9+.-]*(::|://)", re.IGNORECASE)
RECORD = "run.json"
SEEN = ".seen"
"""In a working copy: hash of the record at the URL when it was last read or written from here."""
LOCAL = ("file", "local")
TRANSFERS = 8
"""Files that travel at a time."""


def is_url(place: str) -> bool:
    """Whether it is no path, but something that fsspec may open, such as `s3://bucket/runs`."""
    return bool(URL.match(place))


class Remote:
    """A folder behind a URL."""

    def __init__(self, url: str) -> None:
        """
        Raises:
            UserError: an unknown protocol, or one whose package is not installed.
        """
        self.url = url.rstrip("/") if not url.endswith("://") else url
        self._files, root = _opened(self.url)
        self._root = str(root).rstrip("/")

    def check(self) -> None:
        """
        Raises:
            UserError: nothing can be written there.
        """
        name = f".probe-{uuid4().hex}"
        with self._reached("written to"):
            self._files.pipe_file(self._at(name), b"")
            self._files.rm_file(self._at(name))

    def read(self, name: str) -> bytes | None:
        """A small file; None where there is none."""
        with self._reached("read"):
            self._files.invalidate_cache()
            try:
                return bytes(self._files.cat_file(self._at(name)))
            except (FileNotFoundError, NotADirectoryError):
                return None

    def names(self) -> list[str]:
        """All files below, hidden and unfinished ones left out."""
        with self._reached("read"):
            try:
                found = [str(path)[len(self._root) :].lstrip("/") for path in self._files.find(self._root)]
            except FileNotFoundError:
                return []
        return sorted(name for name in found if not name.endswith(".part") and not _is_hidden(name))

    def get(self, folder: Path, names: Iterable[str]) -> None:
        """Fetches files into a folder, each whole or not at all."""

        def one(name: str) -> None:
            with writing(folder / name) as part:
                self._files.get_file(self._at(name), str(part))

        self._each(one, names, "read")

    def put(self, folder: Path, names: Iterable[str]) -> None:
        """Puts files of a folder there."""
        self._each(lambda name: self._files.put_file(str(folder / name), self._at(name)), names, "written to")

    def remove(self, names: Iterable[str]) -> None:
        """Removes files that may be there."""

        def one(name: str) -> None:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._at(name))

        self._each(one, names, "written to")

    def write(self, name: str, data: bytes) -> None:
        """A small file, which no reader sees half written."""
        with self._reached("written to"):
            self._files.pipe_file(self._at(f"{name}.part"), data)
            self._files.mv(self._at(f"{name}.part"), self._at(name))

    def _at(self, name: str) -> str:
        return f"{self._root}/{name}"

    def _each(self, one: Callable[[str], object], names: Iterable[str], what: str) -> None:
        with self._reached(what), ThreadPoolExecutor(TRANSFERS) as pool:
            for _ in pool.map(one, names):
                pass

    @contextmanager
    def _reached(self, what: str) -> Iterator[None]:
        """Whatever a file system raises, in one line."""
        try:
            yield
        except Exception as error:
            said = " ".join(str(error).split())[:160]
            raise UserError(
                f"{self.url} cannot be {what} ({type(error).__name__}{': ' if said else ''}{said}); look at your"
                " permissions and at the network, and give the same command again."
            ) from None


class RemoteRunFolder(RunFolder):
    """The working copy of a run folder behind a URL; what a stage has finished is put there."""

    remote: Remote

    @classmethod
    def fetched(cls, path: Path, name: str, remote: Remote) -> "RemoteRunFolder":
        """The working copy, with what is at the URL in it; `claimed` makes it and keeps others out.

        Raises:
            UserError: the folder is that of another experiment, or the URL cannot be read.
        """
        lost = fetch(remote, path)
        cls.open(path, name)  # refuses another experiment's
        folder = cls(path)
        folder.remote, folder._lost = remote, lost
        if folder.record:
            folder.put()
        return folder

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lost: set[str] = set()

    def finish(self, *about: Any, **more: Any) -> dict[str, Stored]:
        """As in any run folder; and what is finished is put to the URL."""
        written = super().finish(*about, **more)
        self.put()
        return written

    def put(self) -> None:
        """Puts there what differs.

        Raises:
            UserError: another process has written there, or nothing can be written.
        """
        mine = (self.path / RECORD).read_bytes()
        theirs = self.remote.read(RECORD)
        again = {name for name in self._lost if (self.path / name).exists()}
        if theirs == mine and not again:
            _saw(self.path, mine)
            return
        if theirs is not None and not _is_seen(self.path, theirs):
            raise UserError(
                f"{self.remote.url} was changed by another process while this run was at work; let one run at a time"
                " write there, and give the same command again: it goes on from what is there."
            )
        known, now = _recorded(theirs), recorded(json.loads(mine))
        self.remote.put(self.path, [n for n, file in now.items() if known.get(n) != file or n in again])
        self._lost -= again
        self.remote.write(RECORD, mine)
        _saw(self.path, mine)
        self.remote.remove(name for name in known if name not in now)


def fetch(remote: Remote, folder: Path) -> set[str]:
    """Makes a working copy what the URL holds, unless that is what was last seen from here.

    Returns:
        Names under which the URL does not hold what its record says.

    Raises:
        UserError: the URL cannot be read, or its record is damaged.
    """
    theirs = remote.read(RECORD)
    if theirs is None:
        if (folder / SEEN).exists():  # it was there, and somebody has removed it
            _keep(folder, ())
        return set()
    if _is_seen(folder, theirs):
        return set()
    known = _recorded(theirs)
    if not is_record(_parsed(theirs)):
        raise UserError(f"{remote.url}/{RECORD} is damaged; remove the folder there or choose another --out.")
    names = [name for name in remote.names() if name != RECORD]
    _keep(folder, {*names, *known})
    wanted = {*differing(folder, known), *(name for name in names if name not in known)}
    remote.get(folder, sorted(wanted.intersection(names)))
    lost = {*differing(folder, known)}
    for name in lost:
        (folder / name).unlink(missing_ok=True)
    with writing(folder / RECORD) as part:
        part.write_bytes(theirs)
    _saw(folder, theirs)
    return lost


def record_at(remote: Remote) -> dict[str, Any]:
    """The record of the run there; empty where there is none."""
    tree = _parsed(remote.read(RECORD))
    return tree if is_record(tree) else {}


def _keep(folder: Path, names: Collection[str]) -> None:
    """Removes all other files of a working copy."""
    for path in folder.rglob("*"):
        if path.is_file() and path.name != LOCK and path.relative_to(folder).as_posix() not in names:
            path.unlink()


def _saw(folder: Path, record: bytes) -> None:
    with writing(folder / SEEN) as part:
        part.write_text(hashlib.sha256(record).hexdigest(), encoding="utf-8")


def _is_seen(folder: Path, record: bytes) -> bool:
    path = folder / SEEN
    return path.exists() and path.read_text(encoding="utf-8") == hashlib.sha256(record).hexdigest()


def _recorded(record: bytes | None) -> Mapping[str, Stored]:
    tree = _parsed(record)
    return recorded(tree) if is_record(tree) else {}


def _parsed(record: bytes | None) -> Any:
    try:
        return None if record is None else json.loads(record)
    except ValueError:
        return None


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _opened(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path there."""
    from fsspec.core import url_to_fs
    from fsspec.registry import available_protocols, known_implementations

    protocol = url.partition(":")[0].lower()
    if "::" in url:
        raise UserError(f"{url}: URLs that are chained with :: are not taken; give one such as s3://bucket/runs.")
    if protocol not in available_protocols():
        raise UserError(f"{url}: no protocol {quoted(protocol)} is known{nearest(protocol, available_protocols())}")
    options = {"auto_mkdir": True} if protocol in LOCAL else {}
    try:
        files, path = url_to_fs(url, **options)
    except ImportError as error:
        package = known_implementations.get(protocol, {}).get("class", "").partition(".")[0]
        how = f": pip install {package}" if package not in ("", "fsspec") else ""
        raise UserError(f"{url} needs a package that is not installed ({error}){how}") from None
    except Exception as error:  # of whatever file system it is
        said = " ".join(str(error).split())[:160]
        raise UserError(f"{url} cannot be opened ({type(error).__name__}: {said}).") from None
    return files, str(path)
