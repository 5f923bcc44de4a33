"""The server as a process: a socket of this machine, and uvicorn on it."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from interp.errors import UserError

LOCAL = "127.0.0.1"


def listening(host: str, port: int) -> socket.socket:
    """A socket bound to an address, before anything is loaded; port 0 takes a free one.

    Raises:
        UserError: an address that is not this machine's, or a port that is in use.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        bound = socket.socket(found[0], socket.SOCK_STREAM)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.bind(found[4])
            bound.listen(1024)  # who comes before the server is up waits
        except BaseException:
            bound.close()
            raise
    except (OSError, UnicodeError) as error:
        raise UserError(
            f"Cannot listen on {host}:{port} ({getattr(error, 'strerror', None) or error}); give --host an address of"
            " this machine and --port one that is free (0 takes any)."
        ) from None
    return bound


def serve(
    folder: Path, *, host: str = LOCAL, port: int = 8000, batch: int = 16, ready: Callable[[str], Any] | None = None
) -> None:
    """Serves a run's model until interrupted.

    Args:
        folder: a run folder.
        batch: texts that are written together.
        ready: is told the address once the model is loaded.

    Raises:
        UserError: FastAPI or uvicorn is not installed, no run folder, a port in use.
    """
    try:
        import uvicorn

        from interp.serving.app import build_app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("interp"):
            raise
        raise UserError(f"This needs {error.name}; install it with: pip install 'interp[serve]'.") from None
    from interp.run.steerable import Steerable

    with listening(host, port) as bound:
        steerable = Steerable.of_run(folder)
        app = build_app(steerable, name=folder.resolve().name, most=batch)
        address = f"http://{host if ':' not in host else f'[{host}]'}:{bound.getsockname()[1]}"
        if ready is not None:
            ready(address)
        uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[bound])
