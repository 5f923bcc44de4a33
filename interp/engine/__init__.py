"""Causal tracing: exact ablation of features, and the attribution that proposes which."""

from interp.engine.ablation import FeatureEdits, ablate, ablate_jointly, edited_logits, insertion, patch, removal
from interp.engine.attribution import answer_gradients, attribute, mean_attribution
from interp.engine.everywhere import ablate_everywhere
from interp.engine.one_by_one import OneByOne, TracedFeatures, ablate_one_by_one
from interp.engine.suffix import EngineError, Suffix
from interp.engine.variants import answers_given, answers_under, answers_under_each

__all__ = [
    "EngineError",
    "FeatureEdits",
    "OneByOne",
    "Suffix",
    "TracedFeatures",
    "ablate",
    "ablate_everywhere",
    "ablate_jointly",
    "ablate_one_by_one",
    "answer_gradients",
    "answers_given",
    "answers_under",
    "answers_under_each",
    "attribute",
    "edited_logits",
    "insertion",
    "mean_attribution",
    "patch",
    "removal",
]
