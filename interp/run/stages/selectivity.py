"""Stage `selectivity`: which features prefer which emotion."""

import pandas as pd

from interp.analysis.profiles import with_profiles
from interp.analysis.selectivity import selectivity
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage


@stage("selectivity", reads=("examples.parquet", "features"), writes=("selectivity.parquet",))
def run(session: Session) -> None:
    """Writes `selectivity.parquet` from the discover examples."""
    rows = session.role("discover")
    gold = session.gold(rows)
    flags = session.table["keyword_free"].iloc[rows]
    keyword_free = None if flags.isna().any() else flags.to_numpy(dtype=bool)

    def of_layer(layer: int) -> pd.DataFrame:
        acts = session.features(layer).acts[rows]
        table = selectivity(acts, gold, session.labels)
        table = with_profiles(table, acts, gold, session.labels, keyword_free, session.seed(f"halves {layer}"))
        table.insert(0, "layer", layer)
        return table

    parts = list(session.each_layer(of_layer, session.saes.layers, "selectivity"))
    tables.write(session.folder / "selectivity.parquet", pd.concat(parts, ignore_index=True))
