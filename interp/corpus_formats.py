"""The known corpora, by the name this module has had since the first version; they live in `interp.texts.corpora`."""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora import BUNDLED_TEXTS, CORPORA
from interp.texts.corpora.base import SPLIT_ALIASES, Corpus, HubSource, Row
from interp.texts.corpora.express import MASK as EXPRESS_MASK
from interp.texts.corpora.local import read_local
from interp.texts.records import Problems

__all__ = ["BUNDLED_TEXTS", "CORPORA", "EXPRESS_MASK", "SPLIT_ALIASES", "Corpus", "HubSource", "Row", "read_table"]


def read_table(path: Path, text_column: str, label_column: str) -> Iterator[Row]:
    """Rows of any table with a text and a label column."""
    yield from read_local(path, Problems(), text_column, label_column)
