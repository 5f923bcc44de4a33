"""Does an answer survive the question? Questionnaires and emotion prompts, varied in what should not matter."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from interp.surveys.reliability.emotion_scoring import EmotionReliability, score_emotions
    from interp.surveys.reliability.logged import read_logged
    from interp.surveys.reliability.questionnaires import load_questionnaire
    from interp.surveys.reliability.running import Settings, emotions, questions, run
    from interp.surveys.reliability.scoring import Reliability, score

__all__ = [
    "EmotionReliability",
    "Reliability",
    "Settings",
    "emotions",
    "load_questionnaire",
    "questions",
    "read_logged",
    "run",
    "score",
    "score_emotions",
]
_WHERE = {
    "emotion_scoring": ("EmotionReliability", "score_emotions"),
    "logged": ("read_logged",),
    "questionnaires": ("load_questionnaire",),
    "running": ("Settings", "emotions", "questions", "run"),
    "scoring": ("Reliability", "score"),
}


def __getattr__(name: str) -> Any:
    """Names are loaded when they are asked for (PEP 562): options and scores need no torch."""
    for module, names in _WHERE.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
