"""Causal tracing: exact ablation of features, heads, neurons and edges, and the attribution that proposes which."""

from interp.engine.ablation import FeatureEdits, ablate, ablate_jointly, edited_logits, insertion, patch, removal
from interp.engine.attribution import answer_gradients, attribute, mean_attribution
from interp.engine.components import Component, answers_with, component_values
from interp.engine.contributions import Nodes, Reference, nodes_of, reference_of
from interp.engine.everywhere import ablate_everywhere
from interp.engine.graphs import graph_answers, kept_edges
from interp.engine.moved import moved, without_words, without_words_in
from interp.engine.one_by_one import OneByOne, TracedFeatures, ablate_one_by_one
from interp.engine.patching import Patch, patched_answers, prompt_ends
from interp.engine.paths import CutEdges, cut_edges, edge_attribution
from interp.engine.suffix import EngineError, Suffix
from interp.engine.variants import answers_given, answers_under, answers_under_each

__all__ = [
    "Component",
    "CutEdges",
    "EngineError",
    "FeatureEdits",
    "Nodes",
    "OneByOne",
    "Patch",
    "Reference",
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
    "answers_with",
    "attribute",
    "component_values",
    "cut_edges",
    "edge_attribution",
    "edited_logits",
    "graph_answers",
    "insertion",
    "kept_edges",
    "mean_attribution",
    "moved",
    "nodes_of",
    "patch",
    "patched_answers",
    "prompt_ends",
    "reference_of",
    "removal",
    "without_words",
    "without_words_in",
]
