"""Which emotions a model takes for each other, as trees: from its answers, and from what its layers hold.

Two emotions are near if texts of the one and of the other are hard to tell apart. In the answers, the distance is how
far the log-odds of the two labels move between texts of the one and of the other; a label that is given too often moves
none of them. In a layer, it is the angle between what sets the emotions' mean activations apart from the grand mean.
Trees are average linkage (Sokal & Michener 1958) with the bootstrap support of every merge (Felsenstein 1985).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from scipy.cluster.hierarchy import cophenet, linkage
from scipy.spatial.distance import squareform

from interp.texts.emotions import TO_EKMAN, TOGETHER

Array = np.ndarray
LEAST_EMOTIONS, LEAST_TEXTS = 3, 4
"""Emotions of which there is a tree, and texts without which an emotion has no place in it."""
PERMUTATIONS = 9_999
TREE_RESAMPLES = 200
"""Resamples behind the support of a merge; more tell the same."""


@dataclass(frozen=True)
class EmotionTree:
    """Emotions merged from the nearest to the farthest.

    Attributes:
        source: what it is made of: `answers`, `features`, `residuals`.
        layer: whose; None for answers.
        labels: the emotions.
        distances: [emotion, emotion].
        merges: [merge, 4], scipy's linkage matrix.
        support: [merge], share of resamples of the texts in whose tree the same emotions are one branch.
        n: texts.
    """

    source: str
    layer: int | None
    labels: Sequence[str]
    distances: Float[Array, "emotion emotion"]
    merges: Float[Array, "merge 4"]
    support: Float[Array, " merge"]
    n: int

    @property
    def branches(self) -> list[frozenset[int]]:
        """By merge, the emotions that are then one branch."""
        return branches(self.merges)

    @property
    def fit(self) -> float:
        """Cophenetic correlation: how well the tree tells the distances it is made of (Sokal & Rohlf 1962)."""
        return _correlation(heights(self.merges), squareform(self.distances, checks=False))

    def rows(self) -> list[dict[str, Any]]:
        """A row per merge: `merge`, `left`, `right` (emotions joined by +), `height`, `support`."""
        known: list[frozenset[int]] = [frozenset([i]) for i in range(len(self.labels))]
        found = []
        for k, (left, right, height, _) in enumerate(self.merges):
            sides = known[int(left)], known[int(right)]
            known.append(sides[0] | sides[1])
            names = [TOGETHER.join(self.labels[i] for i in sorted(side)) for side in sides]
            found.append(
                {"merge": k, "left": names[0], "right": names[1], "height": height, "support": self.support[k]}
            )
        return found


class Agreement(NamedTuple):
    """How far two trees agree.

    Attributes:
        correlation: of their cophenetic distances.
        p: how often it is as large where the emotions of one tree are permuted.
    """

    correlation: float
    p: float


def emotion_tree(
    labels: Sequence[str], distances: Float[Array, "draw emotion emotion"], *, source: str, layer: int | None, n: int
) -> EmotionTree:
    """The tree of some distances, with the support that the distances of resampled texts give it.

    Args:
        distances: those of all texts, then those of every resample.
    """
    merges = tree_of(distances[0])
    found = branches(merges)
    counts = dict.fromkeys(found, 0)
    for resampled in distances[1:]:
        for branch in counts.keys() & {*branches(tree_of(resampled))}:
            counts[branch] += 1
    support = np.array([counts[branch] for branch in found]) / max(len(distances) - 1, 1)
    return EmotionTree(source, layer, labels, distances[0], merges, support, n)


def emotion_shares(
    gold: Int[Array, " example"], emotions: Sequence[int], weights: Float[Array, "draw example"]
) -> Float[Array, "draw emotion example"]:
    """What each example counts for in the mean of its emotion; an emotion that a resample lacks keeps all its texts."""
    member = (gold[None] == np.asarray(emotions)[:, None]).astype(np.float32)  # [emotion, example]
    counted = weights[:, None, :] * member[None]
    counted = np.where(counted.sum(2, keepdims=True) > 0, counted, member[None])
    return np.asarray(counted / counted.sum(2, keepdims=True))


def answer_distances(
    log_probs: Float[Array, "example emotion"], shares: Float[Array, "draw emotion example"]
) -> Float[Array, "draw emotion emotion"]:
    """How far the answers tell every two emotions apart, in nats: half the move of their log-odds between their texts.

    Symmetric, and free of how often an answer is given: mean over texts of g of log p(g) - log p(h), less the same mean
    over texts of h, halved. Below zero (they are told apart the wrong way round) counts as zero.

    Args:
        shares: see `emotion_shares`.
    """
    means = shares @ log_probs  # [draw, texts of, log p of]
    own = np.einsum("dgg->dg", means)
    apart = (own[:, :, None] - means + own[:, None, :] - means.swapaxes(1, 2)) / 2
    return np.asarray(np.maximum(apart, 0) * (1 - np.eye(len(own[0]))))


def profile_distances(
    products: Float[Array, "example example"], shares: Float[Array, "draw emotion example"]
) -> Float[Array, "draw emotion emotion"]:
    """One minus the cosine between what sets every two emotions' means apart from the mean of all emotions; 0 to 2.

    Args:
        products: inner products of the examples' activations (or residuals); all that is needed of them.
        shares: see `emotion_shares`.
    """
    chosen = shares - shares.mean(1, keepdims=True)
    gram = ((chosen @ products) @ chosen.swapaxes(1, 2)).astype(float)
    length = np.sqrt(np.maximum(np.einsum("dgg->dg", gram), 1e-30))
    cosine = gram / (length[:, :, None] * length[:, None, :])
    return np.asarray(np.clip(1 - cosine, 0, 2) * (1 - np.eye(len(length[0]))))


class Grouping(NamedTuple):
    """Which emotions are shades of the same one of Ekman's six.

    Attributes:
        places: the emotions of which that is known.
        distances: between these: 0 if they are shades of the same, else 1.
    """

    places: list[int]
    distances: Float[Array, "known known"]


def grouping_of(labels: Sequence[str]) -> Grouping | None:
    """The published grouping of some labels; None where it groups nothing: none of them are together, or all."""
    places = [i for i, label in enumerate(labels) if label in TO_EKMAN]
    groups = [TO_EKMAN[labels[i]] for i in places]
    if not 1 < len({*groups}) < len(groups):
        return None
    return Grouping(places, np.array([[float(a != b) for b in groups] for a in groups]))


def agreement(
    one: Float[Array, "emotion emotion"],
    other: Float[Array, "emotion emotion"],
    *,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
    trees: bool = True,
) -> Agreement:
    """Correlation of two trees' cophenetic distances, with p by permuting the emotions of one (Mantel 1967).

    Args:
        trees: False compares the distances themselves, for what is no tree.
    """
    upper = np.triu_indices(len(one), 1)
    first = squareform(heights(tree_of(one)), checks=False) if trees else one
    second = heights(tree_of(other)) if trees else other[upper]
    value = _correlation(first[upper], second)
    rng = np.random.default_rng(seed)
    order = np.stack([rng.permutation(len(one)) for _ in range(permutations)])
    permuted = first[order[:, upper[0]], order[:, upper[1]]] @ (second - second.mean())  # their spreads stay the same
    level = first[upper] @ (second - second.mean())
    above = int((permuted >= level - 1e-9 * max(abs(level), 1e-9)).sum())
    return Agreement(value, (1 + above) / (1 + permutations))


def agreement_of_halves(
    one: Float[Array, "half emotion emotion"], other: Float[Array, "half emotion emotion"], *, seed: int = 0
) -> Agreement:
    """Each of one half of the texts against the other of the other half, both ways round.

    Noise that two trees of the same texts share would be agreement too. The correlation is the mean; p is twice the
    smaller one, as for any two looks.
    """
    both = [agreement(one[a], other[b], seed=seed) for a, b in ((0, 1), (1, 0))]
    return Agreement(float(np.mean([x.correlation for x in both])), min(1.0, 2 * min(x.p for x in both)))


def halves(gold: Int[Array, " example"], groups: Array, seed: int) -> Bool[Array, " example"]:
    """Which examples are in the first of two halves, drawn by groups."""
    unique, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    first_gold = np.zeros(len(unique), int)
    first_gold[member[::-1]] = gold[::-1]
    order = np.random.default_rng(seed).permutation(len(unique))
    chosen = np.zeros(len(unique), bool)
    for emotion in np.unique(first_gold):
        chosen[order[first_gold[order] == emotion][::2]] = True
    return np.asarray(chosen[member])


def tree_of(distances: Float[Array, "emotion emotion"]) -> Float[Array, "merge 4"]:
    """Average linkage."""
    return np.asarray(linkage(squareform(distances, checks=False), method="average"))


def heights(merges: Float[Array, "merge 4"]) -> Float[Array, " pair"]:
    """Cophenetic distances: the height at which every two emotions come together."""
    return np.asarray(cophenet(merges))


def branches(merges: Float[Array, "merge 4"]) -> list[frozenset[int]]:
    """By merge, the leaves below it."""
    n = len(merges) + 1
    below = [frozenset([i]) for i in range(n)]
    for left, right in merges[:, :2].astype(int):
        below.append(below[left] | below[right])
    return below[n:]


def tree_table(trees: Sequence[EmotionTree]) -> pd.DataFrame:
    """A row per merge of every tree: `source`, `layer`, `merge`, `left`, `right`, `height`, `support`, `fit`, `n`."""
    return pd.DataFrame(
        [
            {"source": tree.source, "layer": tree.layer, **row, "fit": tree.fit, "n": tree.n}
            for tree in trees
            for row in tree.rows()
        ]
    )


def _correlation(one: Array, other: Array) -> float:
    """Zero where one of them does not vary."""
    a, b = one - one.mean(), other - other.mean()
    length = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / length if length > 1e-12 else 0.0
