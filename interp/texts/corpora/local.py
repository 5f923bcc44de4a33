"""A table of one's own: any text column and label column (see `interp.texts.records` for the kinds of files).

    id,text,label,split
    a1,"I won, at last.",joy,train

A label cell may hold a list with one label. The columns `id` and `split` are used where they are there, and `group`
where the table is read for its ratings.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from interp.texts.corpora.base import Corpus, RatingScale, Row, ratings_of
from interp.texts.problems import Problems
from interp.texts.records import listed, read


def read_local(path: Path, problems: Problems, text_column: str = "text", label_column: str = "label") -> Iterator[Row]:
    for record in read(path, (text_column, label_column), problems):
        r = record.cells
        id_, split = r.get("id", str(record.number - 1)).strip(), r.get("split", "").strip() or None
        labels = tuple(label for label in listed(r[label_column]) if label.strip())
        yield Row(id_, r[text_column], labels, split, key=record.released.get(text_column))


def read_rated(
    path: Path, problems: Problems, text_column: str, label_column: str | None, scales: Sequence[RatingScale]
) -> Iterator[Row]:
    needs = (text_column, *([] if label_column is None else [label_column]), *(scale.column for scale in scales))
    for record in read(path, needs, problems):
        r = record.cells
        id_, split, group = r.get("id", str(record.number - 1)).strip(), r.get("split", "").strip(), r.get("group", "")
        labels = () if label_column is None else tuple(label for label in listed(r[label_column]) if label.strip())
        key = record.released.get(text_column)
        ratings = ratings_of(r, scales)
        yield Row(id_, r[text_column], labels, split or None, group.strip() or None, key=key, ratings=ratings)


def local_ratings(text_column: str, label_column: str | None, columns: Sequence[str]) -> Corpus:
    """The corpus `local`, read for the numbers in some of its columns."""
    scales = tuple(RatingScale(column, column) for column in columns)
    reader = partial(read_rated, text_column=text_column, label_column=label_column, scales=scales)
    return Corpus(reader, "a table of your own", "yours", scales=scales)


def local_corpus(text_column: str, label_column: str) -> Corpus:
    """The corpus `local`."""
    reader = partial(read_local, text_column=text_column, label_column=label_column)
    return Corpus(reader, "a table of your own", "yours")
