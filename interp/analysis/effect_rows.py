"""Rows of `effects.parquet`, of which there is one per feature, emotion and role of the examples."""

import pandas as pd


def effects_on(effects: pd.DataFrame, role: str = "discover") -> pd.DataFrame:
    """Effects of candidates and controls on the examples of a role; on the fit examples, of causal features alone."""
    return effects[effects["role"] == role]


def candidate_effects(effects: pd.DataFrame) -> pd.DataFrame:
    """Of what was traced as a candidate on the discover examples, causal or not."""
    return effects[(effects["role"] == "discover") & ~effects["control"].astype(bool)]


def causal_features(effects: pd.DataFrame, emotion: str | None = None) -> pd.DataFrame:
    """Of causal features, as measured where they were found: on the discover examples.

    Args:
        emotion: the one whose answer they cause; any if left out.
    """
    causal = effects[effects["causal"].astype(bool) & (effects["role"] == "discover")]
    return causal if emotion is None else causal[causal["emotion"] == emotion]
