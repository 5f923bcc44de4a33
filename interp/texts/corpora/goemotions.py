"""GoEmotions: Reddit comments (Demszky et al. 2020).

`train.tsv`, `dev.tsv` and `test.tsv` without header, of text, comma-separated label ids and comment id, beside
`labels.txt` (or `emotions.txt`), a label name a line. Quotation marks are text.

    That was kind of you.<TAB>0,15<TAB>eebbqej

Licence: Apache-2.0.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.errors import UserError
from interp.texts.corpora.base import FROM_VALIDATION, Corpus, HubSource, Row, official_split, released
from interp.texts.emotions import GOEMOTIONS
from interp.texts.problems import Problems
from interp.texts.records import read_lines


def read_goemotions(path: Path, problems: Problems) -> Iterator[Row]:
    folder = path if path.is_dir() else path.parent
    label_file = next((folder / n for n in ("labels.txt", "emotions.txt") if (folder / n).exists()), None)
    if label_file is None:
        raise UserError(f"{folder} lacks labels.txt, GoEmotions' list of label names (one per line).")
    listed = (line.strip() for _, line in read_lines(label_file, problems) if line.strip())
    names = {str(k): name for k, name in enumerate(listed)}
    for file in released(path, ".tsv"):
        split = official_split(file.stem)
        for number, line in read_lines(file, problems):
            cells = line.split("\t")
            try:
                labels = tuple(names[k.strip()] for k in cells[1].split(","))
            except (IndexError, KeyError):
                raise UserError(
                    f"{file}, line {number}: expected text, label ids below {len(names)} and an id,"
                    " separated by tabs, as GoEmotions was released."
                ) from None
            yield Row(cells[2] if len(cells) > 2 else f"{split}-{number}", cells[0], labels, split)


CORPUS = Corpus(
    read_goemotions,
    "Reddit comments (Demszky et al. 2020), some with several emotions",
    "Apache-2.0",
    HubSource(
        "google-research-datasets/go_emotions",
        "simplified",
        lambda r, names: Row(r["id"], r["text"], tuple(names["labels"][k] for k in r["labels"])),
    ),
    official=FROM_VALIDATION,
    labels=GOEMOTIONS,
    files="the folder with train.tsv, dev.tsv, test.tsv and labels.txt",
    rows="train 43,410, validation 5,426, test 5,427",
)
