"""The command that sends finished runs to a tracker of experiments, and the flag that does so at the end of a run."""

from collections.abc import Callable
from pathlib import Path

from interp.cli.console import Json, Quiet, errors, hushed, json_text
from interp.errors import UserError
from interp.tracking import TrackerName


def log(*folders: Path, to: TrackerName, quiet: Quiet = False, json: Json = False) -> None:
    """Send finished runs to Weights & Biases, trackio or MLflow: numbers, configuration, figures, tables; no texts.

    For example: `interp log runs/tiny --to mlflow`, or `interp log runs/sweep/* --to wandb`.

    Parameters
    ----------
    folders
        Folders that `interp run`, `interp express run` or `interp reliability run` wrote.
    to
        Which client; it must be installed. Server, account and project are told to the client itself.
    """
    from interp.tracking.trackers import send, tracker

    if not folders:
        raise UserError("Nothing to send; give folders of finished runs such as runs/tiny.")
    client, sent = tracker(to), []
    for folder in folders:
        with hushed(quiet or json):
            sent.append({"folder": folder, "sent": send(to, client, folder)})
        if not json:
            print(sent[-1]["sent"])
    if json:
        print(json_text({"to": to, "runs": sent}))


def sender(name: TrackerName | None, *, quiet: bool = False) -> Callable[[Path], None]:
    """What sends a folder when it is done; the client is known to be ready before anything long is begun.

    Raises:
        UserError: it is not installed, or not signed in.
    """
    if name is None:
        return lambda folder: None
    from interp.tracking.trackers import send_after, tracker

    client = tracker(name)

    def send(folder: Path) -> None:
        where = send_after(name, client, folder)
        if where is not None and not quiet:
            errors.print(f"Sent to {name}: {where}")

    return send
