"""Label sets of emotions, and maps from the taxonomies of published corpora to Ekman's six."""

import re
from collections.abc import Mapping, Sequence

EKMAN = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
"""Ekman's six basic emotions (Ekman 1992): the default label set."""

GOEMOTIONS_TO_EKMAN: Mapping[str, str] = {
    own: ekman
    for ekman, group in {
        "anger": "anger annoyance disapproval",
        "disgust": "disgust",
        "fear": "fear nervousness",
        "joy": "joy amusement approval excitement gratitude love optimism relief pride admiration desire caring",
        "sadness": "sadness disappointment embarrassment grief remorse",
        "surprise": "surprise realization confusion curiosity",
        "neutral": "neutral",
    }.items()
    for own in group.split()
}
"""The grouping of GoEmotions' 27 emotions by its authors (Demszky et al. 2020, section 5)."""

EMPATHETIC_TO_EKMAN: Mapping[str, str] = {
    "angry": "anger",
    "annoyed": "anger",
    "furious": "anger",
    "disgusted": "disgust",
    "afraid": "fear",
    "terrified": "fear",
    "anxious": "fear",
    "apprehensive": "fear",
    "joyful": "joy",
    "excited": "joy",
    "content": "joy",
    "grateful": "joy",
    "proud": "joy",
    "sad": "sadness",
    "lonely": "sadness",
    "devastated": "sadness",
    "disappointed": "sadness",
    "surprised": "surprise",
}
"""EmpatheticDialogues' labels that name one of the six or a degree of it.

The other fourteen (jealous, nostalgic, trusting, ...) are mixtures or no basic emotion and are left out.
"""

AIPSY_TO_EKMAN: Mapping[str, str] = {
    "rage": "anger",
    "loathing": "disgust",
    "terror": "fear",
    "ecstasy": "joy",
    "grief": "sadness",
    "amazement": "surprise",
    "neutral": "neutral",
}
"""Plutchik's intense emotions as named in AIPsy-Affect; admiration and vigilance have no place among the six."""

CROWD_ENVENT_NAMES: Mapping[str, str] = {"no-emotion": "neutral"}
"""crowd-enVent's label for events without an emotion, by the name other corpora give it."""

PLUTCHIK = ("anger", "anticipation", "disgust", "fear", "joy", "sadness", "surprise", "trust")
"""Plutchik's eight basic emotions (Plutchik 1980)."""

EMPATHETIC = (
    "afraid",
    "angry",
    "annoyed",
    "anticipating",
    "anxious",
    "apprehensive",
    "ashamed",
    "caring",
    "confident",
    "content",
    "devastated",
    "disappointed",
    "disgusted",
    "embarrassed",
    "excited",
    "faithful",
    "furious",
    "grateful",
    "guilty",
    "hopeful",
    "impressed",
    "jealous",
    "joyful",
    "lonely",
    "nostalgic",
    "prepared",
    "proud",
    "sad",
    "sentimental",
    "surprised",
    "terrified",
    "trusting",
)
"""EmpatheticDialogues' 32 (Rashkin et al. 2019, section 3)."""

NEUTRAL = "neutral"
GOEMOTIONS = tuple(GOEMOTIONS_TO_EKMAN)
"""GoEmotions' 27 and neutral, those of one of Ekman's six together."""

LABEL_SETS: Mapping[str, tuple[str, ...]] = {
    "ekman6": EKMAN,
    "plutchik8": PLUTCHIK,
    "goemotions27": tuple(label for label in GOEMOTIONS if label != NEUTRAL),
    "goemotions28": GOEMOTIONS,
    "empathetic32": EMPATHETIC,
}
"""Published label sets by name; the number is that of the labels."""

TO_EKMAN: Mapping[str, str] = {**EMPATHETIC_TO_EKMAN, **GOEMOTIONS_TO_EKMAN}
"""Which of Ekman's six a fine label is a shade of, where its authors or this toolkit say so."""

TOGETHER = " + "
"""Between the emotions of a text that has several."""


def is_published(labels: Sequence[str]) -> bool:
    """Whether labels are a published set, with or without neutral, or part of Ekman's six: a corpus may lack some."""
    own = {*labels} - {NEUTRAL}
    return own <= {*EKMAN} or any(own == {*known} - {NEUTRAL} for known in LABEL_SETS.values())


EMOTION_WORDS: Mapping[str, frozenset[str]] = {
    emotion: frozenset(forms.split())
    for emotion, forms in {
        "anger": "anger angered angry angrier angrily furious furiously fury rage raging enraged",
        "disgust": "disgust disgusts disgusted disgusting revolting revolted repulsive loathing nauseating",
        "fear": "fear fears feared fearing fearful afraid scared scary frightened frightening terrified terrifying",
        "joy": "joy joys joyful joyfully joyous happy happier happily happiness delight delighted delightful glad",
        "sadness": "sad sadder sadly sadness saddened sorrow sorrows sorrowful grief grieving mourn mourning",
        "surprise": "surprise surprises surprised surprising surprisingly astonished astonishing amazed amazement",
    }.items()
}
"""Words that name an emotion in running text, by which texts without emotion labels can be told apart."""


def named_emotion(text: str, labels: Sequence[str]) -> str:
    """The one of the labels that a text names, by `EMOTION_WORDS` or as it is written; empty for none or several."""
    words = set(re.findall(r"[^\W\d_]+", text.casefold()))
    found = [label for label in labels if words & EMOTION_WORDS.get(label, {label.casefold()})]
    return found[0] if len(found) == 1 else ""
