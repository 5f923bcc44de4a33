"""Weights & Biases. Project, entity, server and mode are the client's own: WANDB_PROJECT, WANDB_MODE=offline, ..."""

import os
import re

import wandb

from interp.errors import UserError
from interp.tracking.tracked import Tracked
from interp.tracking.trackers import PROJECT

SETTINGS = {"silent": True, "console": "off"}


class WandbTracker:
    """Numbers in the summary, figures as plotly panels, files as an artifact."""

    def check(self) -> None:
        wandb.setup(settings=wandb.Settings(**SETTINGS))
        if _mode() not in ("offline", "dryrun", "disabled") and not wandb.login(prompt=False, verify=True):
            raise UserError("wandb is not signed in: wandb login, or set WANDB_API_KEY, or WANDB_MODE=offline.")

    def send(self, entry: Tracked) -> str:
        run = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or PROJECT,
            name=entry.name,
            job_type=entry.kind,
            notes=entry.notes,
            config=dict(entry.config),
            settings=wandb.Settings(**SETTINGS),
        )
        with run:  # finished, and marked as failed where something is raised
            run.summary.update(dict(entry.numbers))
            if entry.figures:
                run.log({f"figures/{name}": wandb.Plotly(figure) for name, figure in entry.figures.items()})
            artifact = wandb.Artifact(re.sub(r"[^\w.-]+", "-", entry.name), type=f"interp-{entry.kind}")
            artifact.add_dir(str(entry.files))
            run.log_artifact(artifact)
            where = run.url or f"{run.settings.sync_dir} (wandb sync sends it)"
        return str(where)


def _mode() -> str:
    return str(wandb.setup().settings.mode)


TRACKER = WandbTracker()
