"""A table of one's own: any text column and label column (see `interp.texts.records` for the kinds of files).

    id,text,label,split
    a1,"I won, at last.",joy,train

A label cell may hold a list with one label. The columns `id` and `split` are used where they are there.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from interp.texts.corpora.base import Corpus, Row
from interp.texts.problems import Problems
from interp.texts.records import listed, read


def read_local(path: Path, problems: Problems, text_column: str = "text", label_column: str = "label") -> Iterator[Row]:
    for record in read(path, (text_column, label_column), problems):
        r = record.cells
        id_, split = r.get("id", str(record.number - 1)).strip(), r.get("split", "").strip() or None
        labels = tuple(label for label in listed(r[label_column]) if label.strip())
        yield Row(id_, r[text_column], labels, split, key=record.released.get(text_column))


def local_corpus(text_column: str, label_column: str) -> Corpus:
    """The corpus `local`."""
    reader = partial(read_local, text_column=text_column, label_column=label_column)
    return Corpus(reader, "a table of your own", "yours")
