"""ISEAR: first-person emotional situations (Scherer & Wallbott 1994).

`|`-separated: Field1 = emotion, SIT = situation. Quotation marks are text, `á` stands for a line break, and rows
without an answer say "[ No response.]": they are left out.

    Field1|SIT|
    joy|When my friend came á home.|

Licence: for research; see the authors.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import Corpus, Row, released, words
from interp.texts.problems import Problems
from interp.texts.records import read


def read_isear(path: Path, problems: Problems) -> Iterator[Row]:
    for file in released(path, ".csv"):
        for record in read(file, ("Field1", "SIT"), problems, marks=False, delimiters="|"):
            r = record.cells
            text = " ".join(r["SIT"].replace("á", " ").split())
            if "no response" in text.lower():
                problems.add("says 'no response'", record.row)
            else:
                yield Row(str(record.number - 1), text, (r["Field1"],))


CORPUS = Corpus(
    read_isear,
    "first-person emotional situations (Scherer & Wallbott 1994)",
    "research",
    shares={"discover": 0.5, "fit": 0.3, "test": 0.2},
    labels=words("anger disgust fear guilt joy sadness shame"),
    files="isear.csv",
    rows="7,666",
)
