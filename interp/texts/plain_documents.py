"""Plain text cut into documents: at `<|endoftext|>`, at the titles of WikiText's articles, or at blank lines."""

import re
from itertools import pairwise
from pathlib import Path

from interp.errors import UserError
from interp.resources import data_file

END = "<|endoftext|>"
HELD_BACK = 5
"""Last documents of the bundled text: gates are fitted on them, so no price in language is measured there."""
TITLE = re.compile(r"(?:\A|(?<=\n)) = (?!= )[^\n]*[^\n=] = *\n *\n")
"""A line ` = Title = ` before a blank one, as WikiText (Merity et al. 2017) writes it; sections have more signs."""


def documents(text: str) -> list[str]:
    """The documents of a text, stripped, in order, without empty ones.

    A text without `<|endoftext|>` is cut before each title of an article if it has any, else into paragraphs.
    """
    if END in text:
        parts = text.split(END)
    elif starts := [match.start() for match in TITLE.finditer(text)]:
        parts = [text[a:b] for a, b in pairwise([0, *starts, len(text)])]
    else:
        parts = re.split(r"\n[ \t\r]*\n", text)
    return [part.strip() for part in parts if part.strip()]


def running_text() -> list[str]:
    """The documents of the bundled text that are held back from measuring, the last one first."""
    return load_plain_text(None)[: -HELD_BACK - 1 : -1]


def load_plain_text(path: str | None) -> list[str]:
    """Documents of a plain-text file; None: the bundled one.

    Raises:
        UserError: no such file, or no text in it.
    """
    file = Path(path) if path is not None else data_file("plain_text.txt")
    if not file.is_file():
        raise UserError(f"No plain-text file {str(file)!r} (fluency.path); leave it out for the bundled one.")
    try:
        found = documents(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text; convert it first.") from None
    if not found:
        raise UserError(f"{file} holds no text.")
    return found
