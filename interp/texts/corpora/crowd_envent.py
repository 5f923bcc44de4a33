"""crowd-enVent: event descriptions by crowd workers (Troiano, Oberländer & Klinger 2023), the generation part.

`crowd-enVent-generation.tsv`; `hidden_emo_text` is the description with its emotion word masked by `...`. 183 of its
6,600 texts hold Windows-1252 control characters (see `interp.texts.mending`). Who describes an event also rates it on
21 scales of appraisal, from 1 to 5, of which two are shown.

    text_id<TAB>emotion<TAB>generated_text<TAB>hidden_emo_text<TAB>suddenness<TAB>predict_event
    215<TAB>anger<TAB>I was angry when ...<TAB>I was ... when ...<TAB>4<TAB>2

Licence: for research; see the authors.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import Corpus, RatingScale, Row, ratings_of, released, words
from interp.texts.emotions import CROWD_ENVENT_NAMES
from interp.texts.problems import Problems
from interp.texts.records import read

APPRAISALS = {
    "suddenness": "suddenness",
    "familiarity": "familiarity",
    "predictability": "predict_event",
    "pleasantness": "pleasantness",
    "unpleasantness": "unpleasantness",
    "goal_relevance": "goal_relevance",
    "chance_responsibility": "chance_responsblt",
    "own_responsibility": "self_responsblt",
    "others_responsibility": "other_responsblt",
    "foreseen_consequences": "predict_conseq",
    "goal_support": "goal_support",
    "urgency": "urgency",
    "own_control": "self_control",
    "others_control": "other_control",
    "chance_control": "chance_control",
    "accepted_consequences": "accept_conseq",
    "own_standards": "standards",
    "social_norms": "social_norms",
    "attention": "attention",
    "not_considered": "not_consider",
    "effort": "effort",
}
"""Names of the appraisals, and the columns that hold them."""
SCALES = tuple(RatingScale(name, column, 1, 5) for name, column in APPRAISALS.items())


def read_crowd_envent(path: Path, problems: Problems) -> Iterator[Row]:
    for file in released(path, "generation.tsv"):
        for record in read(file, ("text_id", "emotion", "hidden_emo_text"), problems):
            r, key = record.cells, record.released.get("hidden_emo_text")
            yield Row(r["text_id"], r["hidden_emo_text"], (r["emotion"],), key=key, ratings=ratings_of(r, SCALES))


CORPUS = Corpus(
    read_crowd_envent,
    "event descriptions by crowd workers, emotion word masked (Troiano et al. 2023)",
    "research",
    mapping=CROWD_ENVENT_NAMES,
    labels=words("anger boredom disgust fear guilt joy no-emotion pride relief sadness shame surprise trust"),
    files="crowd-enVent-generation.tsv",
    rows="6,600",
    scales=SCALES,
)
