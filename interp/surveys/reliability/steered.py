"""Measures of the steered model paired with those of the unsteered one, question by question."""

from pathlib import Path

import pandas as pd

from interp.defaults import RESAMPLES
from interp.files.folder import write_table
from interp.statistics import Bootstrap
from interp.surveys.reliability.emotion_scoring import answered, at_reference
from interp.surveys.reliability.pairing import comparisons, with_answers


def write_changes(before: Path, after: Path, *, resamples: int = RESAMPLES, seed: int = 0) -> pd.DataFrame:
    """measure, before, after, change, ci_low, ci_high, n; written to `changes.parquet` beside the unsteered scores.

    Args:
        before, after: folders of two runs that asked the same.
    """
    readers = {"answers.parquet": _questions, "emotion_answers.parquet": _texts}
    parts = [
        _paired(read(pd.read_parquet(before / name)), read(pd.read_parquet(after / name)), resamples, seed)
        for name, read in readers.items()
        if (before / name).exists()
    ]
    changes = pd.concat(parts, ignore_index=True)
    write_table(before / "changes.parquet", changes)
    return changes


def _questions(table: pd.DataFrame) -> pd.DataFrame:
    """measure, question, value: shares of a questionnaire by question."""
    parts = []
    for comparison in comparisons(with_answers(table)):
        rows = comparison.rows
        value = rows["value"] if "value" in rows else (rows["before"] == rows["after"]).astype(float)
        parts.append(pd.DataFrame({"measure": comparison.measure, "question": rows["question"], "value": value}))
    return pd.concat(parts)


def _texts(table: pd.DataFrame) -> pd.DataFrame:
    """measure, question, value: accuracy and flips of recognised emotions by text."""
    labels = [c.removeprefix("p_") for c in table if c.startswith("p_")]
    varied = at_reference(answered(table, labels), "order")
    base = varied[varied["order"] == "given"].set_index("question")["code"]
    others = varied[varied["order"] != "given"]
    flips = (others["code"] != base.loc[others["question"]].to_numpy()).astype(float)
    right = (varied["code"] == varied["gold_code"]).astype(float)
    return pd.concat(
        [
            pd.DataFrame({"measure": "flip_rate", "question": others["question"], "value": flips}),
            pd.DataFrame({"measure": "accuracy", "question": varied["question"], "value": right})[
                (varied["order"] == "given").to_numpy()
            ],
        ]
    )


def _paired(before: pd.DataFrame, after: pd.DataFrame, resamples: int, seed: int) -> pd.DataFrame:
    lines = []
    key = ["measure", "question"]
    joined = before.groupby(key, sort=False)["value"].mean().to_frame("before")
    joined = joined.join(after.groupby(key, sort=False)["value"].mean().rename("after"), how="inner").dropna()
    for measure, part in joined.groupby(level="measure", sort=False):
        change = Bootstrap(range(len(part)), resamples, seed).mean((part["after"] - part["before"]).to_numpy())
        means = {"before": part["before"].mean(), "after": part["after"].mean()}
        lines.append({"measure": measure, **means, **change.row("change")})
    return pd.DataFrame(lines)
