"""The commands that keep running: a server, and a page to try things on."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from interp.cli.console import errors
from interp.cli.options import folder_path

Port = Annotated[int, Parameter(validator=Number(gte=0, lte=65535))]
Rows = Annotated[int, Parameter(validator=Number(gte=1, lte=4096))]


def serve(run: Path, *, host: str = "127.0.0.1", port: Port = 8000, batch: Rows = 16) -> None:
    """Serve a run's model over OpenAI's API, each request under a steering of its own, until interrupted.

    For example: `interp serve runs/tiny`, then POST to http://127.0.0.1:8000/v1/completions with
    `"steering": {"emotion": "joy", "strength": 0.4}` in the body.

    Parameters
    ----------
    run
        A run folder.
    host
        Where it listens; by default this machine alone can reach it. It asks nobody for a password.
    port
        0: any that is free.
    batch
        How many texts are written together; others wait.
    """
    from interp.serving.serving import serve as run_serve

    def ready(address: str) -> None:
        errors.print(f"Serving {run.resolve().name} at {address}/v1 (OpenAI's API); Ctrl+C ends it.")

    run_serve(run, host=host, port=port, batch=batch, ready=ready)


def app(
    run_or_model: str,
    *,
    space: Path | None = None,
    texts: Annotated[bool, Parameter(negative=())] = False,
    host: str = "127.0.0.1",
    port: Port = 7860,
) -> None:
    """A page to try a run or a model on: paste a text, see what is behind the answer, steer, write. Until interrupted.

    For example: `interp app runs/tiny`, then open http://127.0.0.1:7860.

    Parameters
    ----------
    run_or_model
        A run folder, or a model by name, hub id or folder.
    space
        Write the files of a Hugging Face Space into this folder instead.
    texts
        With --space: feature cards with texts of the corpora; whether they may be published is yours to know.
    host
        Where it listens; by default this machine alone can reach it. It asks nobody for a password.
    port
        0: any that is free.
    """
    from interp.app.serving import serve_app, write_space

    if space is not None:
        print(write_space(run_or_model, folder_path(space), texts=texts))
        return
    serve_app(
        run_or_model, host=host, port=port, ready=lambda address: errors.print(f"Open {address} ; Ctrl+C ends it.")
    )
