"""How evenly a feature's activation is spread over emotions, and which features a mixture cut calls specific.

A reading of layers as arXiv 2604.25866 takes it: Shannon entropy (Shannon 1948) of a feature's activation over
emotions, and a mixture of two Gaussians (Reynolds 2009) that separates specific features from shared and format ones.
Rare features have low entropy by chance, so shuffled labels stand beside it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.stats import norm
from sklearn.mixture import GaussianMixture

from interp.analysis.selectivity import MIN_ACTIVE
from interp.analysis.signals import FORMAT_SHARE

Array = np.ndarray
SHUFFLES = 20
FEATURES_AT_ONCE = 2048
FEWEST = 20
"""A mixture of fewer features than this is not fitted."""
MOST = 50_000
"""More features than this are thinned evenly before the mixture is fitted."""


@dataclass(frozen=True)
class EntropyCut:
    """Where a mixture of two Gaussians parts low entropies from high ones.

    Attributes:
        threshold: features below it are called specific; 0 where two Gaussians do not fit better than one.
        low, high: means of the two Gaussians; NaN where there is no cut.
        n: features behind it.
    """

    threshold: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class LayerEntropy:
    """Shares of a layer's active features by what the cut calls them.

    Attributes:
        layers: in order.
        features: [layer], features active in at least `MIN_ACTIVE` examples.
        specific: [layer], share whose entropy lies below the cut.
        format: [layer], share that is active in nearly every prompt.
        shuffled: [layer], mean specific share with shuffled labels: what chance calls specific.
        draws: [resample, layer], specific share in bootstrap resamples, shifted to have `specific` as their mean, since
            a resample has fewer different texts and so lower entropies. The cut is held fixed.
        cut: one for all layers, so that layers can be compared.
    """

    layers: list[int]
    features: Int[Array, " layer"]
    specific: Float[Array, " layer"]
    format: Float[Array, " layer"]
    shuffled: Float[Array, " layer"]
    draws: Float[Array, "resample layer"]
    cut: EntropyCut


def normalised_entropy(means: Float[Array, "*draw emotion feature"]) -> Float[Array, "*draw feature"]:
    """Shannon entropy of each feature's activation over emotions, over the log of their number.

    0: one emotion alone; 1: all alike; NaN: never active.
    """
    total = means.sum(-2, keepdims=True)
    share = np.divide(means, total, out=np.full(means.shape, np.nan), where=total > 0)
    logs = np.log(np.where(share > 0, share, 1.0))
    return np.asarray(-(share * logs).sum(-2) / np.log(means.shape[-2]))


def emotion_means(
    acts: Float[Array, "example feature"],
    gold: Int[Array, " example"],
    weights: Float[Array, "resample example"],
) -> Float[Array, "resample emotion feature"]:
    """Mean activation over each emotion's examples, for the emotions that occur."""
    out = []
    for emotion in np.unique(gold):
        own = weights[:, gold == emotion]
        out.append(own @ acts[gold == emotion] / np.maximum(own.sum(1, keepdims=True), 1e-12))
    return np.stack(out, 1)


def mixture_cut(entropies: Float[Array, " feature"], seed: int = 0) -> EntropyCut:
    """The entropy at which the lower of two Gaussians stops being the likelier one, between their means.

    There is no cut where one Gaussian has the lower Bayesian information criterion.
    """
    values = np.sort(entropies[np.isfinite(entropies)])
    nothing = EntropyCut(0.0, np.nan, np.nan, len(values))
    if len(values) < FEWEST or np.ptp(values) < 1e-6:
        return nothing
    column = values[np.linspace(0, len(values) - 1, min(MOST, len(values))).astype(int), None]
    one, two = (GaussianMixture(k, random_state=seed, tol=1e-5, max_iter=500).fit(column) for k in (1, 2))
    if one.bic(column) <= two.bic(column):
        return nothing
    order = np.argsort(two.means_[:, 0])
    (low, high), scales = two.means_[order, 0], np.sqrt(two.covariances_[order, 0, 0])
    grid = np.linspace(low, high, 2001)
    below, above = (
        np.log(two.weights_[k]) + norm.logpdf(grid, two.means_[k, 0], scale)
        for k, scale in zip(order, scales, strict=True)
    )
    likelier = np.flatnonzero(below >= above)
    return EntropyCut(float(grid[likelier[-1]]), float(low), float(high), len(values)) if len(likelier) else nothing


def entropy_by_layer(
    layers: Sequence[int],
    acts_of: Callable[[int], csr_array],
    gold: Int[Array, " example"],
    weights: Float[Array, "resample example"],
    seed: int = 0,
) -> LayerEntropy:
    """Specific, format and other features of every layer.

    Args:
        acts_of: a layer's features, [example, d_sae]; called once per layer.
        weights: bootstrap weights of the examples (`interp.statistics.Bootstrap`).

    Raises:
        ValueError: fewer than two emotions occur.
    """
    if len(np.unique(gold)) < 2:
        raise ValueError("Entropy over emotions needs examples of at least two emotions.")
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(gold) for _ in range(SHUFFLES)]
    read = [_layer(acts_of(layer), gold, weights, orders) for layer in layers]
    cut = mixture_cut(np.concatenate([r.whole for r in read]), seed)

    def shares(entropies: Float[Array, "*draw feature"]) -> Float[Array, "*draw"]:
        return np.asarray((entropies < cut.threshold).sum(-1) / max(entropies.shape[-1], 1))

    specific = np.array([float(shares(r.whole)) for r in read])
    draws = np.stack([shares(r.draws) for r in read], 1)
    return LayerEntropy(
        layers=list(layers),
        features=np.array([len(r.whole) for r in read]),
        specific=specific,
        format=np.array([r.format for r in read]),
        shuffled=np.array([float(shares(r.shuffled).mean()) for r in read]),
        draws=draws - draws.mean(0) + specific,
        cut=cut,
    )


@dataclass(frozen=True)
class _Entropies:
    """Of one layer's active features: with all examples, in resamples, with shuffled labels; and the format share."""

    whole: Float[Array, " feature"]
    draws: Float[Array, "resample feature"]
    shuffled: Float[Array, "shuffle feature"]
    format: float


def _layer(
    acts: csr_array,
    gold: Int[Array, " example"],
    weights: Float[Array, "resample example"],
    orders: Sequence[Int[Array, " example"]],
) -> _Entropies:
    by_column = acts.tocsc()
    count = np.diff(by_column.indptr)
    active = np.flatnonzero(count >= MIN_ACTIVE)
    ones = np.ones((1, len(gold)), np.float32)
    parts = []
    for start in range(0, max(len(active), 1), FEATURES_AT_ONCE):
        dense = by_column[:, active[start : start + FEATURES_AT_ONCE]].toarray().astype(np.float32)
        whole = normalised_entropy(emotion_means(dense, gold, ones))[0]
        draws = normalised_entropy(emotion_means(dense, gold, weights))
        shuffled = np.stack([normalised_entropy(emotion_means(dense, g, ones))[0] for g in orders])
        parts.append((whole, draws, shuffled))
    whole, draws, shuffled = (np.concatenate(p, -1) for p in zip(*parts, strict=True))
    common = float((count[active] >= FORMAT_SHARE * len(gold)).mean()) if len(active) else 0.0
    return _Entropies(whole, draws, shuffled, common)
