"""trackio: a dashboard on this machine (trackio show), or in a Space of the Hugging Face hub (TRACKIO_SPACE_ID)."""

import os
import re

import trackio
from huggingface_hub import get_token

from interp.errors import UserError
from interp.tracking.tracked import Tracked
from interp.tracking.trackers import PROJECT


class TrackioTracker:
    """Numbers as one step, figures as pages, files as an artifact."""

    def check(self) -> None:
        if os.environ.get("TRACKIO_SPACE_ID") and not get_token():
            raise UserError("trackio cannot write to a Space: not signed in to the hub (hf auth login).")

    def send(self, entry: Tracked) -> str:
        trackio.init(
            project=PROJECT,
            name=entry.name,
            group=entry.kind,
            config=dict(entry.config),
            embed=False,
            auto_log_gpu=False,
            auto_log_cpu=False,
        )
        try:
            shown = {f"figures/{name}": trackio.Html(figure) for name, figure in entry.figures.items()}
            trackio.log({**entry.numbers, "notes": trackio.Markdown(entry.notes), **shown})
            artifact = trackio.Artifact(re.sub(r"[^\w.-]+", "-", entry.name), type=f"interp-{entry.kind}")
            artifact.add_dir(entry.files)
            trackio.log_artifact(artifact)
        finally:
            trackio.finish()
        space = os.environ.get("TRACKIO_SPACE_ID") or os.environ.get("TRACKIO_SERVER_URL")
        return space or f"this machine (trackio show --project {PROJECT})"


TRACKER = TrackioTracker()
