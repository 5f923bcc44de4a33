"""Types of command-line options, refused by value where they enter."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter, Token
from cyclopts.validators import Number

from interp.errors import UserError
from interp.files.remote import is_url

LARGEST = 2**31 - 1

Seed = Annotated[int, Parameter(validator=Number(gte=0, lte=2**32 - 1))]
Resamples = Annotated[int, Parameter(validator=Number(gte=0, lte=1_000_000))]
"""0: no intervals."""
Drawn = Annotated[int, Parameter(validator=Number(gte=1, lte=1_000_000))]
"""Resamples where there is no result without them."""
Count = Annotated[int, Parameter(validator=Number(gte=1, lte=LARGEST))]
Limit = Annotated[
    int | None,
    Parameter(
        name="--limit",
        validator=Number(gte=1, lte=LARGEST),
        help="At most this many texts, segments or questions: drawn with the seed; of a stream, the first.",
    ),
]


def _finite(type_: Any, value: Any) -> None:
    if value is not None and not math.isfinite(value):
        raise ValueError("Must be a finite number.")


Finite = Annotated[float, Parameter(validator=_finite)]
Positive = Annotated[float, Parameter(validator=(_finite, Number(gte=0)))]


def _run(kind: Any, tokens: Sequence[Token]) -> Path:
    place = tokens[0].value
    if not is_url(place):
        return Path(place)
    from interp.run.places import here

    return here(place)


RunPath = Annotated[Path, Parameter(converter=_run)]
"""A run folder, or the URL of one, of which a working copy is read."""


def page_path(path: Path, name: str = "page.html") -> Path:
    """Where one page is to go, known to be possible before any work.

    Raises:
        UserError: it is a folder.
    """
    if path.is_dir():
        raise UserError(f"{path} is a folder; give --out the name of a page, such as {path / name}.")
    return path


def folder_path(path: Path) -> Path:
    """The same of a folder.

    Raises:
        UserError: there is a file of that name.
    """
    if path.exists() and not path.is_dir():
        raise UserError(f"{path} is a file; give --out a folder.")
    return path
