"""Stage `why`: one row per emotion that says why it is easy or hard for this model."""

import numpy as np

from interp.analysis.emotions_compared import EmotionTables, emotions_compared
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage


@stage(
    "why",
    reads=(
        "examples.parquet",
        "selectivity.parquet",
        "effects.parquet",
        "concentration.parquet",
        "joint.parquet",
        "overshadowing.parquet",
        "insertion.parquet",
        "cofiring.parquet",
    ),
    writes=("why.parquet",),
)
def run(session: Session) -> None:
    """Writes `why.parquet` from the tables of the stages before it."""
    rows = session.role("discover")
    measured = EmotionTables(*(tables.read(session.folder / f"{name}.parquet") for name in EmotionTables._fields))
    traced = np.isin(rows, session.traced_rows())
    tables.write(
        session.folder / "why.parquet", emotions_compared(session.table.iloc[rows], traced, measured, session.labels)
    )
