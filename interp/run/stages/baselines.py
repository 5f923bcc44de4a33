"""Stage `baselines`: the ablations that the field uses, on the same examples, layer by layer."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from interp.engine import answers_under_each
from interp.engine.ablation import ResidualEdit
from interp.engine.capture import Captured
from interp.engine.modules import Part, module_outputs, residuals_with
from interp.run import tables
from interp.run.session import Session
from interp.statistics import mean_estimates, resample_weights

PARTS: tuple[Part, ...] = ("attention", "mlp")


class Direction(NamedTuple):
    """Unit directions by emotion, and the mean residual."""

    units: Float[Tensor, "emotion d_model"]
    centre: Float[Tensor, " d_model"]


COLUMNS = ["layer", "method", "emotion", "n", "effect", "ci_low", "ci_high"]


def run(session: Session) -> None:
    """Writes `baselines.parquet`: per layer, method and emotion, the mean effect on the gold answer, in nats.

    Directions come from the discover examples and are removed from the fit examples: the projection of the centred
    residual on the emotion's unit direction is set to zero (Arditi et al. 2024). *mean difference*: mean residual of
    the emotion minus that of the others; *probe*: the emotion's weights of a logistic regression; *random*: a normal
    vector. *attention*, *mlp*: their outputs at the answer position set to zero, or to the mean over the fit examples.
    """
    rows = session.role("fit")
    gold = session.gold(rows)
    if not len(rows):
        tables.write(session.folder / "baselines.parquet", pd.DataFrame(columns=COLUMNS))
        return
    directions = _directions(session)
    means = _module_means(session, rows)
    effects: dict[tuple[int, str], np.ndarray] = {}
    units = session.units("baselines")
    texts = [session.examples[r][1].text for r in rows]
    for k, chunk in enumerate(session.progress(session.chunks(texts), "baselines", "batch")):
        captured = partial(session.captured, [texts[i] for i in chunk])
        own = torch.from_numpy(gold[chunk])
        found = units.arrays(f"batch {k:05d}", partial(_effects, session, captured, directions, means, own))
        for name, drop in found.items():
            layer, method = name.split("/")
            effects.setdefault((int(layer), method), np.zeros(len(rows)))[chunk] = drop
    tables.write(session.folder / "baselines.parquet", _table(session, rows, gold, effects))
    units.clear()


def _effects(
    session: Session,
    capture: Callable[[], Captured],
    directions: dict[tuple[int, str], Direction],
    means: dict[tuple[int, Part], Tensor],
    gold: Int[Tensor, " example"],
) -> dict[str, np.ndarray]:
    """Under `layer/method`, the fall of every example's gold log-probability, all ablations in common passes."""
    model, captured = session.model, capture()
    target = gold.to(model.device)
    edits: dict[str, dict[int, ResidualEdit]] = {}
    for (layer, method), (units, centre) in directions.items():
        edits[f"{layer}/{method}"] = {layer: _without(units.to(model.device)[target], centre)}
    zero = torch.zeros(model.d_model, device=model.device, dtype=model.dtype)
    for layer in range(model.n_layers):
        values = {part: [zero, means[layer, part]] for part in PARTS}
        for part, rows in residuals_with(model, captured, layer=layer, values=values).items():
            for column, how in enumerate(("zero", "mean")):
                edits[f"{layer}/{part}, {how}"] = {layer: _given(rows[:, column])}
    clean = captured.answer_log_probabilities.gather(1, target[:, None])[:, 0]
    return {
        name: (clean - logits.log_softmax(-1).gather(1, target[:, None])[:, 0]).cpu().numpy()
        for name, logits in answers_under_each(model, captured, edits).items()
    }


def _without(unit: Float[Tensor, "example d_model"], centre: Float[Tensor, " d_model"]) -> ResidualEdit:
    """Takes each example's own direction out of its centred residual; examples in the order of the capture."""

    def edit(x: Tensor) -> Tensor:
        own, mean = unit.to(x.dtype), centre.to(x.device, x.dtype)
        return x - ((x - mean) * own).sum(-1, keepdim=True) * own

    return edit


def _given(rows: Float[Tensor, "example d_model"]) -> ResidualEdit:
    """Puts these rows in the place of the residuals; examples in the order of the capture."""
    return lambda _: rows


def _directions(session: Session) -> dict[tuple[int, str], Direction]:
    """Per layer and method: unit directions [emotion, d_model], and the mean residual."""
    rows = session.role("discover")
    gold, n_labels = session.gold(rows), len(session.labels)
    found: dict[tuple[int, str], Direction] = {}
    for layer in session.progress(range(session.model.n_layers), "directions", "layer"):
        x = session.residuals(layer)[rows].float().numpy()
        rng = np.random.default_rng(session.seed(f"random direction {layer}"))
        candidates = {
            "mean difference": _mean_differences(x, gold, n_labels),
            "probe": _probe_weights(x, gold, n_labels),
            "random": rng.standard_normal((n_labels, x.shape[1])),
        }
        centre = torch.from_numpy(x.mean(0))
        for name, vectors in candidates.items():
            norms = np.linalg.norm(vectors, axis=1, keepdims=True)
            units = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
            found[layer, f"{name} direction"] = Direction(torch.from_numpy(units).float(), centre)
    return found


def _mean_differences(x: np.ndarray, gold: np.ndarray, n_labels: int) -> np.ndarray:
    out = np.zeros((n_labels, x.shape[1]))
    for emotion in np.unique(gold):
        inside = gold == emotion
        if not inside.all():
            out[emotion] = x[inside].mean(0) - x[~inside].mean(0)
    return out


def _probe_weights(x: np.ndarray, gold: np.ndarray, n_labels: int) -> np.ndarray:
    """Weights in residual units, those of the mean class taken off."""
    out = np.zeros((n_labels, x.shape[1]))
    classes = np.unique(gold)
    if len(classes) < 2:
        return out
    scaler = StandardScaler().fit(x)
    weights = LogisticRegression(C=0.1, max_iter=300).fit(scaler.transform(x), gold).coef_
    weights = np.concatenate([-weights, weights]) if len(classes) == 2 else weights - weights.mean(0)
    out[classes] = weights / scaler.scale_
    return out


def _module_means(session: Session, rows: np.ndarray) -> dict[tuple[int, Part], Tensor]:
    totals: dict[tuple[int, Part], Tensor] = {}
    for _, captured in session.cached(rows, "module means"):
        for layer in range(session.model.n_layers):
            for part in PARTS:
                outputs = module_outputs(session.model, captured, layer=layer, part=part).double().sum(0)
                totals[layer, part] = totals.get((layer, part), torch.zeros_like(outputs)) + outputs
    return {key: (total / len(rows)).to(session.model.dtype) for key, total in totals.items()}


def _table(
    session: Session, rows: np.ndarray, gold: np.ndarray, effects: dict[tuple[int, str], np.ndarray]
) -> pd.DataFrame:
    groups = session.table["group"].iloc[rows].to_numpy()
    keys = sorted(effects)
    parts = []
    for emotion, label in enumerate(session.labels):
        members = np.flatnonzero(gold == emotion)
        if not len(members):
            continue
        weights = resample_weights(
            groups[members].tolist(), session.config.resamples, session.seed(f"baselines {label}")
        )
        mean, low, high = mean_estimates(np.stack([effects[k][members] for k in keys], 1), weights)
        part = pd.DataFrame(keys, columns=["layer", "method"])
        parts.append(part.assign(emotion=label, n=len(members), effect=mean, ci_low=low, ci_high=high))
    return pd.concat(parts, ignore_index=True)[COLUMNS]
