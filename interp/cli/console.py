"""What every command shares: where it writes, the types of its options, and what stands on its line."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from interp.errors import UserError, nearest, quoted
from interp.reporting import Reporter, reporting
from interp.resources import shipped
from interp.run.config import known_keys
from interp.terminal import Screen
from interp.tracking import TrackerName

screen = Screen()
errors = Screen(stderr=True, soft_wrap=True)

Arguments = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Quiet = Annotated[
    bool, Parameter(name="--quiet", negative=(), help="No progress and no tables, only where the result is.")
]
Json = Annotated[
    bool, Parameter(name="--json", negative=(), help="Print the result as one JSON document, and nothing besides.")
]
Out = Annotated[
    Path | None,
    Parameter(name="--out", help="Where the result goes; without it, where the description of the command says."),
]
Log = Annotated[TrackerName | None, Parameter(help="When done, send numbers, figures and tables to this tracker.")]
RUNS = Path("runs")
"""Where everything goes that belongs to no run folder and was given no place."""


def hushed(quiet: bool) -> AbstractContextManager[None]:
    """Inside, nobody is told of progress; everybody is where it is not quiet."""
    return reporting(Reporter()) if quiet else nullcontext()


def parsed(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """The config file, or the one of the bundled model, and what stands behind it."""
    if not arguments or arguments[0].startswith("--"):
        given = overrides(arguments, "--seed 1", known_keys())
        if (
            "model" in given and "name" not in given
        ):  # another model's run is not to take the place of the bundled one's
            given["name"] = Path(given["model"].rstrip("/\\")).stem or "run"
        return shipped("experiments/tiny.yaml"), given
    return Path(arguments[0]), overrides(arguments[1:], "--seed 1", known_keys())


def overrides(words: Sequence[str], example: str, known: Sequence[str] | None = None) -> dict[str, str]:
    """`--key value` and `--key=value` as pairs.

    Args:
        example: a pair, for who gives none.
        known: the keys there are; None where they are checked later.

    Raises:
        UserError: a word that is no flag, an unknown key, or a flag without a value.
    """
    pairs, rest = dict[str, str](), list(words)
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"Unexpected {quoted(flag)}; after the config come pairs such as {example}.")
        key, given, value = flag[2:].partition("=")
        if known is not None and key.split(".")[0] not in known:
            raise UserError(f"Unknown option --{quoted(key)[1:-1]}{nearest(key, known)}")
        if not given:
            if not rest:
                raise UserError(f"--{quoted(key)[1:-1]} needs a value.")
            value = rest.pop(0)
        pairs[key] = value
    return pairs


def print_fields() -> None:
    """Every field of the configuration, with what it takes, its default and its meaning, for `--help`."""
    from rich.table import Table
    from rich.text import Text

    from interp.run.fields import config_fields

    screen.print("Fields of the configuration (PART: discover, fit, test.0, test.1, ..., anchors.0, ...; N: 0, 1, ...)")
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1))
    table.add_column(ratio=5, overflow="fold")
    table.add_column(ratio=6)
    for field in config_fields():
        default = f" [{field.default}]" if field.default else ""
        table.add_row(Text(f"--{field.key} {field.kind}{default}"), Text(field.means))
    screen.print(table)


def json_text(value: Any) -> str:
    from json import dumps

    from interp.files.jsonable import jsonable

    return dumps(jsonable(value), indent=1, ensure_ascii=False)
