"""Where a run's files are: in its folder, or, where `out` is a URL, in a working copy of what is there."""

from pathlib import Path

from interp.errors import UserError
from interp.files.folder import RunFolder, claimed, fingerprint
from interp.files.remote import RECORD, Remote, RemoteRunFolder, fetch, is_url, record_at
from interp.models.store import cache_folder
from interp.run.config import Config

COPIES = "urls"
"""Folder of the cache in which working copies are."""


def out_path(out: str) -> Path:
    """The folder that holds the folders of runs."""
    return cache_folder() / COPIES / fingerprint(out.rstrip("/")) if is_url(out) else Path(out).expanduser()


def run_path(config: Config) -> Path:
    """The folder of a run."""
    return out_path(config.out) / config.name


def run_url(config: Config) -> str | None:
    """Where it is put besides; None where it is in a folder alone."""
    return f"{config.out.rstrip('/')}/{config.name}" if is_url(config.out) else None


def run_folder(config: Config) -> RunFolder:
    """The folder of a run, to go on in; `claimed` has made it.

    Raises:
        UserError: it is another experiment's, or damaged; or its URL cannot be reached, or not be written.
    """
    path, url = run_path(config), run_url(config)
    if url is None:
        return RunFolder.open(path, config.name)
    remote = Remote(url)
    remote.check()
    return RemoteRunFolder.fetched(path, config.name, remote)


def known_folder(config: Config) -> RunFolder:
    """What is recorded of a run; nothing is written, and of a URL the record alone is read."""
    folder, url = RunFolder(run_path(config)), run_url(config)
    if url is not None:
        folder.record = record_at(Remote(url))
    return folder


def here(place: str | Path) -> Path:
    """A run folder to read: of a URL a working copy that is up to date.

    Raises:
        UserError: there is no run at the URL, it cannot be read, or a run is at work in the working copy.
    """
    if not is_url(str(place)):
        return Path(place)
    url = str(place).rstrip("/")
    out, _, name = url.rpartition("/")
    remote = Remote(url)
    if remote.read(RECORD) is None:
        raise UserError(f"{url} is no run folder (it holds no {RECORD}); give one such as s3://bucket/runs/tiny.")
    path = out_path(out) / name
    with claimed(path, None):
        fetch(remote, path)
    return path
