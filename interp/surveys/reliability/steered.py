"""The same questions asked of a steered model, each measure paired with the unsteered model's."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from interp.errors import UserError
from interp.files.folder import write_table
from interp.models.language_model import LanguageModel
from interp.statistics import Bootstrap
from interp.steering.steering import Steering
from interp.surveys.reliability.emotion_scoring import answered, at_reference
from interp.surveys.reliability.pairing import comparisons, with_answers
from interp.surveys.reliability.running import Outcome, Settings


def settings_of(folder: Path, model: LanguageModel, settings: Settings) -> Settings:
    """The settings with a saved steering, at the positions that it was saved with.

    Raises:
        UserError: no steering there, one of another model, or one that leaves the model alone.
    """
    steering = Steering.load(folder)
    if not steering.layers:
        raise UserError(f"The steering in {folder} is none: it leaves the model alone. Leave --steering out.")
    state = f"steered: {steering.method}, {steering.provenance.get('setting', folder.name)}, at {steering.positions}"
    saes = steering.loaded_saes(model)
    if settings.generate or steering.positions == "all":
        return replace(settings, state=state, around=lambda: steering.applied(model, saes))
    return replace(settings, state=state, edits=steering.edits(saes), positions=steering.positions)


def write_changes(before: Outcome, after: Outcome, settings: Settings) -> pd.DataFrame:
    """measure, before, after, change, ci_low, ci_high, n; written to `changes.parquet` beside the unsteered scores."""
    parts = []
    if before.questionnaire is not None:
        parts.append(_paired(_questions(before.folder), _questions(after.folder), settings))
    if before.emotions is not None:
        parts.append(_paired(_texts(before.folder), _texts(after.folder), settings))
    changes = pd.concat(parts, ignore_index=True)
    write_table(before.folder / "changes.parquet", changes)
    return changes


def as_dict(changes: pd.DataFrame) -> dict[str, Any]:
    rows = changes.set_index("measure").to_dict("index")
    return {name: {k: None if v != v else v for k, v in row.items()} for name, row in rows.items()}


def _questions(folder: Path) -> pd.DataFrame:
    """measure, question, value: shares of a questionnaire by question."""
    parts = []
    for comparison in comparisons(with_answers(pd.read_parquet(folder / "answers.parquet"))):
        rows = comparison.rows
        value = rows["value"] if "value" in rows else (rows["before"] == rows["after"]).astype(float)
        parts.append(pd.DataFrame({"measure": comparison.measure, "question": rows["question"], "value": value}))
    return pd.concat(parts)


def _texts(folder: Path) -> pd.DataFrame:
    """measure, question, value: accuracy and flips of recognised emotions by text."""
    table = pd.read_parquet(folder / "emotion_answers.parquet")
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


def _paired(before: pd.DataFrame, after: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    lines = []
    key = ["measure", "question"]
    joined = before.groupby(key, sort=False)["value"].mean().to_frame("before")
    joined = joined.join(after.groupby(key, sort=False)["value"].mean().rename("after"), how="inner").dropna()
    for measure, part in joined.groupby(level="measure", sort=False):
        change = Bootstrap(range(len(part)), settings.resamples, settings.seed).mean(
            (part["after"] - part["before"]).to_numpy()
        )
        means = {"before": part["before"].mean(), "after": part["after"].mean()}
        lines.append({"measure": measure, **means, **change.row("change")})
    return pd.DataFrame(lines)
