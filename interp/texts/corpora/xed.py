"""XED: lines of film subtitles (Öhman et al. 2020), with one or several of Plutchik's eight emotions.

`en-annotated.tsv` without header, of text and label ids; `neu_en.txt`, the lines without emotion, with the two the
other way round. The projections to other languages (`de-projections.tsv`, `fi-annotated.tsv`, ...) have the first
form. Quotation marks are text. A folder stands for the English files; for another language give its file. Lines with
several labels are left out and counted, unless they are asked for (`several`).

    What happened to you ?<TAB>4, 7
    9<TAB>I fold.

Licence: CC BY 4.0.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.errors import UserError
from interp.texts.corpora.base import Corpus, Row
from interp.texts.emotions import PLUTCHIK
from interp.texts.problems import Problems
from interp.texts.records import read_lines

NAMES = {str(k): name for k, name in enumerate(PLUTCHIK, 1)} | {"9": "neutral"}
ENGLISH = ("en-annotated.tsv", "neu_en.txt")


def read_xed(path: Path, problems: Problems) -> Iterator[Row]:
    found = [path / name for name in ENGLISH if (path / name).is_file()] if path.is_dir() else [path]
    if not found:
        raise UserError(f"{path} holds no {ENGLISH[0]}; give XED's folder, or the file of one language.")
    for file in found:
        for number, line in read_lines(file, problems):
            if not line.strip():
                continue
            before, _, after = line.partition("\t")
            text, labels = (after, before) if before.strip() == "9" else line.rpartition("\t")[::2]
            try:
                own = tuple(NAMES[k.strip()] for k in labels.split(","))
            except KeyError:
                problems.add("is not a text and label ids from 1 to 9, separated by a tab", number)
                continue
            yield Row(f"{file.stem}-{number}", text, tuple(dict.fromkeys(own)))


CORPUS = Corpus(
    read_xed,
    "lines of film subtitles, some with several emotions (Öhman et al. 2020)",
    "CC BY 4.0",
    labels=(*PLUTCHIK, "neutral"),
    files="the folder with en-annotated.tsv and neu_en.txt, or the file of one language",
    rows="17,528 with emotions, 13,655 of them with one",
    single=True,
)
