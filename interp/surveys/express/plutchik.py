"""Plutchik's wheel of emotions (Plutchik 1980, 2001): intensities, dyads, distances; a second theory to score by."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from interp.files.folder import fingerprint
from interp.surveys.express.lexicon import BASIC, DIMENSIONS, Lexicon

WHEEL = ("joy", "trust", "fear", "surprise", "sadness", "disgust", "anger", "anticipation")
"""The basic emotions in their order round the wheel; opposites stand four apart."""

INTENSITIES: Mapping[str, tuple[str, str, str]] = {
    "joy": ("serenity", "joy", "ecstasy"),
    "trust": ("acceptance", "trust", "admiration"),
    "fear": ("apprehension", "fear", "terror"),
    "surprise": ("distraction", "surprise", "amazement"),
    "sadness": ("pensiveness", "sadness", "grief"),
    "disgust": ("boredom", "disgust", "loathing"),
    "anger": ("annoyance", "anger", "rage"),
    "anticipation": ("interest", "anticipation", "vigilance"),
}
"""Mild, plain and intense form of every basic emotion."""

PRIMARY, SECONDARY, TERTIARY = 1, 2, 3
DYADS: Mapping[str, tuple[str, str]] = {
    "love": ("joy", "trust"),
    "submission": ("trust", "fear"),
    "awe": ("fear", "surprise"),
    "disapproval": ("surprise", "sadness"),
    "remorse": ("sadness", "disgust"),
    "contempt": ("disgust", "anger"),
    "aggressiveness": ("anger", "anticipation"),
    "optimism": ("anticipation", "joy"),
    "guilt": ("joy", "fear"),
    "curiosity": ("trust", "surprise"),
    "despair": ("fear", "sadness"),
    "unbelief": ("surprise", "disgust"),
    "envy": ("sadness", "anger"),
    "cynicism": ("disgust", "anticipation"),
    "pride": ("anger", "joy"),
    "hope": ("anticipation", "trust"),
    "delight": ("joy", "surprise"),
    "sentimentality": ("trust", "sadness"),
    "shame": ("fear", "disgust"),
    "outrage": ("surprise", "anger"),
    "pessimism": ("sadness", "anticipation"),
    "morbidness": ("disgust", "joy"),
    "dominance": ("anger", "trust"),
    "anxiety": ("anticipation", "fear"),
}
"""Mixtures of two basic emotions one (primary), two (secondary) or three (tertiary) steps apart on the wheel."""

VALENCE: Mapping[str, str] = {
    "joy": "positive",
    "trust": "positive",
    "fear": "negative",
    "sadness": "negative",
    "disgust": "negative",
    "anger": "negative",
}
"""The sentiment of a basic emotion in this table; surprise and anticipation can be either and have none."""


def degree(dyad: str) -> int:
    """Steps between the two parts of a dyad: 1 primary, 2 secondary, 3 tertiary."""
    first, second = DYADS[dyad]
    return int(wheel_distance(np.array(BASIC.index(first)), np.array(BASIC.index(second))))


def opposite(emotion: str) -> str:
    """The emotion across the wheel."""
    return WHEEL[(WHEEL.index(emotion) + 4) % 8]


def wheel_distance(a: Int[np.ndarray, "*pair"], b: Int[np.ndarray, "*pair"]) -> Int[np.ndarray, "*pair"]:
    """Steps round the wheel between basic emotions given by their index in `BASIC`: 0 the same, 4 opposites."""
    place = np.array([WHEEL.index(name) for name in BASIC])
    apart = np.abs(place[a] - place[b])
    return np.minimum(apart, len(WHEEL) - apart)


def name_blend(basic: Float[np.ndarray, " emotion"]) -> str | None:
    """The dyad of the two strongest basic emotions of a vector; the emotion where there is one; None where unclear.

    Args:
        basic: values in the order of `BASIC`.
    """
    order = np.argsort(-basic, kind="stable")
    present = [BASIC[i] for i in order if basic[i] > 0]
    if len(present) <= 1:
        return present[0] if present else None
    if len(present) > 2 and basic[order[1]] == basic[order[2]]:
        return None
    pair = set(present[:2])
    return next((name for name, parts in DYADS.items() if set(parts) == pair), None)


def wheel_lexicon() -> Lexicon:
    """The wheel's 48 words as a decomposition: mild 1/3, plain 2/3, intense 1; a dyad has its two parts at 2/3."""
    parts: dict[str, dict[str, float]] = {}
    for emotion, levels in INTENSITIES.items():
        for level, word in enumerate(levels, 1):
            parts[word] = {emotion: level / 3}
    parts |= {dyad: dict.fromkeys(pair, 2 / 3) for dyad, pair in DYADS.items()}
    vectors = np.zeros((len(parts), len(DIMENSIONS)))
    for row, mixture in zip(vectors, parts.values(), strict=True):
        for emotion, value in mixture.items():
            row[DIMENSIONS.index(emotion)] = value
            if emotion in VALENCE:
                sentiment = DIMENSIONS.index(VALENCE[emotion])
                row[sentiment] = max(row[sentiment], value)
    return Lexicon(tuple(parts), vectors, "plutchik", fingerprint(parts))
