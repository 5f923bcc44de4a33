"""Features of two models matched by what they do on the same texts, with permuted texts as the floor.

Two features are alike if their activations rise and fall together over texts that both models read (Li et al. 2016,
"Convergent learning"; Lan et al. 2024, for features of sparse autoencoders). The best of thousands of partners is alike
by chance, the more so the rarer a feature fires. So the same search is made with one model's texts permuted, and a
feature counts as matched where its best partner is far above its own best partners there; and it is measured once more
on texts that had no part in choosing the partner.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from scipy.stats import false_discovery_control
from statsmodels.stats.proportion import proportion_confint

from interp.analysis.rules import Q_LEVEL

Array = np.ndarray
PERMUTATIONS = 50
LEAST_ACTIVE = 5
"""A feature that fires on fewer texts is not matched: one text would be the match."""
ROWS = 512
"""Features whose correlations with all others are in memory at once."""
LEAST_TEXTS = 20
"""Texts below which no correlation is worth a match."""


class TextFeatures(NamedTuple):
    """The features of one model that can be matched, all layers side by side.

    Attributes:
        layers: [feature], the layer of each.
        features: [feature], its index in the layer's SAE.
        scores: [text, feature], activations with mean zero and length one over the texts.
    """

    layers: Int[Array, " feature"]
    features: Int[Array, " feature"]
    scores: Float[Array, "text feature"]

    @classmethod
    def of(cls, acts: Mapping[int, csr_array], least: int = LEAST_ACTIVE) -> "TextFeatures":
        """Of activations by layer, the features that fire on at least `least` texts and are not constant."""
        layers, features, scores = [], [], []
        for layer, own in acts.items():
            n_active = np.bincount(own.indices[own.data > 0], minlength=own.shape[1])
            index = np.flatnonzero(n_active >= least)
            values, varies = _scores(own[:, index].toarray())
            layers.append(np.full(int(varies.sum()), layer))
            features.append(index[varies])
            scores.append(values[:, varies])
        return cls(np.concatenate(layers), np.concatenate(features), np.concatenate(scores, axis=1))

    def on(self, texts: Int[Array, " chosen"]) -> Float[Array, "chosen feature"]:
        """The scores on some of the texts; of a feature that is constant there, zero."""
        return _scores(self.scores[texts])[0]

    @property
    def starts(self) -> Int[Array, " layer"]:
        """Where each layer begins."""
        return np.flatnonzero(np.diff(self.layers, prepend=-1))


class Matches(NamedTuple):
    """How the features of one model are found again in another.

    Attributes:
        features: a row per feature of the first: `layer`, `feature`; its best partner (`layer_beside`,
            `feature_beside`) with their `correlation`; `floor`, the mean of its best correlations on permuted texts;
            `held_out`, the correlation with a partner that was chosen on the other half of the texts; `within`, the
            same within texts of one emotion; `mutual`, whether it is its partner's best of its own layer; `p`, `q`
            (Benjamini-Hochberg over all of them), and `universal`: mutual and q < 0.05.
        layers: a row per layer of the first and of the second: `layer`, `layer_beside`, `correlation` and `floor`, the
            means over the first's features of the best partner in that layer and of the same on permuted texts,
            `n_features`.
        chance: [permutation, feature], which feature of the second (its place there) is the best on permuted texts.
    """

    features: pd.DataFrame
    layers: pd.DataFrame
    chance: Int[Array, "permutation feature"]


def match_features(
    one: TextFeatures,
    other: TextFeatures,
    *,
    groups: Int[Array, " text"] | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Matches:
    """The best partner of every feature of `one` among those of `other`, by correlation over the same texts.

    p: how often a feature's best correlation on permuted texts stands as far above its other ones there (in their
    standard deviations) as its real one does; pooled over the features, so that few permutations tell small p.

    Args:
        groups: what `within` holds fixed: the emotion of each text; nothing if left out.

    Raises:
        ValueError: other texts, fewer than `LEAST_TEXTS`, or fewer than three permutations.
    """
    n = len(one.scores)
    if len(other.scores) != n:
        raise ValueError(f"features of the same texts expected; {n} and {len(other.scores)} given")
    if n < LEAST_TEXTS or permutations < 3:
        raise ValueError(f"at least {LEAST_TEXTS} texts and 3 permutations expected; {n} and {permutations} given")
    rng = np.random.default_rng(seed)
    search = _search(one, other, other.scores)
    shuffled = [_search(one, other, other.scores[rng.permutation(n)]) for _ in range(permutations)]
    chance = np.stack([s.best for s in shuffled])
    p = _p_values(search.best, chance)
    groups = np.zeros(n, int) if groups is None else groups
    partner = search.partner
    fresh = held_out(one, other, groups, rng)
    own_layer = np.repeat(np.arange(len(one.starts)), np.diff(np.append(one.starts, len(partner))))
    mutual = search.back[own_layer, partner] == np.arange(len(partner))
    q = false_discovery_control(p) if len(p) else p
    features = pd.DataFrame(
        {
            "layer": one.layers,
            "feature": one.features,
            "layer_beside": other.layers[partner],
            "feature_beside": other.features[partner],
            "correlation": search.best,
            "floor": chance.mean(0),
            "held_out": fresh.whole,
            "within": fresh.within,
            "mutual": mutual,
            "p": p,
            "q": q,
            "universal": mutual & (q < Q_LEVEL),
        }
    )
    return Matches(features, _layers(one, other, search, shuffled), np.stack([s.partner for s in shuffled]))


class HeldOut(NamedTuple):
    """Correlations with a partner that was chosen on other texts.

    Attributes:
        whole: over all of the held-out texts.
        within: the same without the mean of each group of texts: what the two tell alike besides the group.
    """

    whole: Float[Array, " feature"]
    within: Float[Array, " feature"]


def held_out(one: TextFeatures, other: TextFeatures, groups: Int[Array, " text"], rng: np.random.Generator) -> HeldOut:
    """The correlation of every feature with its best partner of one half of the texts, measured on the other half.

    The mean of both ways round. Under chance it is zero, since the partner is not chosen on the texts it is tried on.
    """
    order = rng.permutation(len(one.scores))
    halves = order[::2], order[1::2]
    found = []
    for chosen, fresh in (halves, halves[::-1]):
        partner = _best_partner(one.on(chosen), other.on(chosen))
        pairs = one.on(fresh), other.on(fresh)[:, partner]
        parts = (pairs, [_scores(_without_means(x, groups[fresh]))[0] for x in pairs])
        found.append([np.einsum("tf,tf->f", x, y) for x, y in parts])
    return HeldOut(*np.mean(found, axis=0))


class Causes(NamedTuple):
    """What tracing found of two models' features, each by layer and index.

    Attributes:
        causal, causal_beside: features of the first and of the second, with the emotions they are causal for.
        controls: by emotion, features of the first that were traced as random ones of like strength and firing rate.
    """

    causal: Mapping[tuple[int, int], Sequence[str]]
    causal_beside: Mapping[tuple[int, int], Sequence[str]]
    controls: Mapping[str, set[tuple[int, int]]]


def by_emotion(matches: Matches, other: TextFeatures, emotions: Sequence[str], causes: Causes) -> pd.DataFrame:
    """How many causal features of each emotion are universal, beside controls, and whether their partners are causal.

    Returns:
        A row per emotion: `n_causal` (features that can be matched), `universal` with its Wilson interval `ci_low`,
        `ci_high`, the same of controls (`n_controls`, `universal_controls`, `controls_low`, `controls_high`);
        `n_causal_beside`, and of all causal features, universal or not, the share whose best partner is causal for the
        same emotion (`same`), the same on permuted texts (`same_floor`), and `p` by permutation.
    """
    table = matches.features
    keys = list(zip(table["layer"].tolist(), table["feature"].tolist(), strict=True))
    beside = list(zip(other.layers.tolist(), other.features.tolist(), strict=True))
    places = {key: i for i, key in enumerate(beside)}
    partners = zip(table["layer_beside"].tolist(), table["feature_beside"].tolist(), strict=True)
    partner = np.array([places[key] for key in partners], int)
    universal = table["universal"].to_numpy()
    rows = []
    for emotion in emotions:
        own = np.array([emotion in causes.causal.get(key, ()) for key in keys], bool)
        random = np.array([key in causes.controls.get(emotion, ()) for key in keys], bool) & ~own
        its = np.array([emotion in causes.causal_beside.get(key, ()) for key in beside], bool)
        same, floor = np.nan, np.full(len(matches.chance), np.nan)
        if own.any():
            same, floor = its[partner[own]].mean(), its[matches.chance[:, own]].mean(1)
        share, controls = _share(universal[own]), _share(universal[random])
        rows.append(
            {"emotion": emotion, "n_causal": int(own.sum())}
            | dict(zip(("universal", "ci_low", "ci_high"), share, strict=True))
            | {"n_controls": int(random.sum())}
            | dict(zip(("universal_controls", "controls_low", "controls_high"), controls, strict=True))
            | {"n_causal_beside": int(its.sum()), "same": same, "same_floor": floor.mean()}
            | {"p": (1 + (floor >= same).sum()) / (1 + len(floor)) if own.any() else np.nan}
        )
    return pd.DataFrame(rows)


def _share(flags: Array) -> tuple[float, float, float]:
    """With its Wilson interval; NaN of nothing."""
    if not len(flags):
        return np.nan, np.nan, np.nan
    low, high = proportion_confint(int(flags.sum()), len(flags), method="wilson")
    return float(flags.mean()), float(low), float(high)


class _Search(NamedTuple):
    """The best partners of all features.

    Attributes:
        best, partner: [feature of the first], the largest correlation, and whose it is.
        by_layer: [feature of the first, layer of the second], the largest one in each layer.
        back: [layer of the first, feature of the second], whose best it is in that layer.
    """

    best: Array
    partner: Array
    by_layer: Array
    back: Array


def _search(one: TextFeatures, other: TextFeatures, beside: Float[Array, "text feature"]) -> _Search:
    by_layer = np.empty((len(one.layers), len(other.starts)), np.float32)
    partner, best = np.empty(len(one.layers), int), np.empty(len(one.layers), np.float32)
    back = np.zeros((len(one.starts), beside.shape[1]), int)
    highest = np.full(back.shape, -np.inf, np.float32)
    for k, members in enumerate(np.split(np.arange(len(one.layers)), one.starts[1:])):
        for rows in np.split(members, range(ROWS, len(members), ROWS)):
            correlation = one.scores[:, rows].T @ beside  # [feature of a layer, feature of the second]
            by_layer[rows] = np.maximum.reduceat(correlation, other.starts, axis=1)
            partner[rows] = correlation.argmax(1)
            best[rows] = correlation[np.arange(len(rows)), partner[rows]]
            its = correlation.argmax(0)
            value = correlation[its, np.arange(len(its))]
            better = value > highest[k]
            back[k, better], highest[k, better] = rows[its[better]], value[better]
    return _Search(best, partner, by_layer, back)


def _best_partner(scores: Array, beside: Array) -> Int[Array, " feature"]:
    """Whose correlation with every feature is the largest."""
    blocks = np.split(scores, range(ROWS, scores.shape[1], ROWS), axis=1)
    return np.concatenate([(own.T @ beside).argmax(1) for own in blocks])


def _without_means(values: Float[Array, "text feature"], groups: Int[Array, " text"]) -> Float[Array, "text feature"]:
    """Less the mean of each group."""
    one_hot = np.eye(int(groups.max()) + 1, dtype=np.float32)[groups]
    means = (one_hot.T @ values) / np.maximum(one_hot.sum(0), 1)[:, None]
    return np.asarray(values - means[groups])


def _layers(one: TextFeatures, other: TextFeatures, search: _Search, shuffled: Sequence[_Search]) -> pd.DataFrame:
    floor = np.mean([s.by_layer for s in shuffled], axis=0)
    rows = []
    for members in np.split(np.arange(len(one.layers)), one.starts[1:]):
        for b, start in enumerate(other.starts):
            rows.append(
                {
                    "layer": int(one.layers[members[0]]),
                    "layer_beside": int(other.layers[start]),
                    "correlation": float(search.by_layer[members, b].mean()),
                    "floor": float(floor[members, b].mean()),
                    "n_features": len(members),
                }
            )
    return pd.DataFrame(rows)


def _p_values(best: Float[Array, " feature"], chance: Float[Array, "permutation feature"]) -> Float[Array, " feature"]:
    """Pooled over features, each standardised by its own other permutations, as the real one is by all of its own."""
    n = len(chance)
    total, squares = chance.sum(0), (chance**2).sum(0)
    mean = (total - chance) / (n - 1)
    spread = np.sqrt(np.maximum((squares - chance**2) / (n - 1) - mean**2, 1e-8))
    null = np.sort(((chance - mean) / spread).ravel())
    real = (best - chance.mean(0)) / np.maximum(chance.std(0), 1e-4)
    above = len(null) - np.searchsorted(null, real, side="left")
    return np.asarray((1 + above) / (1 + len(null)))


def _scores(values: Float[Array, "text feature"]) -> tuple[Float[Array, "text feature"], Array]:
    """Columns with mean zero and length one, and which of them are not constant."""
    centred = values.astype(np.float64) - values.mean(0)
    length = np.linalg.norm(centred, axis=0)
    varies = length > 1e-6 * np.maximum(np.abs(values).max(0, initial=0), 1e-12)
    return (centred / np.where(varies, length, 1) * varies).astype(np.float32), varies
