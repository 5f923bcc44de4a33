"""The claims of arXiv 2604.25866, and the rule by which each is said to hold."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float

from interp.statistics import Estimate

Array = np.ndarray
Verdict = Literal["yes", "no", "undecided", "not measured", "no claim"]
SURE = 0.95
"""Probability from which an order of emotions, or a number of phases, counts as certain."""
NONE_TO_SPEAK_OF = 0.1
"""A share of the last phase's value below which earlier layers are said to hold nothing."""
FEW = 0.01
"""A share of all features below which the causal ones are said to be few."""
SPURIOUS = 0.05
"""A share of the selective features that a false-discovery rate of 0.05 would give by itself."""
KEPT = 1.05
"""A perplexity ratio up to which language modelling is said to be kept."""

Origin = Literal["abstract", "text", "own"]


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        key: short name, the same in the JSON.
        words: what is claimed.
        short: the same in a few words.
        paper: the paper's own value; in words only where the paper's figure depends on its models or is not known.
        origin: the paper's abstract, its text, or a check of our own beside it.
        rule: when "yes", "no" or "undecided" is written.
    """

    key: str
    words: str
    short: str
    paper: str
    origin: Origin
    rule: str


@dataclass(frozen=True)
class Finding:
    """What one run says about one claim.

    Attributes:
        claim: key of the claim.
        about: the part of the run meant, such as a test corpus; empty: the whole.
        shown: the value in words, without the interval.
        value, low, high: the number that the rule looks at, with its 95 % interval; NaN where there is none.
        n: size of the sample behind it.
        unit: what was counted by `n`.
        verdict: by the claim's rule.
        source: files of the run folder.
    """

    claim: str
    about: str
    shown: str
    value: float
    low: float
    high: float
    n: int
    unit: str
    verdict: Verdict
    source: str


class Order(NamedTuple):
    """How probably an emotion comes first, and what follows."""

    probability: float
    verdict: Verdict


COUNTS: Mapping[str, int] = {"gemma-2-2b": 105, "gemma-2-9b": 256, "llama-3.1-8b": 92}
"""Causal features in all, by model, as the paper counts them."""

_ONLY = (
    f"yes: the interval of the ratio (mean before the last phase over mean in it) ends below {NONE_TO_SPEAK_OF:g}; no:"
    f" it begins above {NONE_TO_SPEAK_OF:g}; undecided otherwise, and where there is one phase only."
)
_ORDER = (
    f"yes: it comes first in at least {SURE:.0%} of the resamples; no: one other comes before it in at least that"
    " share, corrected for the number of others (Bonferroni); undecided otherwise."
)
_BELOW_OTHERS = "yes: the interval of the ratio to the other emotions' geometric mean ends below 1; no: begins above 1."
_ABOVE_ZERO = "yes: the interval lies above zero; no: it lies at or below zero; undecided otherwise."

CLAIMS: tuple[Claim, ...] = (
    Claim(
        "phases",
        "The layers fall into three phases (change points of all signals about emotions)",
        "three phases",
        "3",
        "abstract",
        f"yes: three phases fit best and at least {SURE:.0%} of the resamples agree; no: another number does and they"
        " agree; undecided otherwise.",
    ),
    Claim(
        "phases_entropy",
        "The same by entropy over emotions and a mixture cut",
        "three phases by entropy",
        "3",
        "abstract",
        "As before, with change points of the share of specific features alone.",
    ),
    Claim(
        "only_last_entropy",
        "Emotion features emerge only in the last phase: specific features by entropy, beyond shuffled labels",
        "emotion only in the last phase, by entropy",
        "only there",
        "abstract",
        _ONLY + " Phases: those of the same curve.",
    ),
    Claim(
        "only_last_probe",
        "The same: what a probe reads from features, beyond shuffled labels",
        "emotion only in the last phase, by a probe",
        "only there",
        "abstract",
        _ONLY + " Phases: those of all signals.",
    ),
    Claim(
        "only_last_causal",
        "The same: effect of removing a layer's top features",
        "emotion only in the last phase, by effect",
        "only there",
        "abstract",
        _ONLY + " Phases: those of all signals.",
    ),
    Claim(
        "format",
        "Early layers hold features of the format, which are the same in every prompt; late layers hold content",
        "format early, content late",
        "in words",
        "text",
        "Share of active features that are active in nearly all prompts, first third of the layers minus last third."
        " yes: the interval lies above zero; no: at or below zero; undecided otherwise.",
    ),
    Claim(
        "shared_and_specific",
        "Emotions have features of their own and shared ones",
        "features shared and specific",
        "both",
        "abstract",
        f"Share of features selective for one emotion among all selective ones. yes: its interval lies between"
        f" {SPURIOUS:g} and {1 - SPURIOUS:g}, so that neither kind is what the false-discovery rate allows; no: it lies"
        " wholly outside; undecided otherwise.",
    ),
    Claim(
        "few",
        "A small set of features is causal",
        "few causal features",
        ", ".join(f"{n} ({model})" for model, n in COUNTS.items()),
        "text",
        f"Share of all features of the dictionaries. yes: the interval ends below {FEW:g}; no: it begins above;"
        " undecided otherwise, and where there is no causal feature at all. How many can be found is bounded by how"
        " many are traced (tracing.candidates), so counts of different settings cannot be compared.",
    ),
    Claim(
        "strong",
        "These features strongly influence the answer",
        "a strong influence of these",
        "in words",
        "abstract",
        "Effect of removing an emotion's causal features together. yes: for every emotion that has any, its interval"
        " lies above that of as many controls; no: for none; undecided otherwise.",
    ),
    Claim(
        "unequal",
        "Their causal impact varies over emotions",
        "unequal emotions",
        "in words",
        "abstract",
        "Summed effect by emotion. yes: the intervals of two emotions do not overlap; undecided otherwise (equality is"
        " never claimed).",
    ),
    Claim(
        "disgust_weak",
        "Disgust is represented most weakly",
        "disgust the weakest",
        "weakest",
        "abstract",
        "Mean effect of the emotion's five strongest causal features, a missing one counting 0. " + _ORDER,
    ),
    Claim(
        "disgust_diffuse",
        "Disgust is represented most diffusely",
        "disgust the most diffuse",
        "most diffuse",
        "abstract",
        "Effective number of causal features. " + _ORDER,
    ),
    Claim(
        "surprise_concentrated",
        "Surprise is concentrated in few features",
        "surprise concentrated",
        "in words",
        "text",
        "Effective number of causal features. " + _BELOW_OTHERS,
    ),
    Claim(
        "fear_concentrated",
        "Fear is concentrated in few features",
        "fear concentrated",
        "in words",
        "text",
        "Effective number of causal features. " + _BELOW_OTHERS,
    ),
    Claim(
        "overshadowed_answers",
        "Disgust is overshadowed by anger: disgust is most often taken for anger",
        "disgust taken for anger",
        "in words",
        "text",
        "Wrong answers to texts of disgust. " + _ORDER,
    ),
    Claim(
        "overshadowed_effects",
        "The same: without disgust's causal features, anger gains",
        "anger gaining without disgust's features",
        "in words",
        "text",
        "Probability that moves to each other answer. yes: anger's interval lies above zero and anger gains most,"
        " beyond the interval of every other; no: another's interval lies above anger's; undecided otherwise.",
    ),
    Claim(
        "surprise_fires_with",
        "Surprise's features fire with other emotions",
        "surprise firing with other emotions",
        "in words",
        "text",
        "Share of an emotion's causal features that is active on texts of other emotions (features that are causal for"
        " both left out); surprise minus the mean of the others. " + _ABOVE_ZERO,
    ),
    Claim(
        "gain",
        "Steering causal features raises recognition (macro-F1)",
        "a gain by steering",
        "in words",
        "abstract",
        _ABOVE_ZERO,
    ),
    Claim(
        "generalises",
        "The gain carries over to other corpora (macro-F1)",
        "a gain on other corpora",
        "in words",
        "abstract",
        _ABOVE_ZERO,
    ),
    Claim(
        "beyond_random",
        "The gain is due to the causal features: it exceeds that of random features by the same procedure",
        "a gain beyond random features",
        "-",
        "own",
        _ABOVE_ZERO,
    ),
    Claim(
        "few_labels",
        "Few labelled examples are enough",
        "a gain from few labels",
        "in words",
        "abstract",
        "yes: the mean gain with five labels of each emotion lies above zero over draws and texts; no: below;"
        " undecided otherwise.",
    ),
    Claim(
        "language",
        "Language modelling is largely kept (perplexity ratio, steering on at every position)",
        "language modelling kept",
        "in words",
        "abstract",
        f"yes: the interval ends at {KEPT:g} or below; no: it begins above; undecided otherwise.",
    ),
    Claim("accuracy", "Recognition without steering: accuracy", "accuracy", "-", "own", "A measure, no claim."),
    Claim("macro_f1", "Recognition without steering: macro-F1", "macro-F1", "-", "own", "A measure, no claim."),
)
CLAIM: Mapping[str, Claim] = {c.key: c for c in CLAIMS}


def above(e: Estimate, bound: float) -> Verdict:
    """Whether the value exceeds the bound: yes, no (an interval that ends on the bound included), or undecided."""
    if not (math.isfinite(e.low) and math.isfinite(e.high)):
        return "undecided"
    return "yes" if e.low > bound else "no" if e.high <= bound else "undecided"


def below(e: Estimate, bound: float) -> Verdict:
    """Whether the value stays below the bound: yes, no, or undecided."""
    if not (math.isfinite(e.low) and math.isfinite(e.high)):
        return "undecided"
    return "yes" if e.high < bound else "no" if e.low > bound else "undecided"


def order_of(draws: Float[Array, "resample emotion"], emotion: int) -> Order:
    """Whether one emotion has the highest value of all.

    yes: it has in at least `SURE` of the resamples. no: one other emotion lies above it in so many that it would be
    sure after allowing for the number of others (Bonferroni): so equal emotions are seldom called either. Equals count
    for each in part; an emotion whose draws are NaN takes no part.
    """
    known = np.flatnonzero(np.isfinite(draws).all(0))
    if len(draws) < 2 or emotion not in known or len(known) < 2:
        return Order(np.nan, "undecided")
    own, others = draws[:, [emotion]], draws[:, known[known != emotion]]
    highest = draws[:, known] == draws[:, known].max(1, keepdims=True)
    share = float((highest[:, known == emotion][:, 0] / highest.sum(1)).mean())
    ahead = ((others > own) + 0.5 * (others == own)).mean(0).max()
    if share >= SURE:
        return Order(share, "yes")
    return Order(share, "no" if ahead >= 1 - (1 - SURE) / others.shape[1] else "undecided")
