"""Stage `why`: one row per emotion that says why it is easy or hard for this model."""

import numpy as np
import pandas as pd

from interp.analysis.effect_rows import causal_features
from interp.run import tables
from interp.run.session import Session
from interp.run.stages.signals import traced_rows

NEUTRAL = "neutral"


def run(session: Session) -> None:
    """Writes `why.parquet` from the tables of the stages before it; what was not measured is missing."""
    rows = traced_rows(session)
    table = session.table.iloc[session.role("discover")]
    names = ("concentration", "joint", "overshadowing", "insertion", "cofiring", "selectivity", "effects")
    read = {name: tables.read(session.folder / f"{name}.parquet") for name in names}
    lines = [
        {
            "emotion": label,
            "n": int((table["gold"] == label).sum()),
            "n_traced": int((session.table["gold"].iloc[rows] == label).sum()),
            **_recognition(table, label),
            **_causes(read, label),
            **_overshadowed(read["overshadowing"], label),
            **_inserted(read["insertion"], label),
            **_fires_with(read["cofiring"], label),
            **_lexical(read["selectivity"], read["effects"], label),
        }
        for label in session.labels
    ]
    tables.write(session.folder / "why.parquet", pd.DataFrame(lines))


def _recognition(table: pd.DataFrame, label: str) -> dict[str, object]:
    """Recall, and the answer most often given instead."""
    own = table[table["gold"] == label]["predicted"]
    wrong = own[own != label].value_counts()
    return {
        "recall": float((own == label).mean()) if len(own) else np.nan,
        "taken_for": wrong.index[0] if len(wrong) else None,
        "taken_for_share": wrong.iloc[0] / len(own) if len(wrong) else 0.0,
    }


def _causes(read: dict[str, pd.DataFrame], label: str) -> dict[str, object]:
    concentration = read["concentration"]
    own = concentration[(concentration["emotion"] == label) & (concentration["phase"] == "all")].iloc[0]
    joint = read["joint"]
    joint = joint[(joint["emotion"] == label) & (joint["phase"] == "all")].sort_values("k")
    causal, control = joint[~joint["control"].astype(bool)], joint[joint["control"].astype(bool)]
    columns = ("n_causal", "summed_effect", "share_top_1", "share_top_5", "share_top_10", "effective_number")
    return {
        **{c: own[c] for c in columns},
        "removed_together": causal["effect"].iloc[-1] if len(causal) else np.nan,
        "controls_removed_together": control["effect"].iloc[-1] if len(control) else np.nan,
    }


def _overshadowed(moved: pd.DataFrame, label: str) -> dict[str, object]:
    """Whose answer gains most when this emotion's causal features are removed."""
    own = moved[(moved["emotion"] == label) & (moved["answer"] != label)]
    if not len(own):
        return {"overshadowed_by": None, "probability_gained": np.nan, "answers_moved": np.nan}
    first = own.sort_values("effect", ascending=False, kind="stable").iloc[0]
    return {
        "overshadowed_by": first["answer"],
        "probability_gained": first["effect"],
        "answers_moved": first["moved"],
    }


def _inserted(insertion: pd.DataFrame, label: str) -> dict[str, object]:
    """How many texts follow when this emotion's causal features are put into them."""
    own = insertion[(insertion["emotion"] == label)]
    into_neutral = own[own["target"] == NEUTRAL]
    out: dict[str, object] = {}
    for name, part in (("neutral", into_neutral), ("others", own[own["target"] != NEUTRAL])):
        for control in (False, True):
            chosen = part[part["control"].astype(bool) == control]
            n = chosen["n_answered_otherwise"]
            share = float((chosen["follows"].fillna(0) * n).sum() / n.sum()) if n.sum() else np.nan
            out[f"follows_in_{name}{'_control' if control else ''}"] = share
    return out


def _fires_with(cofiring: pd.DataFrame, label: str) -> dict[str, object]:
    """The other emotion whose causal features fire most on this emotion's texts."""
    own = cofiring[(cofiring["emotion"] == label) & (cofiring["features_of"] != label)]
    if not len(own):
        return {"fires_with": None, "fires_with_share": np.nan, "common_causes": np.nan}
    first = own.sort_values("share", ascending=False, kind="stable").iloc[0]
    return {
        "fires_with": first["features_of"],
        "fires_with_share": first["share"],
        "common_causes": first["common"],
    }


def _lexical(selectivity: pd.DataFrame, effects: pd.DataFrame, label: str) -> dict[str, object]:
    """Selective features of this emotion, and how many of them die without the emotion word."""
    own = selectivity[(selectivity["emotion"] == label) & (selectivity["kind"] != "none")]
    known = own["lexical"].notna()
    both = causal_features(effects, label).merge(own, on=["layer", "feature"])
    rather = own["auroc_nearest"].astype(float) < 0.5
    return {
        "n_selective": len(own),
        "lexical": float(own.loc[known, "lexical"].astype(bool).mean()) if known.any() else np.nan,
        "rather_of_another": float(rather.mean()) if len(own) else np.nan,
        "causal_and_selective": len(both),
    }
