"""Stage `baselines`: the ablations that the field uses, on the same examples, layer by layer."""

from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.baselines import Ablation, Directions, baseline_effects, emotion_directions
from interp.engine import answers_under_each
from interp.engine.ablation import ResidualEdit
from interp.engine.capture import Captured
from interp.engine.modules import Part, module_outputs, residuals_with
from interp.run import tables
from interp.run.session import Session

PARTS: tuple[Part, ...] = ("attention", "mlp")
"""Modules whose output at the answer position is set to zero, or to the mean over the fit examples."""


def run(session: Session) -> None:
    """Writes `baselines.parquet`: per layer, method and emotion, the mean effect on the gold answer, in nats.

    Directions come from the discover examples and are removed from the fit examples: the projection of the centred
    residual on the emotion's unit direction is set to zero (Arditi et al. 2024).
    """
    rows = session.role("fit")
    table = pd.DataFrame()
    if len(rows):
        examples, units = session.labelled(rows), session.units("baselines")
        effects = partial(
            _effects, session, _directions(session), _module_means(session, rows), torch.from_numpy(examples.gold)
        )
        found = session.collect(rows, effects, "baselines", units=units)
        ablations = {Ablation(int(layer), method): name for name in found for layer, method in [name.split("/")]}
        table = baseline_effects({a: found[name].double().numpy() for a, name in ablations.items()}, examples)
    tables.write(session.folder / "baselines.parquet", table)
    session.units("baselines").clear()


def _effects(
    session: Session,
    directions: dict[Ablation, Directions],
    means: dict[tuple[int, Part], Tensor],
    gold: Int[Tensor, " example"],
    captured: Captured,
    places: list[int],
) -> dict[str, Float[Tensor, " example"]]:
    """Under `layer/method`, the fall of every example's gold log-probability, all ablations in common passes."""
    model, target = session.model, gold[places].to(session.model.device)
    edits: dict[str, dict[int, ResidualEdit]] = {
        f"{layer}/{method}": {layer: _without(*(torch.from_numpy(x).float().to(model.device) for x in found), target)}
        for (layer, method), found in directions.items()
    }
    zero = torch.zeros(model.d_model, device=model.device, dtype=model.dtype)
    for layer in range(model.n_layers):
        values = {part: [zero, means[layer, part]] for part in PARTS}
        for part, rows in residuals_with(model, captured, layer=layer, values=values).items():
            for column, how in enumerate(("zero", "mean")):
                edits[f"{layer}/{part}, {how}"] = {layer: partial(_given, rows[:, column])}
    clean = captured.answer_log_probabilities.gather(1, target[:, None])[:, 0]
    return {
        name: clean - logits.log_softmax(-1).gather(1, target[:, None])[:, 0]
        for name, logits in answers_under_each(model, captured, edits).items()
    }


def _without(
    units: Float[Tensor, "emotion d_model"], centre: Float[Tensor, " d_model"], gold: Int[Tensor, " example"]
) -> ResidualEdit:
    """Takes each example's own direction out of its centred residual; examples in the order of the capture."""

    def edit(x: Float[Tensor, "example d_model"]) -> Float[Tensor, "example d_model"]:
        unit, mean = units[gold].to(x.dtype), centre.to(x.dtype)
        return x - ((x - mean) * unit).sum(-1, keepdim=True) * unit

    return edit


def _given(rows: Float[Tensor, "example d_model"], _: Tensor) -> Float[Tensor, "example d_model"]:
    """Puts these rows in the place of the residuals; examples in the order of the capture."""
    return rows


def _directions(session: Session) -> dict[Ablation, Directions]:
    rows = session.role("discover")
    gold, found = session.gold(rows), {}
    for layer in session.progress(range(session.model.n_layers), "directions", "layer"):
        residuals = session.residuals(layer)[rows].float().numpy()
        seed = session.seed(f"random direction {layer}")
        of_layer = emotion_directions(residuals, gold, len(session.labels), seed)
        found |= {Ablation(layer, method): directions for method, directions in of_layer.items()}
    return found


def _module_means(session: Session, rows: np.ndarray) -> dict[tuple[int, Part], Float[Tensor, " d_model"]]:
    totals: dict[tuple[int, Part], Tensor] = {}
    for _, captured in session.cached(rows, "module means"):
        for layer in range(session.model.n_layers):
            for part in PARTS:
                total = module_outputs(session.model, captured, layer=layer, part=part).double().sum(0)
                totals[layer, part] = totals.get((layer, part), 0) + total
    return {key: (total / len(rows)).to(session.model.dtype) for key, total in totals.items()}
