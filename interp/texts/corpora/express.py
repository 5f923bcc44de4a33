"""EXPRESS: self-disclosed experiences, the emotion words masked (Shu et al. 2025), as a corpus of basic emotions.

Segments with a single mask whose word is made of one of Plutchik's eight emotions most; that emotion is the label.

    index,original_index,segment,number_of_labels,labels
    1,7,I felt so <mask> today.,1,['happy']

Licence: see the authors; `express-small`, 88 segments in its format written for this project: MIT.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from interp.resources import data_file
from interp.texts.corpora.base import Corpus, HubSource, Row, released
from interp.texts.emotions import PLUTCHIK
from interp.texts.problems import Problems
from interp.texts.records import cells_of, read

MASK = "<mask>"


def read_express(path: Path, problems: Problems) -> Iterator[Row]:
    for file in released(path, ".csv"):
        for record in read(file, ("segment", "labels"), problems):
            yield _row(record.cells, f"row{record.row}")


def _row(record: Mapping[str, Any], number: str = "") -> Row:
    """Without a label where there are several masks, or a word that is made of several emotions alike or of none."""
    r = cells_of(record)
    found = re.findall(r"[^\W\d_]+(?:[-' ][^\W\d_]+)*", r["labels"])
    emotion = _dominant().get(found[0].lower()) if len(found) == 1 else None
    labels = (emotion,) if emotion is not None and r["segment"].count(MASK) == 1 else ()
    own = r.get("index") or number
    return Row(own, r["segment"].replace(MASK, "____"), labels, None, r.get("original_index") or own, True)


@cache
def _dominant() -> dict[str, str]:
    """Emotion words that ship, with the one basic emotion that is strongest in each; ties are left out."""
    strongest = {}
    table = data_file("emotion_words.csv")
    for record in read(table, ("word", *PLUTCHIK)):
        r = record.cells
        values = {emotion: float(r[emotion]) for emotion in PLUTCHIK}
        top = [emotion for emotion, value in values.items() if value == max(values.values()) > 0]
        if len(top) == 1:
            strongest[r["word"].lower()] = top[0]
    return strongest


CORPUS = Corpus(
    read_express,
    "self-disclosed experiences, the emotion word masked; by what the word is made of (Shu et al. 2025)",
    "see authors",
    HubSource("bangzhao/express-emotion-recognition", None, lambda r, names: _row(r)),
    labels=PLUTCHIK,
    files="a CSV in the corpus' format",
    rows="33,679",
)
SMALL = Corpus(
    read_express,
    "88 segments in EXPRESS' format, written for this project",
    "MIT",
    labels=PLUTCHIK,
    rows="88",
    bundled="express_segments.csv",
)
