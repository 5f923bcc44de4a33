"""What the corpora of a run are called in its tables: by name alone while that tells them apart."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import UserError
from interp.texts.corpora.base import official_split

SOURCE = ("path", "text_column", "label_column")
"""Fields by which two entries of one name are different corpora."""


class CorpusNames(NamedTuple):
    """Names of a configuration's corpora, in its order.

    Attributes:
        discover, fit, anchors: the corpus each entry is read from: `goemotions`, or `local (a.csv)` beside another.
        test, ratings: the same, and the split where several of one corpus are named: `goemotions: validation`.
        tested: for every name in `test`, the corpus it is read from.
    """

    discover: str
    fit: str
    test: list[str]
    anchors: list[str]
    tested: dict[str, str]
    ratings: list[str]


def corpus_names(corpora: Mapping[str, Any]) -> CorpusNames:
    """Names for the corpora of a configuration (as in run.json), different wherever the corpora are.

    Raises:
        UserError: the same split of the same corpus twice under `test`, `anchors` or `ratings`.
    """
    tests, anchors, rated = (
        list(corpora["test"]),
        list(corpora.get("anchors") or []),
        list(corpora.get("ratings") or []),
    )
    entries = [corpora["discover"], corpora["fit"], *tests, *anchors]
    names = dict(zip(map(_source, entries), _named(entries), strict=True))
    bases = [names[_source(entry)] for entry in tests]
    _refuse_twins("test", tests, bases)
    kept = [names[_source(entry)] for entry in anchors]
    _refuse_twins("anchors", anchors, kept)
    rating = _named(rated)  # among themselves: that a run gains ratings renames none of its corpora
    _refuse_twins("ratings", rated, rating)
    shown = _with_split(bases, tests)
    tested = dict(zip(shown, bases, strict=True))
    first, second = names[_source(entries[0])], names[_source(entries[1])]
    return CorpusNames(first, second, shown, kept, tested, _with_split(rating, rated))


def _with_split(bases: Sequence[str], entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """The name of each entry's corpus, and its split where several entries are of that corpus."""
    return [
        base if bases.count(base) == 1 else f"{base}: {entry['split']}"
        for base, entry in zip(bases, entries, strict=True)
    ]


def _source(entry: Mapping[str, Any]) -> tuple[str, ...]:
    path = entry.get("path")  # as written, not resolved: nothing is looked up to name a corpus
    where = os.path.abspath(os.path.expanduser(path)) if path else ""  # noqa: PTH100, PTH111
    columns = [str(entry.get(column, "")) for column in SOURCE[1:]] if entry["name"] == "local" else ["", ""]
    return (entry["name"], where, *columns)


def _named(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """One name per entry: the corpus' own, with as much of where it comes from as tells it from its namesakes."""
    sources = dict.fromkeys(map(_source, entries))
    found: dict[tuple[str, ...], str] = {}
    for source in sources:
        namesakes = [other for other in sources if other[0] == source[0]]
        if len(namesakes) == 1:
            found[source] = source[0]
            continue
        files = [Path(other[1]).name for other in namesakes]
        mine = Path(source[1]).name
        same_file = [other for other in namesakes if other[1] == source[1]]
        parts = [mine if files.count(mine) == len(same_file) else source[1]] if source[1] else ["hub"]
        if len(same_file) > 1:
            parts += source[2:]
        found[source] = f"{source[0]} ({', '.join(parts)})"
    return [found[_source(entry)] for entry in entries]


def _refuse_twins(role: str, entries: Sequence[Mapping[str, Any]], bases: Sequence[str]) -> None:
    seen = set()
    for entry, base in zip(entries, bases, strict=True):
        key = (base, official_split(entry["split"]))
        if key in seen:
            raise UserError(
                f"corpora.{role}: {base}, split {entry['split']!r}, is named twice; name it once, or give another split"
                " or path."
            )
        seen.add(key)
