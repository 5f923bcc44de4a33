"""What carries over: how much a run's steering changes on every corpus that it was scored on."""

import pandas as pd

from interp.run.reading import PLAIN, RunFiles, score_of

PREFERRED = ("coupled", "steered")
"""Methods of which what carries over is told: the first that a run has. What was chosen may be none."""
COLUMNS = ("method", "corpus", "own", "unsteered", "gain", "ci_low", "ci_high", "n")


def carried(run: RunFiles) -> pd.DataFrame:
    """Change of macro-F1 on every test corpus, of the steering that was made once on the run's fit texts.

    Returns:
        method, corpus, own (whether the steering was made on other texts of this corpus), unsteered, gain, ci_low,
        ci_high, n: a row a corpus; none where the run scored no steering.
    """
    scores = run.table("evaluation")
    present = set() if scores is None else set(scores["method"])
    method = next((m for m in PREFERRED if m in present), None)
    rows = []
    if scores is not None and method is not None:
        own = run.record["config"]["corpora"]["fit"]["name"]
        for corpus, part in scores[scores["corpus"] != PLAIN].groupby("corpus", sort=False):
            before, gain = score_of(part, "unsteered", "macro_f1"), score_of(part, method, "macro_f1_gain")
            if before is not None and gain is not None:
                change = (gain.value, gain.ci_low, gain.ci_high, gain.n)
                rows.append((method, str(corpus), corpus == own, before.value, *change))
    return pd.DataFrame(rows, columns=list(COLUMNS))
