"""The known corpora, by the name this module has had since the first version; they live in `interp.corpus_readers`."""

from collections.abc import Iterator
from pathlib import Path

from interp.corpus_readers import BUNDLED_TEXTS, CORPORA
from interp.corpus_readers.base import SPLIT_ALIASES, Corpus, HubSource, Row
from interp.corpus_readers.express import MASK as EXPRESS_MASK
from interp.corpus_readers.local import read_local
from interp.records import Problems

__all__ = ["BUNDLED_TEXTS", "CORPORA", "EXPRESS_MASK", "SPLIT_ALIASES", "Corpus", "HubSource", "Row", "read_table"]


def read_table(path: Path, text_column: str, label_column: str) -> Iterator[Row]:
    """Rows of any table with a text and a label column."""
    yield from read_local(path, Problems(), text_column, label_column)
