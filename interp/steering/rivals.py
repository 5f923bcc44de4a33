"""What steering on causal features must beat: the same on random features, and dense directions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from interp.analysis.signals import probe_right
from interp.steering.coupled import couple, couple_whole
from interp.steering.fit import FitData, fit
from interp.steering.steering import Gains, SteeredFeature, Steering
from interp.steering.trials import COUPLINGS, Ground, Trial, fitted_vector_plan, score, tried_each, weakest

Array = np.ndarray
SCALES = (0.25, 0.5, 1.0, 2.0)
UNIT_SHARE = 0.2
"""Length of the probe's direction at scale 1, as a share of the mean residual norm."""
GATE_POOL = 64
"""Random features among which the control's gate may choose its own."""
OF_REFERENCE = ("random_features", "random_directions")
"""Rivals that repeat the reference's procedure; the others are the same beside any."""
LEAST = 5
"""Examples of each emotion without which no probe is trained."""

Keep = Callable[[Mapping[str, Callable[[], Steering]]], Sequence[Steering]]
"""(by name, what makes them) -> the steerings, made now or kept by an earlier attempt."""


@dataclass(frozen=True)
class RivalGround:
    """What rivals are made from, beside what methods are made from.

    Attributes:
        residuals: layer -> [example, d_model], of the examples of which directions are means.
        gold: their emotions.
        controls: by layer, features matched in strength and firing rate, found without any effect on the answer.
        seed: for each purpose, one of its own.
    """

    ground: Ground
    residuals: Callable[[int], Float[Tensor, "example d_model"]]
    gold: Int[Array, " example"]
    controls: Mapping[int, Int[Array, " feature"]]
    seed: Callable[[str], int]

    @property
    def data(self) -> FitData:
        return self.ground.data


def rivals(ground: RivalGround, reference: Trial | None, steering: Steering | None, keep: Keep) -> dict[str, Steering]:
    """By name: `random_features`, `vector` (fitted, ungated), `mean_difference`, `probe_direction`, `whole_residual`.

    Without autoencoders, `random_directions` for the first; the last is then what couplings do themselves.

    Args:
        reference: the trial whose procedure is repeated on random features, and the `steering` that it gave.
    """
    plain = ground.data.predicted({})
    makers: dict[str, Callable[[], Steering]] = {
        "mean_difference": partial(_mean_difference, ground, plain),
        "probe_direction": partial(_probe_direction, ground, plain),
        "vector": partial(_vector, ground),
    }
    few, gold = ground.ground.few, ground.data.gold.numpy()
    sparse = few is None or few.sparse
    if few is not None and few.sparse and reference is not None and reference.method == "coupled":
        makers["whole_residual"] = partial(couple_whole, few, ground.ground.rows, gold)
    if reference is not None and steering is not None:
        makers["random_features" if sparse else "random_directions"] = partial(_random, ground, reference, steering)
    return dict(zip(makers, keep(makers), strict=True))


def _vector(ground: RivalGround) -> Steering:
    return fit(ground.data, fitted_vector_plan(ground.data.saes, ground.data.model.n_layers))


def _random(ground: RivalGround, reference: Trial, steering: Steering) -> Steering:
    """The reference's procedure on control features; gains that were not fitted are taken over as they are."""
    few, seed = ground.ground.few, ground.seed("random features")
    if few is not None and reference.method in COUPLINGS:
        return couple(few, ground.ground.rows, ground.data.gold.numpy(), control=seed).steering
    rng = np.random.default_rng(seed)

    def other(layer: int, n: int, taken: Array) -> Array:
        free = np.setdiff1d(ground.controls.get(layer, np.empty(0, int)), taken)
        if len(free) < n:
            free = np.setdiff1d(np.arange(ground.data.saes.d_sae(layer)), taken)
        return rng.choice(free, n, replace=False)

    if reference.plan is None:
        gains = {
            layer: Gains(torch.from_numpy(other(layer, len(g.features), g.features.numpy())), g.gains)
            for layer, g in steering.gains.items()
        }
        return Steering("random_features", gains)
    plan = reference.plan
    drawn: list[SteeredFeature] = []
    for layer in sorted({f.layer for f in plan.features}):
        taken = np.array([f.feature for f in plan.features if f.layer == layer])
        drawn += [SteeredFeature(layer, int(f), "", 0.0) for f in other(layer, len(taken), taken)]
    pools = {
        layer: other(layer, GATE_POOL, steering.gates[layer].features.numpy())
        for layer in (plan.layers if plan.gated else ())
    }
    control = replace(plan, method="random_features", features=tuple(drawn), gate_features=pools)
    return fit(ground.data, control, steps=reference.steps)


def _mean_difference(ground: RivalGround, plain: Array) -> Steering:
    """Contrastive activation addition (Panickssery et al. 2024): mean residual of the weakest emotion minus the rest.

    Layer and scale, including none at all, by macro-F1 on the fit split.
    """
    present = {ground.data.labels[i] for i in np.unique(ground.gold)}
    weak = weakest(ground.data, plain, present)
    if weak is None or len(present) < 2:
        return Steering("mean_difference")
    inside = torch.from_numpy(ground.gold == ground.data.labels.index(weak))
    directions = {}
    for layer in ground.data.saes.layers:
        residuals = ground.residuals(layer).float()
        directions[layer] = residuals[inside].mean(0) - residuals[~inside].mean(0)
    return _best_vector(ground, plain, "mean_difference", directions)


def _probe_direction(ground: RivalGround, plain: Array) -> Steering:
    """The weakest emotion's row of a logistic regression on the residuals, by scale and at the layer it reads best."""
    gold = ground.data.gold.numpy()
    present, counts = np.unique(gold, return_counts=True)
    if len(present) < 2 or counts.min() < LEAST:
        return Steering("probe_direction")
    weak = weakest(ground.data, plain, {ground.data.labels[i] for i in present})
    residuals = {k: ground.data.residuals(k).float().cpu().numpy() for k in ground.data.saes.layers}
    right = {k: probe_right(x, gold, ground.seed("probe")).mean() for k, x in residuals.items()}
    layer = max(right, key=lambda k: right[k])
    scaler = StandardScaler().fit(residuals[layer])
    inside = (gold == ground.data.labels.index(str(weak))).astype(int)
    probe = LogisticRegression(C=0.01, max_iter=300).fit(scaler.transform(residuals[layer]), inside)
    row = torch.from_numpy(probe.coef_[0] / scaler.scale_).float()
    length = UNIT_SHARE * np.linalg.norm(residuals[layer], axis=1).mean()
    return _best_vector(ground, plain, "probe_direction", {layer: row / row.norm() * float(length)})


def _best_vector(
    ground: RivalGround, plain: Array, method: str, directions: Mapping[int, Float[Tensor, " d_model"]]
) -> Steering:
    """The layer and scale of highest macro-F1 on the fit split, or nothing at all."""
    tried = {
        f"{layer} {scale}": Steering(method, vectors={layer: scale * direction})
        for layer, direction in directions.items()
        for scale in SCALES
    }
    trials = tried_each(replace(ground.data, anchors={}), tried)
    best = max(trials, key=lambda t: t.macro_f1)
    return tried[best.setting] if best.macro_f1 > score(ground.data, plain) else Steering(method)
