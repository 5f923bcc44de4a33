"""Where the things lie that ship: data of the package, and what a wheel takes along from the repository."""

from importlib.resources import files
from pathlib import Path

PACKAGE = Path(str(files("interp")))
BUNDLED = ("tiny",)
"""Models that ship, by name: `sae_checkpoints/NAME/model`."""
BUNDLED_SAES = ("tiny", "smollm2-135m-instruct")
"""Stacks of SAEs that ship, by the name of their model: `sae_checkpoints/NAME/saes`."""
NO_SAES = "none"
"""In the place of SAEs: a model is looked at without any."""


def data_file(name: str) -> Path:
    """A file of `interp/data`."""
    return PACKAGE / "data" / name


def shipped(name: str) -> Path:
    """A file or folder of the repository: inside the installed wheel, or beside the package."""
    inside = PACKAGE / name
    return inside if inside.exists() else PACKAGE.parent / name


def bundled_folder(name: str) -> Path:
    """Where a bundled model with its SAEs lies."""
    return shipped(f"sae_checkpoints/{name}")
