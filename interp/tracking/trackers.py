"""The clients behind one interface: ready before anything long is begun, and what goes wrong in them is one line."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Protocol

from interp.errors import InterpWarning, UserError, nearest
from interp.tracking import TRACKERS
from interp.tracking.tracked import Tracked, tracked

PROJECT = "interp"
"""What the project or experiment is called where the client has not been told another name."""


class Tracker(Protocol):
    """One client, as it is set up on this machine: which server, project and account is told to the client itself."""

    def check(self) -> None:
        """Whether something could be sent now.

        Raises:
            UserError: not signed in, or nobody answers.
        """

    def send(self, entry: Tracked) -> str:
        """An entry of its own; returns where it can be seen."""


def tracker(name: str) -> Tracker:
    """A client that is installed and signed in.

    Raises:
        UserError: an unknown one, one that is not installed, or one that cannot send anything.
    """
    if name not in TRACKERS:
        raise UserError(f"No tracker {name!r}{nearest(name, TRACKERS)}")
    with _quiet():
        try:
            found: Tracker = import_module(f"interp.tracking.to_{name}").TRACKER
        except ModuleNotFoundError as error:
            if error.name is None or error.name.startswith("interp"):
                raise
            needs = "is not installed" if error.name == name else f"needs {error.name}, which is not installed"
            raise UserError(f"{name} {needs}: pip install {name}.") from None
        try:
            found.check()
        except UserError:
            raise
        except Exception as error:
            raise UserError(f"{name} cannot be used: {reason(error)}") from None
    return found


def send(name: str, client: Tracker, folder: Path) -> str:
    """Sends the folder of a finished run; returns where it can be seen.

    Raises:
        UserError: no such folder, or it could not be sent.
    """
    with _quiet(), tracked(folder) as entry:
        try:
            return client.send(entry)
        except Exception as error:
            raise UserError(f"{folder} was not sent to {name}: {reason(error)}") from None


def send_after(name: str, client: Tracker, folder: Path) -> str | None:
    """The same at the end of a run, which is done whatever becomes of this: what goes wrong is a warning."""
    try:
        return send(name, client, folder)
    except Exception as error:
        said = str(error) if isinstance(error, UserError) else f"{folder} was not sent to {name}: {reason(error)}"
        again = f"The run is finished; interp log {folder} --to {name} sends it again."
        warnings.warn(f"{said} {again}", InterpWarning, stacklevel=2)
        return None


def reason(error: BaseException) -> str:
    """What a client says went wrong, in a line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = lines[0][:300] if lines else type(error).__name__
    return said if said.endswith((".", "!")) else f"{said}."


@contextmanager
def _quiet() -> Iterator[None]:
    """Standard output is for what commands print, and what clients warn of is not news of the run."""
    with warnings.catch_warnings(), redirect_stdout(StringIO()):
        warnings.simplefilter("ignore")
        yield
