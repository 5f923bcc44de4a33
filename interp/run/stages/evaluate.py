"""Stage `evaluate`: the chosen steering scored once on the test corpora, beside other methods, prompts and probes."""

from typing import Any

import numpy as np
import pandas as pd

from interp.evaluation.recognition import method_scores, predictions, score_rows
from interp.evaluation.references import PROMPTS
from interp.evaluation.several import gold_sets, set_scores_by_method
from interp.run import tables
from interp.run.references import reference_logits, tuned_answers
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.steerings import load_steerings, steered_by, steering_quality
from interp.statistics import Bootstrap, Estimate

TUNED = "low_rank_tuning"


@stage(
    "evaluate",
    reads=("examples.parquet", "activations", "steering.safetensors", "steering.json", "steerings"),
    writes=("evaluation.parquet", "predictions.parquet", "units/evaluate"),
    fields=("steering.low_rank", "fluency", "resamples", "seed"),
    # asked twice more, behind solved examples; and under nine methods at seven strengths
    cost=lambda work: work.test * (2 * work.speeds.per_prompt + 9 * 7 * work.speeds.per_row),
)
def run(session: Session) -> None:
    """Writes `evaluation.parquet` and `predictions.parquet`; of a corpus with texts of several emotions, scores of
    sets over all its texts beside those of one right answer over the others."""
    steerings = load_steerings(session)
    units = session.units("evaluate").of([steered_by(session, steerings), session.config.steering.low_rank])
    rows = np.concatenate([session.role("test"), session.role("several")])
    edits: dict[str, Any] = {"unsteered": {}} | {name: s.edits(session.saes) for name, s in steerings.items()}
    logits = session.logits_under(rows, edits, "evaluate", units=units) | reference_logits(session, rows, units)
    lines: list[dict[str, Any]] = []
    tuned = tuned_answers(session, rows, units)
    if tuned is not None:
        logits[TUNED] = tuned.logits
        lines += score_rows("plain text", "all", {TUNED: tuned.cost})
    table = session.table.iloc[rows].reset_index(drop=True)
    for (corpus, split), part in table.groupby(["corpus", "split"], sort=False):
        places = part.index.to_numpy()
        single = places[(part["role"] == "test").to_numpy()]
        if len(single):
            scores = _scores(session, str(corpus), rows[single], {m: values[single] for m, values in logits.items()})
            lines += score_rows(str(corpus), str(split), scores)
        if len(single) < len(places):
            bootstrap = Bootstrap(part["group"].tolist(), session.config.resamples, session.seed(f"sets {corpus}"))
            sets = gold_sets(part["gold"].tolist(), session.labels)
            here = {method: values[places] for method, values in logits.items()}
            lines += score_rows(str(corpus), str(split), set_scores_by_method(sets, here, bootstrap))

    def quality(method: str) -> dict[str, Estimate]:
        return steering_quality(session, steerings[method], units)

    found = session.each(quality, list(steerings), "plain text", "method")
    for method, of_method in zip(steerings, found, strict=True):
        lines += score_rows("plain text", "all", {method: of_method})
    tables.write(session.folder / "predictions.parquet", predictions(table, logits, session.labels))
    tables.write(session.folder / "evaluation.parquet", pd.DataFrame(lines).assign(seed=session.config.seed))
    units.clear()


def _scores(session: Session, corpus: str, rows: np.ndarray, logits: dict[str, np.ndarray]) -> dict[str, Any]:
    groups = session.table["group"].iloc[rows].tolist()
    bootstrap = Bootstrap(groups, session.config.resamples, session.seed(f"test {corpus}"))
    return method_scores(session.gold(rows), logits, session.labels, PROMPTS, bootstrap)
