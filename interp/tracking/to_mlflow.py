"""MLflow. Where it goes is the client's own: MLFLOW_TRACKING_URI and MLFLOW_EXPERIMENT_NAME."""

import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

import mlflow

from interp.tracking.tracked import Tracked
from interp.tracking.trackers import PROJECT

LONGEST = 500
"""Characters of a parameter that every server takes."""


class MlflowTracker:
    """Numbers as metrics, the configuration as parameters, figures and files as artifacts."""

    def check(self) -> None:
        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own: minutes until it gives up
        mlflow.search_experiments(max_results=1)

    def send(self, entry: Tracked) -> str:
        mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or PROJECT)
        with mlflow.start_run(run_name=entry.name, description=entry.notes, tags={"interp.kind": entry.kind}) as run:
            mlflow.log_params({name: str(value)[:LONGEST] for name, value in flat(entry.config)})
            mlflow.log_metrics({named(name): value for name, value in entry.numbers.items()})
            for name, figure in entry.figures.items():
                mlflow.log_figure(figure, f"figures/{name}.html")
            mlflow.log_artifacts(str(entry.files), "files")
        return f"{mlflow.get_tracking_uri()}, run {run.info.run_id}"


def named(name: str) -> str:
    """A name of which MLflow takes every character."""
    return re.sub(r"[^\w\-. /]", "-", name)


def flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of a tree."""
    for key, value in config.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            for i, one in enumerate(value):
                yield from flat(one, f"{name}.{i}.")
        else:
            yield named(name), value


TRACKER = MlflowTracker()
