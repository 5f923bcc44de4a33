"""What steering on causal features must beat: the same on random features, and dense directions."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from interp.analysis.signals import probe_right
from interp.run import tables
from interp.run.session import Session
from interp.steering.choosing import GATED_PULL, Trial, gated_plans, score, weakest
from interp.steering.fit import FitData, Plan, Rows, SteeredFeature, answers, answers_each, fit
from interp.steering.steering import Gains, Steering

Array = np.ndarray
SCALES = (0.25, 0.5, 1.0, 2.0)
UNIT_SHARE = 0.2
"""Length of the probe's direction at scale 1, as a share of the mean residual norm."""
GATE_POOL = 64
"""Random features among which the control's gate may choose its own."""


def rivals(
    session: Session,
    data: FitData,
    features: list[SteeredFeature],
    reference: Trial | None,
    steering: Steering | None,
    keep: Callable[[str, Callable[[], Steering]], Steering],
) -> dict[str, Steering]:
    """By name: `random_features`, `vector` (fitted, ungated), `mean_difference` and `probe_direction`.

    Args:
        keep: (name, what makes it) -> the steering, made now or kept by an earlier attempt.
    """
    plain = answers(session.model, data.wanted, {}).argmax(-1).cpu().numpy()

    def vector() -> Steering:
        return fit(session.model, session.saes, data, fitted_vector_plan(session), Rows.whole(data))

    makers: dict[str, Callable[[], Steering]] = {
        "mean_difference": partial(_mean_difference, session, data, plain),
        "probe_direction": partial(_probe_direction, session, data, plain),
        "vector": vector,
    }
    if reference is not None and steering is not None:
        makers["random_features"] = partial(_random, session, data, features, reference, steering)
    return {name: keep(name, make) for name, make in makers.items()}


def _random(
    session: Session, data: FitData, features: list[SteeredFeature], reference: Trial, steering: Steering
) -> Steering:
    """The reference's procedure on control features; gains that were not fitted are taken over as they are."""
    rng = np.random.default_rng(session.seed("random features"))
    controls = _controls(session)

    def other(layer: int, n: int, taken: np.ndarray) -> np.ndarray:
        free = np.setdiff1d(controls.get(layer, np.empty(0, int)), taken)
        if len(free) < n:
            free = np.setdiff1d(np.arange(session.saes.d_sae(layer)), taken)
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
        mine = np.array([f.feature for f in plan.features if f.layer == layer])
        drawn += [SteeredFeature(layer, int(f), "", 0.0) for f in other(layer, len(mine), mine)]
    pools = {
        layer: other(layer, GATE_POOL, steering.gates[layer].features.numpy())
        for layer in (plan.layers if plan.gated else ())
    }
    control = replace(plan, method="random_features", features=tuple(drawn), gate_features=pools)
    return fit(session.model, session.saes, data, control, Rows.whole(data), reference.steps)


def _controls(session: Session) -> dict[int, np.ndarray]:
    """By layer, features matched in strength and firing rate, found without any effect on the answer."""
    effects = tables.read(session.folder / "effects.parquet")
    controls = effects[effects["control"]].drop_duplicates(["layer", "feature"])
    return {int(layer): part["feature"].to_numpy() for layer, part in controls.groupby("layer")}


def fitted_vector_plan(session: Session) -> Plan:
    """A constant vector fitted like a gated one, but let through everywhere, at the middle one of its layers."""
    middle = gated_plans(session.saes, session.model.n_layers)[0].layers
    return Plan("vector", "fitted", vectors=middle, pull=GATED_PULL)


def _mean_difference(session: Session, data: FitData, plain: Array) -> Steering:
    """Contrastive activation addition (Panickssery et al. 2024): mean residual of the weakest emotion minus the rest.

    Taken from the discover examples; layer and scale, including none at all, by macro-F1 on the fit split.
    """
    found = session.role("discover")
    gold = session.gold(found)
    present = {session.labels[i] for i in np.unique(gold)}
    weak = weakest(data, plain, session.labels, present)
    if weak is None or len(present) < 2:
        return Steering("mean_difference")
    inside = torch.from_numpy(gold == session.labels.index(weak))
    directions = {}
    for layer in session.saes.layers:
        residuals = session.residuals(layer)[found].float()
        directions[layer] = residuals[inside].mean(0) - residuals[~inside].mean(0)
    return _best_vector(session, data, plain, "mean_difference", directions)


def _probe_direction(session: Session, data: FitData, plain: Array) -> Steering:
    """The weakest emotion's row of a logistic regression on the residuals, by scale and at the layer it reads best."""
    gold = data.gold.numpy()
    if len(np.unique(gold)) < 2 or np.bincount(gold)[np.unique(gold)].min() < 5:
        return Steering("probe_direction")
    weak = weakest(data, plain, session.labels, {session.labels[i] for i in np.unique(gold)})
    residuals = {k: data.residuals(k).float().cpu().numpy() for k in session.saes.layers}
    right = {k: probe_right(x, gold, session.seed("probe")).mean() for k, x in residuals.items()}
    layer = max(right, key=lambda k: right[k])
    scaler = StandardScaler().fit(residuals[layer])
    own = (gold == session.labels.index(str(weak))).astype(int)
    probe = LogisticRegression(C=0.01, max_iter=300).fit(scaler.transform(residuals[layer]), own)
    row = torch.from_numpy(probe.coef_[0] / scaler.scale_).float()
    length = UNIT_SHARE * np.linalg.norm(residuals[layer], axis=1).mean()
    return _best_vector(session, data, plain, "probe_direction", {layer: row / row.norm() * float(length)})


def _best_vector(
    session: Session, data: FitData, plain: Array, method: str, directions: dict[int, torch.Tensor]
) -> Steering:
    """The layer and scale of highest macro-F1 on the fit split, or nothing at all."""
    tried = {
        (layer, scale): Steering(method, vectors={layer: scale * direction})
        for layer, direction in directions.items()
        for scale in SCALES
    }
    edits = {key: steering.edits(session.saes) for key, steering in tried.items()}
    best, best_score = Steering(method), score(data, plain)
    for key, logits in answers_each(session.model, data.wanted, edits).items():
        reached = score(data, logits.argmax(-1).cpu().numpy())
        if reached > best_score:
            best, best_score = tried[key], reached
    return best
