"""Finished runs in the tools with which experiments are tracked: Weights & Biases, trackio, MLflow."""

from typing import Literal, get_args

TrackerName = Literal["wandb", "trackio", "mlflow"]
TRACKERS: tuple[str, ...] = get_args(TrackerName)
