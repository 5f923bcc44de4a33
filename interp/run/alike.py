"""Two runs whose models read the same texts: which features of the one are found again in the other, from their files.

Two models, or two autoencoders of one model (the ceiling: how far the same residuals give the same features).
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from interp.analysis.effect_rows import effects_on
from interp.analysis.matching import (
    LEAST_TEXTS,
    PERMUTATIONS,
    Causes,
    Matches,
    TextFeatures,
    by_emotion,
    match_features,
)
from interp.analysis.similarity import similarity, similarity_table
from interp.errors import UserError
from interp.files.stored import as_recorded
from interp.run.reading import RunFiles

Array = np.ndarray
OTHER_MODEL, OTHER_SAES, SAME_SAES = "another model", "other SAEs of the same model", "the same SAEs"


class RunMatches(NamedTuple):
    """What was found again of one run's features in another's.

    Attributes:
        kind: what the other run has in common with the first: one of `OTHER_MODEL`, `OTHER_SAES`, `SAME_SAES`.
        n: texts that both read.
        features: `Matches.features`, with the emotions that a feature and its partner are causal for (`causal`,
            `causal_beside`, joined by commas; empty: for none).
        layers: `Matches.layers` with `cka` of the residuals.
        emotions: see `interp.analysis.matching.by_emotion`.
    """

    kind: str
    n: int
    features: pd.DataFrame
    layers: pd.DataFrame
    emotions: pd.DataFrame


def match_runs(one: RunFiles, other: RunFiles, *, permutations: int = PERMUTATIONS, seed: int = 0) -> RunMatches:
    """The features of one run matched with those of another on the discover texts that both read.

    Raises:
        UserError: one run is the other, one has no features, or they have too few discover texts in common.
    """
    if one.folder.resolve() == other.folder.resolve():
        raise UserError(f"{one.folder} is matched with itself; give another run.")
    rows = shared_rows(one, other)
    sides = [TextFeatures.of(_activations(run, own)) for run, own in ((one, rows.one), (other, rows.other))]
    for run, side in zip((one, other), sides, strict=True):
        if not len(side.layers):
            raise UserError(
                f"{run.folder}: no feature fires on enough of the {len(rows.one)} texts in common to be matched."
            )
    groups = pd.factorize(_examples(one)["gold"].iloc[rows.one])[0]
    matches = match_features(sides[0], sides[1], groups=groups, permutations=permutations, seed=seed)
    emotions = [label for label in one.labels if label in other.labels]
    causes = Causes(one.causal_for(), other.causal_for(), _controls(one))
    covered = [np.unique(side.layers).tolist() for side in sides]
    residuals = [
        [_residuals(run, layer, own) for layer in layers]
        for run, own, layers in zip((one, other), rows, covered, strict=True)
    ]
    ours, theirs = covered
    cka = similarity_table(ours, theirs, similarity(*residuals))
    return RunMatches(
        _kind(one, other),
        len(rows.one),
        _with_causes(matches, causes),
        matches.layers.merge(cka, on=["layer", "layer_beside"]),
        by_emotion(matches, sides[1], emotions, causes),
    )


class SharedRows(NamedTuple):
    """Rows of `examples.parquet` of two runs that hold the same texts, in the same order."""

    one: Array
    other: Array


def shared_rows(one: RunFiles, other: RunFiles) -> SharedRows:
    """The discover texts that both runs read.

    Raises:
        UserError: too few.
    """
    places = []
    for run in (one, other):
        table = _examples(run)
        own = np.flatnonzero(table["role"] == "discover")
        places.append({text: int(row) for text, row in zip(table["text"].iloc[own], own, strict=True)})
    texts = [text for text in places[0] if text in places[1]]
    if len(texts) < LEAST_TEXTS:
        have = "no discover text" if not texts else f"{len(texts)} discover text{'s' if len(texts) > 1 else ''}"
        raise UserError(
            f"{one.folder} and {other.folder} have {have} in common, and features are matched on at least"
            f" {LEAST_TEXTS}; trace both on the same corpus, split, limit and seed."
        )
    return SharedRows(*(np.array([place[text] for text in texts]) for place in places))


def _examples(run: RunFiles) -> pd.DataFrame:
    table = run.table("examples")
    if table is None:
        raise UserError(f"{run.folder} holds no examples.parquet; run `interp trace` there first.")
    return table


def _activations(run: RunFiles, rows: Array) -> dict[int, csr_array]:
    """[text, d_sae] by layer."""
    from interp.analysis.features import load_features  # beside what encodes them, with torch

    layers = run.record["saes"]["layers"]
    files = [f"features/layer_{layer:02d}.npz" for layer in layers]
    absent = next((file for file in files if not (run.folder / file).is_file()), None)
    if absent is not None or not files:
        raise UserError(f"{run.folder} holds no {absent or 'features'}; run `interp trace` there first.")
    as_recorded(run.folder, files, run.record)
    return {layer: load_features(run.folder / file).acts[rows] for layer, file in zip(layers, files, strict=True)}


def _residuals(run: RunFiles, layer: int, rows: Array) -> Array:
    from safetensors.torch import load_file  # numpy has no bfloat16

    path = Path(f"activations/layer_{layer:02d}.safetensors")
    if not (run.folder / path).is_file():
        raise UserError(f"{run.folder} holds no {path}; run `interp trace` there first.")
    as_recorded(run.folder, [str(path)], run.record)
    residuals: Array = load_file(run.folder / path)["residuals"][rows.tolist()].double().numpy()
    return residuals


def _controls(run: RunFiles) -> dict[str, set[tuple[int, int]]]:
    effects = run.table("effects")
    if effects is None:
        return {}
    drawn = effects_on(effects)
    drawn = drawn[drawn["control"].astype(bool)]
    return {
        str(emotion): set(zip(part["layer"].tolist(), part["feature"].tolist(), strict=True))
        for emotion, part in drawn.groupby("emotion")
    }


def _with_causes(matches: Matches, causes: Causes) -> pd.DataFrame:
    table = matches.features.copy()
    for column, layer, feature, causal in (
        ("causal", "layer", "feature", causes.causal),
        ("causal_beside", "layer_beside", "feature_beside", causes.causal_beside),
    ):
        keys = zip(table[layer].tolist(), table[feature].tolist(), strict=True)
        table[column] = [", ".join(causal.get(key, ())) for key in keys]
    return table


def _kind(one: RunFiles, other: RunFiles) -> str:
    model, saes = (one.record[part]["identity"] == other.record[part]["identity"] for part in ("model", "saes"))
    return SAME_SAES if model and saes else OTHER_SAES if model else OTHER_MODEL
