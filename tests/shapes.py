"""Annotations checked at run time, shapes among them: `INTERP_CHECK_SHAPES=1 pytest`."""

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

PACKAGES = ("engine", "analysis", "saes", "steering", "statistics")
checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it


def check() -> None:
    """Modules of `PACKAGES` imported from now on are checked in every call."""
    install_import_hook([f"interp.{name}" for name in PACKAGES], "shapes.checked")
