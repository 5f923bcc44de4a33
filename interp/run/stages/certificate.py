"""Stage `certificate`: what is claimed of the chosen steering, with all that is needed to measure it again."""

from interp.run import tables
from interp.run.certifying import certificate
from interp.run.session import Session
from interp.run.stage import stage


@stage(
    "certificate",
    reads=(
        "examples.parquet",
        "steering.safetensors",
        "steering.json",
        "steerings",
        "trials.parquet",
        "evaluation.parquet",
        "predictions.parquet",
        "side_effects.parquet",
    ),
    may_read=("parts.parquet",),
    writes=("certificate.json",),
    sources=("model_identity", "sae_identity"),
)
def run(session: Session) -> None:
    """Writes `certificate.json`."""
    tables.write(session.folder / "certificate.json", certificate(session))
