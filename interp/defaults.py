"""Defaults that commands, configurations and functions share."""

RESAMPLES = 1000
"""Bootstrap resamples behind an interval."""
