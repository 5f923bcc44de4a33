"""crowd-enVent: event descriptions by crowd workers (Troiano, Oberländer & Klinger 2023), the generation part.

`crowd-enVent-generation.tsv`; `hidden_emo_text` is the description with its emotion word masked by `...`. 183 of its
6,600 texts hold Windows-1252 control characters (see `interp.texts.mending`).

    text_id<TAB>emotion<TAB>generated_text<TAB>hidden_emo_text
    215<TAB>anger<TAB>I was angry when ...<TAB>I was ... when ...

Licence: for research; see the authors.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import Corpus, Row, released, words
from interp.texts.emotions import CROWD_ENVENT_NAMES
from interp.texts.problems import Problems
from interp.texts.records import read


def read_crowd_envent(path: Path, problems: Problems) -> Iterator[Row]:
    for file in released(path, "generation.tsv"):
        for record in read(file, ("text_id", "emotion", "hidden_emo_text"), problems):
            r, key = record.cells, record.released.get("hidden_emo_text")
            yield Row(r["text_id"], r["hidden_emo_text"], (r["emotion"],), key=key)


CORPUS = Corpus(
    read_crowd_envent,
    "event descriptions by crowd workers, emotion word masked (Troiano et al. 2023)",
    "research",
    mapping=CROWD_ENVENT_NAMES,
    labels=words("anger boredom disgust fear guilt joy no-emotion pride relief sadness shame surprise trust"),
    files="crowd-enVent-generation.tsv",
    rows="6,600",
)
