"""The page as a process, and its files as a Hugging Face Space."""

import json
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from interp import __version__
from interp.errors import UserError

LOCAL = "127.0.0.1"
CARRIED = ("run.json", "effects.parquet", "steering.json", "steering.safetensors")
"""Of a run, what the page needs and no text of a corpus stands in."""
WITH_TEXTS = ("cards.json",)


def serve_app(name: str, *, host: str = LOCAL, port: int = 7860, ready: Callable[[str], Any] | None = None) -> None:
    """The page of a run or model, until interrupted.

    Args:
        ready: is told the address.

    Raises:
        UserError: Gradio is not installed, no such run or model, a port in use.
    """
    page = _needed()
    from interp.app.workbench import Workbench

    built = page.build_page(Workbench.open(name))
    try:
        _, address, _ = built.queue(max_size=64).launch(
            server_name=host, server_port=port or None, quiet=True, prevent_thread_lock=True, share=False, **page.look()
        )
    except OSError:
        raise UserError(f"Cannot listen on {host}:{port}; give --port one that is free (0 takes any).") from None
    if ready is not None:
        ready(address)
    built.block_thread()


def _needed() -> Any:
    try:
        from interp.app import page
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("interp"):
            raise
        raise UserError(f"This needs {error.name}; install it with: pip install 'interp[app]'.") from None
    return page


def write_space(name: str, folder: Path, *, texts: bool = False) -> Path:
    """The files of a Hugging Face Space that shows a run or a model; `git push` them there.

    Args:
        texts: feature cards with texts of the corpora on which features fire; whether they may be published is yours
            to know.

    Raises:
        UserError: a model that a Space cannot load, or a folder that holds something else.
    """
    from interp.run.config import config_of
    from interp.run.steerable import READY, Steerable

    if folder.exists() and any(folder.iterdir()) and not (folder / "app.py").is_file():
        raise UserError(f"{folder} holds other files; give --space a new folder.")
    run = Path(name)
    is_run = (run / "run.json").is_file()
    model = config_of(run).model if is_run else name
    if Path(model).expanduser().exists():
        raise UserError(
            f"The model is a folder of this machine ({model}), which a Space cannot load; give its hub id,"
            " or a run that was made with it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    if is_run:
        shutil.rmtree(folder / "run", ignore_errors=True)
        (folder / "run").mkdir()
        for file in (*CARRIED, *(WITH_TEXTS if texts else ())):
            if (run / file).is_file():
                shutil.copyfile(run / file, folder / "run" / file)
        steerable = Steerable.of_run(run)
        for emotion in steerable.emotions:
            steerable.steering(emotion, 1.0).save(folder / "run" / READY / emotion)
    title = f"interp: {run.resolve().name if is_run else name}"
    (folder / "app.py").write_text(APP.format(name="run" if is_run else name), encoding="utf-8")
    (folder / "requirements.txt").write_text(f"interp[app]=={__version__}\n", encoding="utf-8")
    (folder / "README.md").write_text(
        README.format(title=json.dumps(title), gradio=version("gradio")), encoding="utf-8"
    )
    return folder


APP = '''"""What a model reads in a text, and what steering does to it."""

from interp.app.page import build_page, look
from interp.app.workbench import Workbench

page = build_page(Workbench.open({name!r}))

if __name__ == "__main__":
    page.queue(max_size=64).launch(**look())
'''
README = """---
title: {title}
emoji: 🔍
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
app_file: app.py
---

Where a language model recognises emotions, through which sparse features, and what steering it does. Made with
`interp app --space`.
"""
