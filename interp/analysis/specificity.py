"""Whether a feature supports an emotion's answer where that emotion is, more than where it is not."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from scipy.stats import false_discovery_control

from interp.analysis.selectivity import rank_test

Array = np.ndarray


class Specificity(NamedTuple):
    """Of every feature: mean effect on the emotion's examples and on all others, and p that the former is larger."""

    inside: Float[Array, " feature"]
    elsewhere: Float[Array, " feature"]
    p: Float[Array, " feature"]


def specificity(
    effects: Float[Array, "example feature"], inside: Bool[Array, " example"], groups: Array
) -> Specificity:
    """Effects of features on one emotion's answer, compared between that emotion's examples and all others.

    A feature that pushes one answer word wherever it is active (a prior of the model) has an effect on that emotion's
    examples without telling them from others, and so have features of a model that knows nothing. The comparison is a
    one-sided rank test (Mann & Whitney 1947) over groups of examples: effects are skewed, and Welch's t named a cause
    in one of nine worlds without any.

    Args:
        effects: fall of the answer's logit, minus the mean fall of the label set's logits, without the feature:
            log-probabilities saturate where the answer is certain.
        inside: which examples are of the emotion.
        groups: [example], what counts once on each side: texts of one source.
    """
    means = pd.DataFrame(effects).groupby([groups, ~inside]).mean()
    outside = means.index.get_level_values(1).to_numpy(dtype=int)
    _, p = rank_test(means.to_numpy(), outside, 2)
    elsewhere = effects[~inside].mean(0) if not inside.all() else np.zeros(effects.shape[1])
    return Specificity(effects[inside].mean(0), elsewhere, p[:, 0])


def q_values(p: Float[Array, " tested"], pool: int) -> Float[Array, " tested"]:
    """Benjamini-Hochberg (1995) q over all pairs of an active feature and an emotion.

    Those never tested count with p = 1: attribution chose the tested ones with the help of the labels.

    Args:
        pool: number of pairs that the tested ones were chosen from.
    """
    untested = np.ones(max(pool - len(p), 0))
    return np.asarray(false_discovery_control(np.append(p, untested))[: len(p)])
