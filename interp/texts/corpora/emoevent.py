"""EmoEvent: English and Spanish tweets on events of April 2019 (Plaza-del-Arco et al. 2020).

`splits/en/train.tsv`, `dev.tsv`, `test.tsv`, and the same under `splits/es`: one tweet a row, one of Ekman's six
emotions or `others`. Give the folder of one language.

    id<TAB>event<TAB>tweet<TAB>offensive<TAB>emotion
    7f3a<TAB>WorldBookDay<TAB>So many good books! #WorldBookDay<TAB>NO<TAB>joy

Licence: CC BY-NC-SA 4.0.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.errors import UserError
from interp.texts.corpora.base import FROM_VALIDATION, Corpus, Row, official_split, released
from interp.texts.emotions import EKMAN
from interp.texts.problems import Problems
from interp.texts.records import read


def read_emoevent(path: Path, problems: Problems) -> Iterator[Row]:
    languages = [place for place in ("en", "es", "splits/en", "splits/es") if (path / place).is_dir()]
    if languages:
        given = " or ".join(str(path / place) for place in languages)
        raise UserError(f"{path} holds more than one language; give the folder of one: {given}.")
    for file in released(path, ".tsv"):
        split = official_split(file.stem)
        for record in read(file, ("tweet", "emotion"), problems):
            r = record.cells
            yield Row(f"{split}-{r.get('id') or record.number}", r["tweet"], (r["emotion"],), split)


CORPUS = Corpus(
    read_emoevent,
    "English or Spanish tweets on events (Plaza-del-Arco et al. 2020)",
    "CC BY-NC-SA 4.0",
    mapping={"others": "neutral", "other": "neutral"},
    official=FROM_VALIDATION,
    labels=(*EKMAN, "others"),
    files="the folder of one language (splits/en or splits/es)",
    rows="7,303 English, 8,409 Spanish",
)
