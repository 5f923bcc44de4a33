"""The numbers in the rules by which features are called selective and causal, for code and pages alike."""

Q_LEVEL = 0.05
"""Largest q (Benjamini-Hochberg) at which a feature is selective for an emotion, or an effect specific to it."""
CONTROL_QUANTILE = 0.99
"""A causal feature's effect exceeds this quantile of its controls'."""
JOINT_FEATURES = 16
"""Features per layer that the joint-ablation signal removes: those with the highest mean attribution."""
JOINT_SIZES = (1, 2, 4, 8, 16, 32)
"""How many of an emotion's causal features are removed together; all of them as well, up to the last size."""
