"""Ratings of texts, such as valence or appraisals: which layer knows them, beyond what chance and plain words give.

A probe is a ridge regression (Hoerl & Kennard 1970) from standardised residuals to a rating. Its penalty is chosen by
leave-one-out within the training folds, and texts of one group stand in one fold. R squared is of predictions for
texts the probe has not seen, against the mean rating of those it has.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import csr_array, csr_matrix
from scipy.stats import false_discovery_control
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GroupKFold, GroupShuffleSplit
from sklearn.preprocessing import MaxAbsScaler, StandardScaler

from interp.analysis.labelled import seed_for
from interp.analysis.rules import Q_LEVEL
from interp.analysis.selectivity import MIN_ACTIVE
from interp.defaults import RESAMPLES
from interp.statistics import Bootstrap

Array = np.ndarray
FOLDS = 5
SHUFFLES = 99
PENALTIES = np.logspace(0, 6, 13)
"""Of a ridge on standardised inputs."""
LEXICON_PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Of a ridge on words by tf-idf, whose rows have length 1."""
WORD = r"(?u)\b\w+\b"
Inputs: TypeAlias = np.ndarray | csr_array
Fold = tuple[Int[Array, " train"], Int[Array, " test"]]


@dataclass(frozen=True)
class RatedExamples:
    """Rated texts as the analyses see them.

    Attributes:
        scales: what they are rated for.
        values: [text, scale], the ratings.
        groups: [text], what is resampled, and held out, together.
        kinds: [text], the emotion of each; empty where there is none.
        resamples: bootstrap resamples behind every interval.
        seed: from which every draw has its own.
    """

    scales: Sequence[str]
    values: Float[Array, "text scale"]
    groups: Array
    kinds: Array
    resamples: int = RESAMPLES
    seed: int = 0

    def __len__(self) -> int:
        return len(self.values)

    @cached_property
    def standard(self) -> Float[Array, "text scale"]:
        """The ratings with mean 0 and standard deviation 1."""
        return np.asarray((self.values - self.values.mean(0)) / self.values.std(0))

    @cached_property
    def folds(self) -> list[Fold]:
        """Places of training and test texts; no group is in both."""
        n_groups = len(np.unique(self.groups))
        splitter = GroupKFold(min(FOLDS, n_groups), shuffle=True, random_state=seed_for(self.seed, "folds") % 2**31)
        return list(splitter.split(self.values, groups=self.groups))

    @cached_property
    def bootstrap(self) -> Bootstrap:
        return Bootstrap(self.groups.tolist(), self.resamples, seed_for(self.seed, "ratings"))

    @property
    def has_kinds(self) -> bool:
        """Whether emotions tell the texts apart."""
        return len(np.unique(self.kinds)) > 1

    def within(self, train: Int[Array, " train"]) -> Float[Array, "text scale"]:
        """What is left of the standardised ratings when each emotion's mean among the training texts is taken off."""
        return np.asarray(self.standard - self.kind_means(train))

    def kind_means(self, train: Int[Array, " train"]) -> Float[Array, "text scale"]:
        """For each text, the mean rating of its emotion's training texts; of all of them where its emotion has none."""
        means = np.tile(self.standard[train].mean(0), (len(self), 1))
        for kind in np.unique(self.kinds):
            own = train[self.kinds[train] == kind]
            if len(own):
                means[self.kinds == kind] = self.standard[own].mean(0)
        return means


class Explained(NamedTuple):
    """R squared of the columns of some predictions, with intervals over groups of texts."""

    value: Float[Array, " scale"]
    ci_low: Float[Array, " scale"]
    ci_high: Float[Array, " scale"]

    def rows(self, scales: Sequence[str], n: int, **names: object) -> list[dict[str, object]]:
        """As rows of a table."""
        columns = zip(scales, *self, strict=True)
        return [
            {"rating": scale, **names, "value": float(v), "ci_low": float(low), "ci_high": float(high), "n": n}
            for scale, v, low, high in columns
        ]


def r_squared(
    targets: Float[Array, "text column"],
    predicted: Float[Array, "text column"],
    baseline: Float[Array, "text column"],
) -> Float[Array, " column"]:
    """1 less the squared error over that of the baseline's predictions."""
    return np.asarray(1 - np.square(targets - predicted).sum(0) / np.square(targets - baseline).sum(0))


def scored(
    targets: Float[Array, "text scale"],
    predicted: Float[Array, "text scale"],
    baseline: Float[Array, "text scale"],
    bootstrap: Bootstrap,
) -> Explained:
    """The same with intervals."""
    ratio, low, high = bootstrap.ratios(np.square(targets - predicted), np.square(targets - baseline))
    return Explained(1 - ratio, 1 - high, 1 - low)


