"""Causal tracing: exact ablation of features, and the attribution that proposes which."""

from interp.engine.ablation import FeatureEdits, ablate, ablate_jointly, edited_logits, patch, removal
from interp.engine.attribution import answer_gradients, attribute
from interp.engine.everywhere import ablate_everywhere
from interp.engine.suffix import EngineError, Suffix, answer_scores
from interp.engine.variants import answers_given, answers_under, answers_under_each

__all__ = [
    "EngineError",
    "FeatureEdits",
    "Suffix",
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
