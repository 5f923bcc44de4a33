"""Steering of several runs side by side: what five labels bring, and what carries over from one corpus to others."""

from collections.abc import Sequence

import pandas as pd

from interp.findings.measuring import RunFindings
from interp.findings.recognition import PROMISED
from interp.report.markdown import table_of_words
from interp.run.carrying import carried
from interp.run.reading import score_of
from interp.statistics import Estimate

METHODS = {
    "answer_prior": "answers centred",
    "answer_bias": "bias on answers",
    "coupled": "coupled",
    "random_features": "random features",
    "probe": "linear probe",
}
"""By method of `learning.parquet`, what its column is called."""
COUPLED = "coupled"


def few_labels(found: Sequence[RunFindings]) -> str:
    """Macro-F1 on each run's own test corpus with five labels an emotion, a row a run; empty where none has a curve."""
    rows = [row for one in found if (row := _few_labels(one)) is not None]
    if not rows:
        return ""
    head = ["run", "draws", "unsteered", *METHODS.values(), "coupled over unsteered", "over a bias", "random's share"]
    return "\n\n".join(
        [
            f"## With {PROMISED} labels an emotion",
            "Macro-F1 in points on held-out texts of the run's own corpus, mean over draws of labels; changes"
            " with 95 % intervals over draws and texts. Nothing was chosen: every draw counts, whatever it was worth."
            " Centred answers use texts without labels; random features went through the same procedure and add no more"
            " than the coupling does.",
            table_of_words([head, ["---"] * len(head), *rows]),
        ]
    )


def _few_labels(one: RunFindings) -> list[str] | None:
    curve, scores = one.run.table("learning"), one.run.table("evaluation")
    if curve is None or scores is None or "labels" not in curve:
        return None
    corpus = str(curve["corpus"].iloc[0])
    own = curve[(curve["corpus"] == corpus) & curve["labels"].isin([PROMISED, 0])]
    own = own.sort_values("labels").drop_duplicates("method", keep="last").set_index("method")
    before = score_of(scores[scores["corpus"] == corpus], "unsteered", "macro_f1")
    if COUPLED not in own.index or own.loc[COUPLED, "labels"] != PROMISED or before is None:
        return None
    coupled = own.loc[COUPLED]
    random = own["value"].get("random_features")
    share = f"{random / coupled['value']:.0%}" if random is not None and coupled["value"] > 0 else "-"
    over = Estimate(coupled["over_bias"], coupled["over_bias_low"], coupled["over_bias_high"], int(coupled["n"]))
    values = [f"{100 * own.loc[m, 'macro_f1']:.1f}" if m in own.index else "-" for m in METHODS]
    changes = [_points(Estimate.of(coupled)), _points(over) if pd.notna(over.value) else "-"]
    return [one.title, str(int(coupled["draws"])), f"{100 * before.value:.1f}", *values, *changes, share]


def transfer(found: Sequence[RunFindings]) -> str:
    """What each run's coupling changes on every corpus it was tested on, a row a run; empty where none has two."""
    rows, corpora = {}, []
    for one in found:
        gains = carried(one.run)
        if len(gains) < 2:
            continue
        rows[one.title] = {
            g["corpus"]: f"{_points(Estimate(g['gain'], g['ci_low'], g['ci_high'], g['n']))} (n = {g['n']})"
            for g in gains.to_dict("records")
        }
        corpora += [c for c in gains["corpus"] if c not in corpora]
    if not rows:
        return ""
    lines = [[title, *(own.get(c, "-") for c in corpora)] for title, own in rows.items()]
    return "\n\n".join(
        [
            "## What carries over",
            "Change of macro-F1 in points, on every corpus, of the coupling that was made once on the run's own fit"
            " texts; 95 % intervals, paired on the same texts.",
            table_of_words([["made on", *corpora], ["---"] * (1 + len(corpora)), *lines]),
        ]
    )


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} [{100 * estimate.ci_low:+.1f}, {100 * estimate.ci_high:+.1f}]"
