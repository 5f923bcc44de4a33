"""`interp saes`: the commands. Heavy imports wait until a command runs."""

import json as json_
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts
from cyclopts import Parameter
from rich.console import Console

from interp.errors import UserError

if TYPE_CHECKING:
    from interp.training.running import Event

app = cyclopts.App(name="saes", help="Sparse autoencoders: trained for a model that has none, and measured.")
errors = Console(stderr=True, highlight=False, soft_wrap=True)
Arguments = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]


@app.command
def train(*arguments: Arguments, quiet: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Train SAEs on a model's residual streams, several layers from one pass over the text, and measure them.

    Usage: interp saes train CONFIG.yaml [--any.field VALUE ...]

    A training that was stopped goes on where it was: give the same command again.

    For example: `interp saes train experiments/saes/tiny.yaml --k 64 --out saes/k64`.

    Parameters
    ----------
    quiet
        No progress, only the folder.
    """
    from interp.training.config import load_training_config

    config = load_training_config(*_parse(arguments))
    from interp.training.running import silent, train_saes

    show = _Progress()
    try:
        found = train_saes(config, progress=silent if quiet else show)
    finally:
        show.close()
    print(found.folder)


def _parse(arguments: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The config file and `--key value` / `--key=value` pairs."""
    if not arguments or arguments[0].startswith("--"):
        raise UserError("Give a config file, such as experiments/saes/tiny.yaml, and then pairs such as --k 64.")
    path, rest = Path(arguments[0]), list(arguments[1:])
    overrides = {}
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"Unexpected {flag!r}; after the config come pairs such as --k 64.")
        key, given, value = flag[2:].partition("=")
        if not given:
            if not rest:
                raise UserError(f"--{key} needs a value.")
            value = rest.pop(0)
        overrides[key] = value
    return path, overrides


class _Progress:
    """One bar per stage; where nobody looks, a line now and then."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bars: dict[str, tqdm] = {}
        self._new = tqdm
        self._said: dict[int | None, int] = {}

    def __call__(self, event: "Event") -> None:
        if not errors.is_terminal:
            self._line(event)
            return
        bar = self._bars.get(event.stage)
        if bar is None:
            bar = self._new(total=event.total, desc=f"  {event.stage}", unit=" positions", dynamic_ncols=True)
            self._bars[event.stage] = bar
        bar.n = event.done
        if event.line is not None:
            bar.set_postfix_str(f"layer {event.layer}: {_described(event)}", refresh=False)
        bar.update(0)

    def _line(self, event: "Event") -> None:
        share = 20 * event.done // max(event.total, 1)
        if event.stage == "capture" and share == self._said.get(None):
            return
        if event.stage == "train" and (event.line is None or share == self._said.get(event.layer)):
            return
        self._said[event.layer] = share
        what = "text read" if event.layer is None else f"layer {event.layer}"
        errors.print(f"{what}: {event.done:,} of {event.total:,} positions, {event.rate:,.0f}/s{_described(event, ', ')}")

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def _described(event: "Event", before: str = "") -> str:
    line = event.line
    return "" if line is None else f"{before}loss {line.loss:.4g}, FVU {line.fvu:.3f}, L0 {line.l0:.0f}, {line.dead} dead"
