"""The one exception for mistakes a user can mend, and the wording helpers behind its messages."""

from collections.abc import Iterable
from difflib import get_close_matches

MOST_KNOWN = 30
"""Known words that a message lists."""


class UserError(Exception):
    """Wrong input: one line saying what was wrong, what was expected and what to do. Exit code 2."""


class InterpWarning(UserWarning):
    """Something about the input that a user should know; the work goes on."""


def nearest(word: str, known: Iterable[object], *, n: int = 1) -> str:
    """`; did you mean 'x'?` for the known words closest to `word`, else the list of known words."""
    words = [str(k) for k in known]
    close = get_close_matches(word, words, n=n, cutoff=0.5)
    if close:
        return "; did you mean " + " or ".join(repr(c) for c in close) + "?"
    more = f", and {len(words) - MOST_KNOWN} more" if len(words) > MOST_KNOWN else ""
    return "; known: " + ", ".join(words[:MOST_KNOWN]) + more + "." if words else "."
