"""Label sets of emotions, and maps from the taxonomies of published corpora to Ekman's six."""

from collections.abc import Mapping

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
