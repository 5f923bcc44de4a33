"""What removing features one by one does to examples of a run, as a table."""

from functools import partial

import numpy as np
import pandas as pd
import torch

from interp.analysis.labelled import LabelledExamples
from interp.engine import TracedFeatures, ablate_one_by_one
from interp.files.units import Units
from interp.run.session import Session

SHARD = 128
"""Examples per unit of a measurement."""


def measured(
    session: Session,
    features: pd.DataFrame,
    examples: LabelledExamples,
    description: str,
    *,
    on_all: bool = False,
    units: Units | None = None,
) -> pd.DataFrame:
    """A row for each feature and each example of its emotion on which it is active.

    Args:
        features: columns layer, feature and emotion (a label).
        on_all: on examples of all emotions.
        units: where the finished parts are kept, `SHARD` examples each.

    Returns:
        Columns of `OneByOne.columns`; rows are those of `examples.parquet`.
    """
    rows, labels = examples.rows, list(session.labels)
    traced = {}
    for layer, of_layer in features.groupby("layer", sort=False):
        asked = [labels] * len(of_layer) if on_all else [[emotion] for emotion in of_layer["emotion"]]
        pairs = [(f, labels.index(e)) for f, emotions in zip(of_layer["feature"], asked, strict=True) for e in emotions]
        traced[int(layer)] = TracedFeatures.of(pairs, len(labels))
    position = session.config.tracing.position
    restricted = session.saes.restricted({layer: t.features.tolist() for layer, t in traced.items()})

    def removed(shard: np.ndarray, shown: str) -> dict[str, np.ndarray]:
        parts = []
        for chunk, captured in session.cached(shard, shown, list(traced) if position == "all" else []):
            gold = torch.from_numpy(session.gold(chunk))
            found = ablate_one_by_one(session.model, restricted, captured, traced, gold, position=position)
            parts.append(found.columns(gold, chunk))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    if not len(rows) or not traced:
        return pd.DataFrame(columns=["row", "layer", "feature", "effect", "flipped"])
    if units is None:
        return pd.DataFrame(removed(rows, description))
    shards = [rows[start : start + SHARD] for start in range(0, len(rows), SHARD)]
    makers = [partial(removed, shard, f"trace {description} {k + 1}") for k, shard in enumerate(shards)]
    parts = [pd.DataFrame(units.arrays(f"{description} {k:05d}", make)) for k, make in enumerate(makers)]
    return pd.concat(parts, ignore_index=True)
