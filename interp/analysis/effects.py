"""Exact effects of single features: their means, which of them are causal, how concentrated they are.

The effect of a feature on an example is the fall of the gold answer's log-probability (over the label set, in nats)
when that feature alone is taken out of the residual; 0 where it is inactive. The causal rule stands in `is_causal`.

What was measured is a table with a row for each example and each feature that is active on it: *row* (the example's
number, `LabelledExamples.rows`), *layer*, *feature*, and columns of values.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.analysis.effect_rows import causal_features
from interp.analysis.labelled import LabelledExamples
from interp.analysis.rules import CONTROL_QUANTILE, Q_LEVEL
from interp.analysis.specificity import q_values, specificity

Array = np.ndarray


def exceeds_controls(effects: pd.DataFrame) -> pd.Series:
    """Interval above zero, and effect above that quantile of the emotion's controls in the same phase."""
    group = [effects["emotion"], effects["phase"]]
    bar = effects["effect"].where(effects["control"]).groupby(group).transform(lambda x: x.quantile(CONTROL_QUANTILE))
    return ~effects["control"] & (effects["ci_low"] > 0) & (effects["effect"] > bar.fillna(0.0))


def is_causal(effects: pd.DataFrame) -> pd.Series:
    """The causal rule: above zero and above the controls, and larger where the emotion is than where it is not.

    Args:
        effects: columns of `mean_effects` and `with_specificity`, on the examples on which features are discovered.
    """
    return exceeds_controls(effects) & (effects["q"] < Q_LEVEL)


def dense(
    measured: pd.DataFrame, columns: Sequence[str], features: pd.DataFrame, examples: LabelledExamples
) -> Float[Array, "column example feature"]:
    """Measured columns of some features on some examples, 0 where a feature is inactive.

    Args:
        features: columns layer and feature, no two alike.
    """
    keys = ["layer", "feature"]
    feature = pd.MultiIndex.from_frame(features[keys]).get_indexer(pd.MultiIndex.from_frame(measured[keys]))
    example = examples.places(measured["row"])
    asked = (feature >= 0) & (example >= 0)
    values = np.zeros((len(columns), len(examples), len(features)))
    for column, name in zip(values, columns, strict=True):
        column[example[asked], feature[asked]] = measured.loc[asked, name]
    return values


def mean_effects(
    measured: pd.DataFrame, candidates: pd.DataFrame, examples: LabelledExamples, role: str
) -> pd.DataFrame:
    """Mean effect of every candidate over all examples of its emotion, with intervals by groups of examples.

    Args:
        measured: columns row, layer, feature, effect (nats), flipped (whether the answer became another).
        candidates: of `candidate_table`.
        role: what the examples are for (discover, fit); part of the resampling's seed.

    Returns:
        A row for each candidate whose emotion has examples, in the order of the candidates: its columns, and role, n
        (examples), n_active (on how many the feature is active), effect, ci_low, ci_high, flip_rate.
    """
    nothing = dict.fromkeys(("effect", "ci_low", "ci_high", "flip_rate"), 0.0)
    tables = [candidates[:0].assign(role=role, n=0, n_active=0, **nothing)]
    for emotion, label in enumerate(examples.labels):
        members, traced = examples.members(emotion), candidates[candidates["emotion"] == label]
        if not len(members) or not len(traced):
            continue
        columns = ("effect", "flipped", "active")
        effect, flipped, active = dense(measured.assign(active=1), columns, traced, examples.only(members))
        mean, low, high = examples.bootstrap(members, f"effects {role} {label}").means(effect)
        counts = {"n": len(members), "n_active": active.sum(0).astype(int), "flip_rate": flipped.mean(0)}
        tables.append(traced.assign(role=role, effect=mean, ci_low=low, ci_high=high, **counts))
    return pd.concat(tables).sort_index(ignore_index=True)


def with_specificity(
    effects: pd.DataFrame, measured: pd.DataFrame, examples: LabelledExamples, pool: int
) -> pd.DataFrame:
    """`effects` with `causal`, and columns logit_effect, logit_effect_elsewhere, p and q (see `specificity`).

    Only features that exceed their controls are tested.

    Args:
        effects: of `mean_effects`.
        measured: columns row, layer, feature, and one per emotion, its number as text: fall of that answer's logit,
            minus the mean fall over the label set, on examples of all emotions.
        pool: number of pairs of an active feature and an emotion that candidates were chosen from.
    """
    tested = exceeds_controls(effects).to_numpy()
    values = np.full((3, len(effects)), np.nan)
    for emotion, label in enumerate(examples.labels):
        own = tested & (effects["emotion"] == label).to_numpy()
        if own.any():
            (falls,) = dense(measured, [str(emotion)], effects[own], examples)
            values[:, own] = specificity(falls, examples.gold == emotion, examples.groups)
    q = np.full(len(effects), np.nan)
    q[tested] = q_values(values[2, tested], pool)
    names = ("logit_effect", "logit_effect_elsewhere", "p")
    out = effects.assign(causal=False, **dict(zip(names, values, strict=True)), q=q)
    return out.assign(causal=is_causal(out))


def by_example(measured: pd.DataFrame, effects: pd.DataFrame, examples: LabelledExamples) -> pd.DataFrame:
    """What each causal feature does to each example of its emotion on which it is active.

    Resampling examples with it tells how certain sums, shares and orders of effects are.

    Args:
        measured: columns row, layer, feature and effect, on the examples on which features are discovered.
        effects: the finished table of effects.

    Returns:
        Columns row, emotion, layer, feature, effect; where a feature is inactive there is no row, and its effect is 0.
    """
    columns = ["emotion", "layer", "feature", "row"]
    labelled = measured.assign(emotion=examples.emotions[examples.places(measured["row"])])
    found = labelled.merge(causal_features(effects)[columns[:3]]).sort_values(columns, ignore_index=True)
    return found[["row", "emotion", "layer", "feature", "effect"]]


def concentration(effects: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Per emotion, over all phases and in each: how many causal features, how strong, how concentrated.

    Effective number of features: (sum of effects)^2 / sum of squared effects.

    Args:
        effects: columns emotion, phase, effect (nats), causal, role, n.

    Returns:
        Columns emotion, phase (a number as text, or "all"), n_causal, summed_effect, share_top_1, share_top_5,
        share_top_10, effective_number and n (examples).
    """
    phases = effects["phase"].astype(str)
    found, lines = causal_features(effects), []
    for label in labels:
        n = effects.loc[effects["emotion"] == label, "n"].max()
        for phase in ("all", *sorted(phases.unique())):
            of_phase = found[(found["emotion"] == label) & ((phase == "all") | (phases[found.index] == phase))]
            effect = np.sort(of_phase["effect"].to_numpy())[::-1]
            total = effect.sum()
            shares = {f"share_top_{k}": effect[:k].sum() / total if len(effect) else np.nan for k in (1, 5, 10)}
            lines.append(
                {
                    "emotion": label,
                    "phase": phase,
                    "n_causal": len(effect),
                    "summed_effect": total,
                    **shares,
                    "effective_number": total**2 / np.square(effect).sum() if len(effect) else np.nan,
                    "n": 0 if np.isnan(n) else int(n),
                }
            )
    return pd.DataFrame(lines)
