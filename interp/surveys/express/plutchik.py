"""Plutchik's wheel of emotions (Plutchik 1980, 2001): intensities, dyads, distances; a second theory to score by."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float, Int

from interp.texts.emotions import PLUTCHIK

BASIC = PLUTCHIK
SENTIMENTS = ("positive", "negative")
DIMENSIONS = (*BASIC, *SENTIMENTS)
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


def wheel_distance(a: Int[np.ndarray, "*pair"], b: Int[np.ndarray, "*pair"]) -> Int[np.ndarray, "*pair"]:
    """Steps round the wheel between basic emotions given by their index in `BASIC`: 0 the same, 4 opposites."""
    place = np.array([WHEEL.index(name) for name in BASIC])
    apart = np.abs(place[a] - place[b])
    return np.asarray(np.minimum(apart, len(WHEEL) - apart))


def wheel_words() -> dict[str, dict[str, float]]:
    """What the wheel's 48 words are made of: mild 1/3, plain 2/3, intense 1; a dyad has its two parts at 2/3."""
    parts: dict[str, dict[str, float]] = {}
    for emotion, levels in INTENSITIES.items():
        for level, word in enumerate(levels, 1):
            parts[word] = {emotion: level / 3}
    return parts | {dyad: dict.fromkeys(pair, 2 / 3) for dyad, pair in DYADS.items()}


def vector(mixture: Mapping[str, float]) -> Float[np.ndarray, " dimension"]:
    """A mixture of basic emotions in the order of `DIMENSIONS`, with the sentiments that they bring."""
    values = np.zeros(len(DIMENSIONS))
    for emotion, value in mixture.items():
        values[DIMENSIONS.index(emotion)] = value
        if emotion in VALENCE:
            sentiment = DIMENSIONS.index(VALENCE[emotion])
            values[sentiment] = max(values[sentiment], value)
    return values
