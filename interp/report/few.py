"""A warning where numbers stand on too few texts to be compared."""

from collections.abc import Mapping

from interp.report.words import listed

LEAST = 50
"""Below this, one text more or less moves a share by more than two points."""


def few(counts: Mapping[str, int], what: str) -> list[str]:
    """A sentence for those with few; none where all have enough.

    Args:
        counts: by whom or by what they are of.
        what: the things that are few, such as `test texts`.
    """
    small = {name: n for name, n in counts.items() if 0 < n < LEAST}
    if not small:
        return []
    named = listed([f"{name} n = {n}" for name, n in small.items()])
    points = 100 / min(small.values())
    return [
        f"Few {what} ({named}): a single one moves a share by {'up to ' if len(small) > 1 else ''}{points:.0f} points."
        " Read the intervals, not the order."
    ]
