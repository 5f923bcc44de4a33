"""Where emotions and features of a model lie on ratings such as valence and arousal, as a probe of a layer reads them.

The probe is linear, so it reads differences of residuals as well as residuals: the position of an emotion is what the
probe makes of the difference between the mean residuals of its texts and of the others', that of a feature what it
makes of the feature's contribution, both in standard deviations of the rating. Intervals take in that the probe was
fitted on a sample of rated texts (wild cluster bootstrap: Cameron, Gelbach & Miller 2008, with leave-one-out errors),
and that the emotion's texts are a sample. A ridge shrinks what it reads: positions are nearer to zero than ratings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from interp.analysis.human import orders
from interp.analysis.labelled import LabelledExamples, seed_for
from interp.analysis.ratings import PENALTIES, RatedExamples
from interp.statistics import from_draws

Array = np.ndarray
DRAWS = 500
"""At most, of each interval."""


@dataclass(frozen=True)
class RatingReader:
    """Probes of one layer, fitted on all rated texts.

    Attributes:
        weights: [scale, d_model], standard deviations of the rating per unit of residual.
    """

    rated: RatedExamples
    weights: Float[Array, "scale d_model"]
    _inputs: Float[Array, "text d_model"]
    _deviation: Float[Array, " d_model"]
    _penalties: Float[Array, " scale"]

    @classmethod
    def fitted(cls, rated: RatedExamples, residuals: Float[Array, "text d_model"]) -> "RatingReader":
        scaler = StandardScaler()
        inputs = scaler.fit_transform(residuals.astype(np.float64))
        ridge = RidgeCV(PENALTIES, alpha_per_target=True).fit(inputs, rated.standard)
        weights = np.atleast_2d(ridge.coef_) / scaler.scale_
        return cls(rated, weights, inputs, scaler.scale_, np.atleast_1d(ridge.alpha_))

    def read(self, differences: Float[Array, "place d_model"]) -> Float[Array, "place scale"]:
        """What the probes make of differences of residuals."""
        return np.asarray(differences @ self.weights.T)

    @cached_property
    def _decomposed(self) -> tuple[Array, Array, Array]:
        """Of the inputs: left and right singular vectors and singular values."""
        left, size, right = np.linalg.svd(self._inputs, full_matrices=False)
        return left, size, right

    def deviations(self, differences: Float[Array, "place d_model"], seed: int) -> Float[Array, "draw place scale"]:
        """By how much the same would be read otherwise by probes fitted on other samples of texts."""
        left, size, right = self._decomposed
        rng, groups = np.random.default_rng(seed), self.rated.bootstrap
        shape = (min(self.rated.resamples, DRAWS), len(np.unique(groups.member)))
        signs = rng.choice((-1.0, 1.0), shape)[:, groups.member]
        out = np.zeros((len(signs), len(differences), len(self._penalties)))
        along = (differences / self._deviation) @ right.T  # [place, component]
        for k, penalty in enumerate(self._penalties):
            shrunk = size / (size**2 + penalty)
            y = self.rated.standard[:, k]
            fitted = left @ (size * shrunk * (left.T @ y))
            leverage = np.square(left) @ (size * shrunk)
            errors = (y - fitted) / np.maximum(1 - leverage, 0.05)
            out[:, :, k] = ((signs * errors) @ left * shrunk) @ along.T
        return out


def emotion_positions(
    reader: RatingReader, residuals: Float[Array, "example d_model"], examples: LabelledExamples
) -> pd.DataFrame:
    """Where each emotion lies.

    Args:
        residuals: of labelled texts, after the reader's layer.

    Returns:
        Columns rating, emotion, value, ci_low, ci_high, n; no row for an emotion without examples or without others.
    """
    scores = reader.read(residuals - residuals.mean(0))
    weights = examples.bootstrap(np.arange(len(examples)), "positions").weights[:DRAWS]
    inside = {label: examples.gold == emotion for emotion, label in enumerate(examples.labels)}
    inside = {label: own for label, own in inside.items() if own.any() and not own.all()}
    if not inside:
        return pd.DataFrame()
    between = np.stack([residuals[own].mean(0) - residuals[~own].mean(0) for own in inside.values()])
    of_probe = reader.deviations(between, seed_for(examples.seed, "positions"))
    rows: list[dict[str, object]] = []
    for place, (label, own) in enumerate(inside.items()):
        values = _difference(scores, own, np.ones((1, len(examples)), np.float32))[0]
        draws = _difference(scores, own, weights) + of_probe[: len(weights), place]
        for k, scale in enumerate(reader.rated.scales):
            e = from_draws(values[k], draws[:, k], int(own.sum()))
            rows.append({"rating": scale, "emotion": label, **e.row()})
    return pd.DataFrame(rows)


def _difference(
    scores: Float[Array, "example scale"], inside: Bool[Array, " example"], weights: Float[Array, "draw example"]
) -> Float[Array, "draw scale"]:
    """Mean of some examples less that of the others; NaN in draws that hold none of either."""
    with np.errstate(invalid="ignore", divide="ignore"):
        own, rest = (
            weights[:, part] @ scores[part] / weights[:, part].sum(1, keepdims=True) for part in (inside, ~inside)
        )
    return np.asarray(own - rest)


def feature_positions(
    reader: RatingReader, contributions: Float[Array, "feature d_model"], features: Sequence[int], seed: int
) -> pd.DataFrame:
    """Where features lie.

    Args:
        contributions: what each adds to the residual where it is active, on average.

    Returns:
        Columns rating, feature, value, ci_low, ci_high, n (rated texts).
    """
    values, draws = reader.read(contributions), reader.deviations(contributions, seed)
    rows = []
    for place, feature in enumerate(features):
        for k, scale in enumerate(reader.rated.scales):
            e = from_draws(values[place, k], values[place, k] + draws[:, place, k], len(reader.rated))
            rows.append({"rating": scale, "feature": int(feature), **e.row()})
    return pd.DataFrame(rows)


class Correspondence(NamedTuple):
    """How alike two lists of values of the same emotions are: Pearson's correlation, and one-sided exact p."""

    correlation: float
    p: float
    n: int


def correspondence(ours: Float[Array, " emotion"], theirs: Float[Array, " emotion"]) -> Correspondence:
    """Correlation of positions with people's, and the share of permutations of emotions with as large a one.

    Of fewer than three emotions, or values that do not vary, nothing is known (NaN).
    """
    n = len(ours)
    if n < 3 or np.std(ours) == 0 or np.std(theirs) == 0:
        return Correspondence(np.nan, np.nan, n)
    value = float(np.corrcoef(ours, theirs)[0, 1])
    others = [float(np.corrcoef(ours, theirs[order])[0, 1]) for order in orders(n, seed=0)]
    return Correspondence(value, float(np.mean(np.array(others) >= value - 1e-12)), n)
