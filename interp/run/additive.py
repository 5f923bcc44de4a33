"""A constant push towards an emotion, for generation: its causal features as active as in its own texts, and more."""

import math
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file

from interp.analysis.features import load_features
from interp.errors import InterpWarning, UserError, nearest
from interp.files.stored import as_recorded
from interp.resources import NO_SAES
from interp.run.reading import RunFiles
from interp.saes.stack import SaeStack
from interp.steering.positions import Positions
from interp.steering.steering import ModelRecord, Provenance, Steering

FEATURES = 10
DIRECTION = "mean difference direction"
"""The method of `baselines.parquet` that tells where an emotion's direction matters."""
GENTLE = 0.4
"""The strength of a push where none is asked for: the largest in steps of 0.05 or 0.1 at which hardly a text of the
bundled model gets stuck (six prompts and six emotions, drawn at temperature 0.8: 2 of 36; 9 at 0.5, all at 1)."""


def towards(
    folder: Path,
    saes: SaeStack,
    emotion: str,
    strength: float = 1.0,
    positions: Positions = "all",
    *,
    lowest: int = 0,
) -> Steering:
    """Per layer, the sum of the directions of an emotion's causal features times their mean activation in its texts.

    Of a run without SAEs: the mean residual of its texts less that of the others, at the layer where taking that
    direction out costs the emotion's answer most.

    Args:
        folder: a run folder whose tracing is finished.
        strength: 1 adds what the emotion's own texts have on average; negative pushes away.
        lowest: the lowest layer that may be steered; features below make room for the next ones, which is said.

    Raises:
        UserError: an emotion that the run does not know or that has no causal feature, a strength that is not finite.
    """
    if not math.isfinite(strength):
        raise UserError(f"strength must be a finite number; got {strength}.")
    needed = "baselines.parquet" if saes.name == NO_SAES else "effects.parquet"
    for name in ("run.json", needed, "examples.parquet"):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}; run `interp trace` there first.")
    run = RunFiles(folder)
    if emotion not in run.labels:
        raise UserError(f"This run knows no emotion {emotion!r}{nearest(emotion, run.labels)}")
    model = ModelRecord(name=run.record["model"]["name"], identity=run.record["model"]["identity"])
    made_with = Provenance(model=model, emotion=emotion, strength=strength)
    if saes.name == NO_SAES:
        return Steering(
            "additive", vectors=_mean_difference(run, emotion, strength), positions=positions, provenance=made_with
        )
    effects, examples = run.causal_features(emotion), run.table("examples")
    if not len(effects) or examples is None:
        raise UserError(f"No causal feature of {emotion!r} was found in {folder}: there is nothing to push along.")
    ranked = effects.sort_values("effect", ascending=False).drop_duplicates(["layer", "feature"])
    top = ranked[ranked["layer"] >= lowest].head(FEATURES)
    if not len(top):
        raise UserError(f"All causal features of {emotion!r} lie below layer {lowest}: there is nothing to push along.")
    below = int((ranked.head(FEATURES)["layer"] < lowest).sum())
    if below:
        said = f"{below} of the {FEATURES} strongest features of {emotion} lie below layer {lowest} and are left out."
        warnings.warn(said, InterpWarning, stacklevel=2)
    as_recorded(folder, [f"features/layer_{layer:02d}.npz" for layer in top["layer"].unique()], run.record)
    own = ((examples["role"] == "discover") & (examples["gold"] == emotion)).to_numpy()
    vectors = {}
    for layer, part in top.groupby("layer"):
        features = part["feature"].to_numpy()
        acts = load_features(folder / f"features/layer_{layer:02d}.npz").acts[own][:, features].mean(0)
        directions = saes.directions(int(layer), features.tolist())
        vectors[int(layer)] = strength * (torch.as_tensor(acts, dtype=torch.float32) @ directions.cpu().float())
    return Steering("additive", vectors=vectors, positions=positions, provenance=made_with)


def _mean_difference(run: RunFiles, emotion: str, strength: float) -> dict[int, torch.Tensor]:
    table, examples = run.table("baselines"), run.table("examples")
    discover = None if examples is None else (examples["role"] == "discover").to_numpy()
    inside = None if examples is None else (examples["gold"] == emotion).to_numpy() & discover
    if table is None or inside is None or not inside.any():
        raise UserError(f"{run.folder} holds no text of {emotion!r} to push towards.")
    own = table[(table["emotion"] == emotion) & (table["method"] == DIRECTION)]
    layer = int(own.loc[own["effect"].idxmax(), "layer"])
    name = f"activations/layer_{layer:02d}.safetensors"
    as_recorded(run.folder, [name], run.record)
    residuals = load_file(run.folder / name)["residuals"].float()
    difference = residuals[torch.from_numpy(inside)].mean(0) - residuals[torch.from_numpy(discover & ~inside)].mean(0)
    return {layer: strength * difference}
