"""Does an answer survive the question? Questionnaires and emotion prompts, varied in what should not matter."""

from interp.surveys.reliability.emotion_scoring import EmotionReliability, score_emotions
from interp.surveys.reliability.logged import read_logged
from interp.surveys.reliability.questionnaires import load_questionnaire
from interp.surveys.reliability.running import Settings, emotions, questions, run
from interp.surveys.reliability.scoring import Reliability, gains, score

__all__ = [
    "EmotionReliability",
    "Reliability",
    "Settings",
    "emotions",
    "gains",
    "load_questionnaire",
    "questions",
    "read_logged",
    "run",
    "score",
    "score_emotions",
]