class LayerProbes(NamedTuple):
    """What probes of one layer read.

    Attributes:
        rows: columns rating, method, value, ci_low, ci_high, n.
        shuffled: [shuffle, scale], R squared of shuffled ratings: the same shuffles in every layer.
    """

    rows: pd.DataFrame
    shuffled: Float[Array, "shuffle scale"]


def layer_probes(
    rated: RatedExamples, residuals: Float[Array, "text d_model"], acts: csr_array | None = None
) -> LayerProbes:
    """Probes of a layer on residuals, on residuals with shuffled ratings, and on features.

    *within emotions*: residuals against what is left of a rating when its emotion's mean is taken off, where the texts
    have emotions.

    Args:
        acts: [text, d_sae], activations of the layer's features, where it has an SAE.
    """
    n, width = rated.values.shape
    rng = np.random.default_rng(seed_for(rated.seed, "shuffled ratings"))
    shuffled = np.concatenate([rated.standard[rng.permutation(n)] for _ in range(SHUFFLES)], axis=1)

    def targets(train: Array) -> Array:
        within = [rated.within(train)] if rated.has_kinds else []
        return np.concatenate([rated.standard, *within, shuffled], axis=1)

    found, truth, means = out_of_fold(lambda train, test: _scaled(residuals, train, test), targets, rated.folds)

    def score(columns: slice) -> Explained:
        return scored(truth[:, columns], found[:, columns], means[:, columns], rated.bootstrap)

    rows = score(slice(0, width)).rows(rated.scales, n, method="residuals")
    if rated.has_kinds:
        rows += score(slice(width, 2 * width)).rows(rated.scales, n, method="within emotions")
    rest = slice(-SHUFFLES * width, None)
    chance = r_squared(truth[:, rest], found[:, rest], means[:, rest]).reshape(SHUFFLES, width)
    low, high = np.quantile(chance, (0.025, 0.975), axis=0)
    rows += Explained(chance.mean(0), low, high).rows(rated.scales, n, method="shuffled")
    if acts is not None:
        often = np.flatnonzero(np.diff(acts.tocsc().indptr) >= MIN_ACTIVE)
        if len(often):
            dense = acts[:, often].toarray()
            own = out_of_fold(
                lambda train, test: _scaled(dense, train, test, MaxAbsScaler()), rated.standard, rated.folds
            )
            rows += scored(own.truth, own.predicted, own.means, rated.bootstrap).rows(
                rated.scales, n, method="features"
            )
    return LayerProbes(pd.DataFrame(rows), chance)


def baseline_probes(
    rated: RatedExamples, texts: Sequence[str], whole: RatedExamples, whole_texts: Sequence[str]
) -> pd.DataFrame:
    """What needs no model: a text's length, its words, and its emotion.

    *length*: ridge on counts of characters, words and sentence ends, and their logarithms. *words*: ridge on the words
    themselves (tf-idf) of the texts that the probes of the model see as well. *lexicon*: the same, learnt on all other
    texts of the corpus. *emotion*: the mean rating of the emotion's other texts.

    Args:
        whole, whole_texts: all texts of the corpus, `rated` among them; no group of a tested text is learnt from.

    Returns:
        Columns rating, method, value (R squared), ci_low, ci_high, n.
    """
    sizes = np.array([[len(t), len(t.split()), sum(t.count(mark) for mark in ".!?")] for t in texts], float)
    sizes = np.concatenate([sizes, np.log1p(sizes)], axis=1)
    truth = rated.standard
    found = {
        "length": out_of_fold(lambda train, test: _scaled(sizes, train, test), truth, rated.folds),
        "words": out_of_fold(lambda train, test: _words(texts, train, test), truth, rated.folds),
    }
    means = found["length"].means
    predicted = {method: own.predicted for method, own in found.items()}
    predicted["lexicon"] = _by_lexicon(rated, texts, whole, whole_texts)
    if rated.has_kinds:
        predicted["emotion"] = np.zeros_like(truth)
        for train, test in rated.folds:
            predicted["emotion"][test] = rated.kind_means(train)[test]
    parts = [
        scored(truth, values, means, rated.bootstrap).rows(rated.scales, len(rated), method=method)
        for method, values in predicted.items()
    ]
    return pd.DataFrame([row for rows in parts for row in rows])


