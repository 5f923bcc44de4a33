"""Does an answer survive the question? Questionnaires and emotion prompts, varied in what should not matter."""

from importlib import import_module
from typing import Any

_WHERE = {
    "EmotionReliability": "emotion_scoring",
    "Reliability": "scoring",
    "Settings": "running",
    "emotions": "running",
    "load_questionnaire": "questionnaires",
    "questions": "running",
    "read_logged": "logged",
    "run": "running",
    "score": "scoring",
    "score_emotions": "emotion_scoring",
}
__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    """Names are loaded when they are asked for (PEP 562): options and scores need no torch."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
