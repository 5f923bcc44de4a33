"""One row per emotion that says why it is easy or hard for a model: what several tables say of it, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool

from interp.analysis.effect_rows import causal_features
from interp.analysis.together import NEUTRAL

Array = np.ndarray
CONCENTRATED = ("n_causal", "summed_effect", "share_top_1", "share_top_5", "share_top_10", "effective_number")


class EmotionTables(NamedTuple):
    """What was measured of all emotions.

    Attributes:
        concentration, effects: of `interp.analysis.effects`.
        joint, overshadowing, insertion, cofiring: of `interp.analysis.together`.
        selectivity: of `interp.analysis.profiles`.
    """

    concentration: pd.DataFrame
    joint: pd.DataFrame
    overshadowing: pd.DataFrame
    insertion: pd.DataFrame
    cofiring: pd.DataFrame
    selectivity: pd.DataFrame
    effects: pd.DataFrame


def emotions_compared(
    answers: pd.DataFrame, traced: Bool[Array, " example"], tables: EmotionTables, labels: Sequence[str]
) -> pd.DataFrame:
    """The emotions side by side; what was not measured is missing.

    Args:
        answers: columns gold and predicted of the examples on which features were discovered.
        traced: which of them were traced.

    Returns:
        A row per emotion: recall and the answer most often given instead; number, strength and concentration of causal
        features; their removal together and who gains by it; what follows when they are put into other texts; whose
        features fire beside them; how many selective features there are, and how many of them are lexical.
    """
    return pd.DataFrame(
        [
            {
                "emotion": label,
                "n": int((answers["gold"] == label).sum()),
                "n_traced": int((answers["gold"][traced] == label).sum()),
                **_recognition(answers, label),
                **_causes(tables, label),
                **_strongest(
                    tables.overshadowing[tables.overshadowing["answer"] != label],
                    label,
                    by="effect",
                    names={"overshadowed_by": "answer", "probability_gained": "effect", "answers_moved": "moved"},
                ),
                **_inserted(tables.insertion, label),
                **_strongest(
                    tables.cofiring[tables.cofiring["features_of"] != label],
                    label,
                    by="share",
                    names={"fires_with": "features_of", "fires_with_share": "share", "common_causes": "common"},
                ),
                **_lexical(tables, label),
            }
            for label in labels
        ]
    )


def _recognition(answers: pd.DataFrame, label: str) -> dict[str, Any]:
    """Recall, and the answer most often given instead."""
    predicted = answers.loc[answers["gold"] == label, "predicted"]
    wrong = predicted[predicted != label].value_counts()
    return {
        "recall": float((predicted == label).mean()) if len(predicted) else np.nan,
        "taken_for": wrong.index[0] if len(wrong) else None,
        "taken_for_share": wrong.iloc[0] / len(predicted) if len(wrong) else 0.0,
    }


def _causes(tables: EmotionTables, label: str) -> dict[str, Any]:
    """How many, how strong, how concentrated, and what removing most of them together does, beside controls."""
    whole = tables.concentration[tables.concentration["phase"] == "all"].set_index("emotion").loc[label]
    joint = tables.joint[(tables.joint["emotion"] == label) & (tables.joint["phase"] == "all")].sort_values("k")
    control = joint["control"].astype(bool)
    removed = {"removed_together": joint[~control], "controls_removed_together": joint[control]}
    return {
        **{name: whole[name] for name in CONCENTRATED},
        **{name: rows["effect"].iloc[-1] if len(rows) else np.nan for name, rows in removed.items()},
    }


def _strongest(table: pd.DataFrame, label: str, *, by: str, names: Mapping[str, str]) -> dict[str, Any]:
    """Of an emotion's rows the one with the most of `by`, under other column names, the first of which is a word."""
    rows = table[table["emotion"] == label].sort_values(by, ascending=False, kind="stable")
    if not len(rows):
        return dict.fromkeys(names, np.nan) | {next(iter(names)): None}
    return {new: rows[old].iloc[0] for new, old in names.items()}


def _inserted(insertion: pd.DataFrame, label: str) -> dict[str, Any]:
    """How many texts follow when this emotion's causal features are put into them, neutral ones and others."""
    own = insertion[insertion["emotion"] == label]
    neutral, controls = own["target"] == NEUTRAL, own["control"].astype(bool)
    out = {}
    for name, of_kind in (("neutral", neutral), ("others", ~neutral)):
        for suffix, chosen in (("", ~controls), ("_control", controls)):
            rows = own[of_kind & chosen]
            n = rows["n_answered_otherwise"]
            share = float((rows["follows"].fillna(0) * n).sum() / n.sum()) if n.sum() else np.nan
            out[f"follows_in_{name}{suffix}"] = share
    return out


def _lexical(tables: EmotionTables, label: str) -> dict[str, Any]:
    """Selective features of this emotion, and how many of them die without the emotion word."""
    selective = tables.selectivity[(tables.selectivity["emotion"] == label) & (tables.selectivity["kind"] != "none")]
    lexical = selective["lexical"].dropna().astype(bool)
    rather = selective["auroc_nearest"].astype(float) < 0.5
    return {
        "n_selective": len(selective),
        "lexical": float(lexical.mean()) if len(lexical) else np.nan,
        "rather_of_another": float(rather.mean()) if len(rather) else np.nan,
        "causal_and_selective": len(causal_features(tables.effects, label).merge(selective, on=["layer", "feature"])),
    }