def _by_lexicon(
    rated: RatedExamples, texts: Sequence[str], whole: RatedExamples, whole_texts: Sequence[str]
) -> Float[Array, "text scale"]:
    """Predictions of a ridge on words, learnt on all texts of other groups; its penalty suits a fifth of these best."""
    y, out = (whole.values - rated.values.mean(0)) / rated.values.std(0), np.zeros_like(rated.standard)
    for _, test in rated.folds:
        rest = np.flatnonzero(~np.isin(whole.groups.astype(str), rated.groups[test].astype(str)))
        lexicon = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD, min_df=2)
        known = lexicon.fit_transform([whole_texts[int(i)] for i in rest])
        split = GroupShuffleSplit(1, test_size=1 / FOLDS, random_state=0).split(rest, groups=whole.groups[rest])
        inner, held = next(iter(split))
        errors = [
            np.square(_by_words(known[inner], y[rest][inner], penalty, known[held]) - y[rest][held]).sum(0)
            for penalty in LEXICON_PENALTIES
        ]
        best = np.asarray(LEXICON_PENALTIES)[np.argmin(errors, axis=0)]
        new = lexicon.transform([texts[int(i)] for i in test])
        out[test] = _by_words(known, y[rest], best, new)
    return out


def _by_words(
    known: csr_array | csr_matrix,
    y: Float[Array, "text scale"],
    penalty: float | Array,
    new: csr_array | csr_matrix,
) -> Float[Array, "new_text scale"]:
    """Predictions of a ridge on sparse inputs; one penalty, or one for every scale."""
    ridge = Ridge(alpha=penalty, solver="sparse_cg", tol=1e-4).fit(known, y)
    return np.asarray(ridge.predict(new)).reshape(new.shape[0], -1)


class OutOfFold(NamedTuple):
    """Predictions for texts of folds that a ridge was not fitted on, beside the truth and the training mean."""

    predicted: Float[Array, "text column"]
    truth: Float[Array, "text column"]
    means: Float[Array, "text column"]


def out_of_fold(
    inputs: Callable[[Array, Array], tuple[Inputs, Inputs]],
    targets: Float[Array, "text column"] | Callable[[Array], Array],
    folds: Sequence[Fold],
) -> OutOfFold:
    """A ridge for every column, fitted on the other folds; each column has its own penalty.

    Args:
        inputs: from places of training and test texts, what is known of each of them.
        targets: the columns; or what makes them from the places of the training texts.
    """
    out: list[Array] = []
    for train, test in folds:
        y = targets(train) if callable(targets) else targets
        known, new = inputs(train, test)
        if not out:
            out = [np.zeros((len(y), y.shape[1])) for _ in range(3)]
        ridge = RidgeCV(PENALTIES, alpha_per_target=True).fit(known, y[train])
        out[0][test] = np.asarray(ridge.predict(new)).reshape(len(test), -1)
        out[1][test], out[2][test] = y[test], y[train].mean(0)
    return OutOfFold(*out)


def _scaled(
    x: Float[Array, "text column"], train: Array, test: Array, scaler: StandardScaler | MaxAbsScaler | None = None
) -> tuple[Array, Array]:
    scaler = StandardScaler() if scaler is None else scaler
    return scaler.fit_transform(x[train].astype(np.float64)), scaler.transform(x[test].astype(np.float64))


def _words(texts: Sequence[str], train: Array, test: Array) -> tuple[Inputs, Inputs]:
    known, new = [texts[int(i)] for i in train], [texts[int(i)] for i in test]
    lexicon = TfidfVectorizer(sublinear_tf=True, token_pattern=WORD).fit(known)
    # Rows have length 1; penalties are made for columns of deviation 1.
    size = np.sqrt(len(lexicon.vocabulary_))
    return csr_array(lexicon.transform(known) * size), csr_array(lexicon.transform(new) * size)


def known_ratings(
    probes: pd.DataFrame, shuffled: Float[Array, "layer shuffle scale"], scales: Sequence[str]
) -> pd.DataFrame:
    """Per rating, the layer that reads it best, and whether it reads more than shuffled ratings at their best layer.

    The p-value is the share of all shuffled ratings (of all scales together, whose null distributions are alike) whose
    best layer reads at least as much; q corrects it for the number of scales (Benjamini-Hochberg).

    Args:
        probes: columns layer, rating, method, value, ci_low, ci_high, n, of all layers.

    Returns:
        Columns rating, layer, value, ci_low, ci_high, n, p, q, known.
    """
    own = probes[probes["method"] == "residuals"].sort_values("layer", ignore_index=True)
    best = own.loc[own.groupby("rating", sort=False)["value"].idxmax()].set_index("rating").loc[list(scales)]
    chance = shuffled.max(0).ravel()
    p = np.array([(1 + (chance >= value).sum()) / (1 + len(chance)) for value in best["value"]])
    q = false_discovery_control(p)
    columns = ["rating", "layer", "value", "ci_low", "ci_high", "n"]
    return best.reset_index()[columns].assign(p=p, q=q, known=(q < Q_LEVEL) & (best["ci_low"] > 0).to_numpy())
