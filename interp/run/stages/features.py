"""Stages `features` and `selectivity`: sparse features of every layer, and which of them prefer which emotion."""

from functools import partial

import pandas as pd

from interp.analysis.features import encode_layer, save_features
from interp.analysis.profiles import with_profiles
from interp.analysis.selectivity import selectivity
from interp.run import tables
from interp.run.session import Session


def run_features(session: Session) -> None:
    """Writes `features/layer_XX.npz`, a layer at a time."""
    for layer in session.progress(session.saes.layers, "features", "layer"):
        path = session.folder / f"features/layer_{layer:02d}.npz"
        if not path.exists():
            save_features(path, encode_layer(session.saes, layer, partial(session.residual_batches, layer)))


def run_selectivity(session: Session) -> None:
    """Writes `selectivity.parquet` from the discover examples."""
    rows = session.role("discover")
    gold = session.gold(rows)
    flags = session.table["keyword_free"].iloc[rows]
    keyword_free = None if flags.isna().any() else flags.to_numpy(dtype=bool)
    parts = []
    for layer in session.progress(session.saes.layers, "selectivity", "layer"):
        acts = session.features(layer).acts[rows]
        found = selectivity(acts, gold, session.labels)
        found = with_profiles(found, acts, gold, session.labels, keyword_free, session.seed(f"halves {layer}"))
        found.insert(0, "layer", layer)
        parts.append(found)
    tables.write(session.folder / "selectivity.parquet", pd.concat(parts, ignore_index=True))
