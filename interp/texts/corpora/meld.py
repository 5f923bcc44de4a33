"""MELD: utterances of a television series (Poria et al. 2019).

`train_sent_emo.csv`, `dev_sent_emo.csv`, `test_sent_emo.csv`: one utterance a row; utterances of a dialogue form a
group. The released files hold Windows-1252 control characters (see `interp.texts.mending`).

    Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime
    1,"Oh, hello!",Ross,joy,positive,0,0,8,21,"00:16:16,059","00:16:21,731"

Licence: GPL-3.0.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import FROM_VALIDATION, Corpus, Row, official_split, released
from interp.texts.emotions import EKMAN
from interp.texts.problems import Problems
from interp.texts.records import read

COLUMNS = ("Utterance", "Emotion", "Dialogue_ID", "Utterance_ID")


def read_meld(path: Path, problems: Problems) -> Iterator[Row]:
    found = released(path, "_sent_emo.csv")
    for file in found:
        split = official_split(file.stem.split("_")[0])
        # Alone, the training file has no official counterpart: it is cut like a corpus without splits.
        part = split if len(found) > 1 or split != "train" else None
        for record in read(file, COLUMNS, problems):
            r = record.cells
            dialogue = f"{split}-{r['Dialogue_ID']}"
            text = r["Utterance"].replace("’", "'")
            yield Row(f"{dialogue}-{r['Utterance_ID']}", text, (r["Emotion"],), part, dialogue)


CORPUS = Corpus(
    read_meld,
    "utterances of a TV series (Poria et al. 2019)",
    "GPL-3.0",
    shares={"discover": 0.5, "fit": 0.3, "test": 0.2},
    official=FROM_VALIDATION,
    labels=(*EKMAN, "neutral"),
    files="the folder with *_sent_emo.csv, or one of them",
    rows="train 9,989, validation 1,109, test 2,610",
)
