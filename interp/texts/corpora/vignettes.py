"""Short texts written for this project, half of them without any emotion word.

    {"id": "anger-001", "text": "...", "label": "anger", "split": "discover", "keyword_free": true}

Licence: MIT.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import Corpus, Row
from interp.texts.emotions import EKMAN
from interp.texts.problems import Problems
from interp.texts.records import read

COLUMNS = ("id", "text", "label", "split", "keyword_free")


def read_vignettes(path: Path, problems: Problems) -> Iterator[Row]:
    for record in read(path, COLUMNS, problems):
        r = record.cells
        yield Row(r["id"], r["text"], (r["label"],), r["split"], None, r["keyword_free"] == "True")


CORPUS = Corpus(
    read_vignettes,
    "short texts written for this project, half of them without any emotion word",
    "MIT",
    labels=(*EKMAN, "neutral"),
    bundled="vignettes.jsonl",
)
