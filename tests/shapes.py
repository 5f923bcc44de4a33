"""Annotations checked in every call, shapes among them: `INTERP_CHECK_SHAPES=engine,saes pytest`."""

from collections.abc import Iterable

from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as type checkers have it


def check(packages: Iterable[str]) -> None:
    """Modules of these packages of `interp` that are imported from now on are checked."""
    install_import_hook([f"interp.{name}" for name in packages], "shapes.checked")
