"""One sparse autoencoder per layer: from folders, releases and the package itself, checked against the model."""

from importlib import import_module
from typing import Any

__all__ = ["SaeStack", "load_saes"]
_WHERE = {"load_saes": "interp.saes.loading"}


def __getattr__(name: str) -> Any:
    """The names of the old module `interp.saes`, loaded when they are asked for."""
    if name.startswith("_"):
        raise AttributeError(name)
    return getattr(import_module(_WHERE.get(name, "interp.saes.stack")), name)
