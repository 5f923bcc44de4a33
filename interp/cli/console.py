"""What every command shares: where it writes, the types of its options, and what stands on its line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from interp.errors import UserError, nearest, quoted
from interp.resources import shipped
from interp.run.config import known_keys
from interp.terminal import Screen

screen = Screen()
errors = Screen(stderr=True, soft_wrap=True)

Arguments = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Quiet = Annotated[bool, Parameter(negative=(), help="No progress, only the path of the report.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]


def parsed(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """The config file, if any, and `--key value` / `--key=value` pairs."""
    path: Path | None = None
    if not arguments or arguments[0].startswith("--"):
        path = shipped("experiments/tiny.yaml")
        rest = list(arguments)
    else:
        path, rest = Path(arguments[0]), list(arguments[1:])
    overrides = {}
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"Unexpected {quoted(flag)}; after the config come pairs such as --seed 1.")
        key, given, value = flag[2:].partition("=")
        head = key.split(".")[0]
        if head not in known_keys():
            raise UserError(f"Unknown option --{quoted(key)[1:-1]}{nearest(key, known_keys())}")
        if not given:
            if not rest:
                raise UserError(f"--{quoted(key)[1:-1]} needs a value.")
            value = rest.pop(0)
        overrides[key] = value
    return path, overrides


def json_text(value: Any) -> str:
    from json import dumps

    from interp.files.jsonable import jsonable

    return dumps(jsonable(value), indent=1, ensure_ascii=False)
