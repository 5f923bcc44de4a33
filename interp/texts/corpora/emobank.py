"""EmoBank: sentences of many genres, rated for valence, arousal and dominance (Buechel & Hahn 2017). No emotion labels.

`emobank.csv`; V, A and D are means of several readers, from 1 to 5. Sentences of one document share the beginning of
their id, before the two places in it; a headline is a document of its own.

    id,split,V,A,D,text
    my-diary_10_33,train,3.4,2.8,3.0,"The bread came out well."

Licence: CC-BY-SA 4.0.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import Corpus, RatingScale, Row, official_split, ratings_of, released
from interp.texts.problems import Problems
from interp.texts.records import read

SCALES = (RatingScale("valence", "V", 1, 5), RatingScale("arousal", "A", 1, 5), RatingScale("dominance", "D", 1, 5))
PLACES = re.compile(r"_\d+_\d+$")


def read_emobank(path: Path, problems: Problems) -> Iterator[Row]:
    for file in released(path, "emobank.csv"):
        for record in read(file, ("id", "split", "V", "A", "D", "text"), problems):
            r = record.cells
            document = PLACES.sub("", r["id"])
            yield Row(r["id"], r["text"], (), official_split(r["split"]), document, ratings=ratings_of(r, SCALES))


CORPUS = Corpus(
    read_emobank,
    "sentences rated for valence, arousal and dominance (Buechel & Hahn 2017)",
    "CC-BY-SA 4.0",
    official={"discover": "train", "fit": "train"},
    files="emobank.csv",
    rows="train 8,062, validation 1,000, test 1,000",
    scales=SCALES,
)
