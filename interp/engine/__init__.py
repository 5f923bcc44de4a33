"""Causal tracing: exact ablation of features, and the attribution that proposes which."""

from interp.engine.ablation import (
    EngineError,
    FeatureEdits,
    ablate,
    ablate_jointly,
    answers_given,
    answers_under,
    answers_under_each,
    edited_logits,
    patch,
    removal,
)
from interp.engine.attribution import answer_gradients, attribute
from interp.engine.everywhere import ablate_everywhere
from interp.engine.suffix import answer_scores

__all__ = [
    "EngineError",
    "FeatureEdits",
    "ablate",
    "ablate_everywhere",
    "ablate_jointly",
    "answer_gradients",
    "answer_scores",
    "answers_given",
    "answers_under",
    "answers_under_each",
    "attribute",
    "edited_logits",
    "patch",
    "removal",
]
