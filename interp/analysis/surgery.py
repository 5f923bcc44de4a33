"""An appraisal removed, turned down or up in the residual, by its features or along its direction.

Along a direction, the residual's coordinate is set to that of a text whose rating lies `dose` standard deviations above
the mean; at dose 0 the direction is taken out (Arditi et al. 2024, centred). Of features, those active where the rating
is high are set to `dose` times their typical activation and the others to none; below 0 the other way round; at 0 all
are taken out.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from scipy.special import log_softmax
from torch import Tensor

from interp.analysis.rating_features import RatingFeatures
from interp.analysis.ratings import RatedExamples
from interp.analysis.surgery_methods import (
    CONTROLS as CONTROLS,
)
from interp.analysis.surgery_methods import (
    DIRECTION as DIRECTION,
)
from interp.analysis.surgery_methods import (
    FEATURES as FEATURES,
)
from interp.analysis.surgery_methods import (
    METHODS as METHODS,
)
from interp.analysis.surgery_methods import (
    RANDOM as RANDOM,
)
from interp.analysis.surgery_methods import (
    SINGLE as SINGLE,
)
from interp.analysis.surgery_methods import (
    WITHIN as WITHIN,
)
from interp.engine import insertion
from interp.engine.suffix import ResidualEdit
from interp.saes.stack import SaeStack

Array = np.ndarray
DOSES = (-2.0, -1.0, 0.0, 1.0, 2.0)
CONTROL_DOSES = (-1.0, 1.0)
"""At which controls are measured: where the slope of the answer is taken."""


class Surgery(NamedTuple):
    """One edit: which rating, by which method, how far."""

    rating: str
    method: str
    dose: float


def slopes(
    rated: RatedExamples, residuals: Float[Array, "text d_model"], *, within: bool = False
) -> Float[Array, "scale d_model"]:
    """How far the residual moves, on average over texts, per standard deviation of each rating.

    For a rating of two values that is the difference of means, up to its size.

    Args:
        within: between texts of the same emotion alone.
    """
    x, y = residuals - residuals.mean(0), rated.standard
    if within:
        everyone = np.arange(len(rated))
        y = rated.within(everyone)
        x = x.astype(np.float64)
        for kind in np.unique(rated.kinds):
            own = rated.kinds == kind
            x[own] -= x[own].mean(0)
    total = np.square(y).sum(0)[:, None]
    return np.asarray(np.divide(y.T @ x, total, out=np.zeros((y.shape[1], x.shape[1])), where=total > 0))


def random_slopes(like: Float[Array, "scale d_model"], seed: int) -> Float[Array, "scale d_model"]:
    """Random directions, as long as the others."""
    drawn = np.random.default_rng(seed).standard_normal(like.shape)
    return np.asarray(drawn * (np.linalg.norm(like, axis=1) / np.linalg.norm(drawn, axis=1))[:, None])


def direction_edit(slope: Float[Array, " d_model"], centre: Float[Array, " d_model"], dose: float) -> ResidualEdit:
    """Sets the coordinate along a slope to `dose` times the slope's length above the centre's."""
    unit = torch.from_numpy(slope / max(float(np.linalg.norm(slope)), 1e-12)).float()
    target, middle = torch.from_numpy(dose * slope).float(), torch.from_numpy(centre).float()

    def edit(x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row d_model"]:
        along, aim, mean = (v.to(x.device) for v in (unit, target, middle))
        deviation = ((x.float() - mean) @ along)[..., None] * along
        return x + (aim - deviation).to(x.dtype)

    return edit


def feature_edits(
    saes: SaeStack, features: RatingFeatures, typical: Mapping[tuple[int, int], float], dose: float, *, control: bool
) -> dict[int, ResidualEdit]:
    """Sets a rating's features, or its controls, as the head of this module says.

    Args:
        typical: by layer and feature, its mean activation where it is active.
    """
    values: dict[int, dict[int, float]] = {}
    chosen = features.table[features.table["control"] == control]
    for layer, feature, sign in chosen[["layer", "feature", "sign"]].itertuples(index=False):
        value = max(0.0, dose * sign) * typical[int(layer), int(feature)]
        values.setdefault(int(layer), {})[int(feature)] = value
    return insertion(saes, values)


def dose_table(
    logits: Mapping[Surgery, Float[Array, "text answer"]],
    clean: Float[Array, "text answer"],
    rated: RatedExamples,
    labels: Sequence[str],
) -> pd.DataFrame:
    """What each surgery does to each answer.

    Returns:
        Columns rating, method, dose, emotion, effect (mean rise of the answer's log-probability over the label set,
        nats), ci_low, ci_high, n, answered (share of texts that get the answer) and answered_before.
    """
    before, parts = log_softmax(clean, axis=1), []
    shares = np.bincount(before.argmax(1), minlength=len(labels)) / len(before)
    for surgery, edited in logits.items():
        after = log_softmax(edited, axis=1)
        mean, low, high = rated.bootstrap.means(after - before)
        parts.append(
            pd.DataFrame({**surgery._asdict(), "emotion": list(labels), "effect": mean, "ci_low": low, "ci_high": high})
            .assign(n=len(before), answered=np.bincount(after.argmax(1), minlength=len(labels)) / len(after))
            .assign(answered_before=shares)
        )
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def slopes_of_answers(
    logits: Mapping[Surgery, Float[Array, "text answer"]],
) -> dict[tuple[str, str], Float[Array, "text answer"]]:
    """By rating and method, how much each answer's log-probability rises per unit of dose, from -1 to 1 (nats)."""
    return {
        (s.rating, s.method): (log_softmax(up, axis=1) - log_softmax(logits[s._replace(dose=-1.0)], axis=1)) / 2
        for s, up in logits.items()
        if s.dose == 1.0
    }


def single_effects(
    features: RatingFeatures, logits: Mapping[Any, Float[Array, "text answer"]]
) -> Float[Array, "text answer"]:
    """How much a rating's features support each answer where the rating is high, one by one, in the mean (nats).

    Removing a feature lowers an answer's log-probability by its effect; that of a feature which is active where the
    rating is low counts the other way.

    Args:
        logits: as they are (under `None`), and without each feature alone (under its layer and feature).
    """
    clean = log_softmax(logits[None], axis=1)
    chosen = features.table[~features.table["control"]]
    falls = [
        sign * (clean - log_softmax(logits[int(layer), int(feature)], axis=1))
        for layer, feature, sign in chosen[["layer", "feature", "sign"]].itertuples(index=False)
    ]
    return np.asarray(np.mean(falls, axis=0))
