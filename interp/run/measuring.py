"""What removing features one by one does to examples of a run, as a table."""

import numpy as np
import pandas as pd
import torch

from interp.analysis.labelled import LabelledExamples
from interp.engine import TracedFeatures, ablate_one_by_one
from interp.files.units import Units
from interp.run.session import Session

SHARD = 128
"""Examples that are put into batches together; a batch is a unit of a measurement."""


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
        units: where the finished batches are kept, those of `SHARD` examples after another.

    Returns:
        Columns of `OneByOne.columns`; rows are those of `examples.parquet`.
    """
    rows, labels = examples.rows, list(session.labels)
    traced = {}
    for layer, of_layer in features.groupby("layer", sort=False):
        asked = [labels] * len(of_layer) if on_all else [[emotion] for emotion in of_layer["emotion"]]
        pairs = [(f, labels.index(e)) for f, emotions in zip(of_layer["feature"], asked, strict=True) for e in emotions]
        traced[int(layer)] = TracedFeatures.of(pairs, len(labels))
    if not len(rows) or not traced:
        return pd.DataFrame(columns=["row", "layer", "feature", "effect", "flipped"])
    position = session.config.tracing.position
    restricted = session.saes.restricted({layer: t.features.tolist() for layer, t in traced.items()})
    everywhere = list(traced) if position == "all" else []
    size = len(rows) if units is None else SHARD
    shards = [rows[start : start + size] for start in range(0, len(rows), size)]
    batches = [shard[chunk] for shard in shards for chunk in session.chunks(session.texts(shard), everywhere)]

    def removed(k: int) -> dict[str, np.ndarray]:
        def columns() -> dict[str, np.ndarray]:
            gold = torch.from_numpy(session.gold(batches[k]))
            captured = session.captured(session.texts(batches[k]), everywhere)
            found = ablate_one_by_one(session.model, restricted, captured, traced, gold, position=position)
            return found.columns(gold, batches[k])

        return columns() if units is None else dict(units.arrays(f"{description} {k:05d}", columns))

    shares = [len(batch) for batch in batches]
    parts = list(session.each(removed, range(len(batches)), f"trace {description}", "batch", shares=shares))
    return pd.DataFrame({name: np.concatenate([part[name] for part in parts]) for name in parts[0]})
