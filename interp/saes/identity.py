"""Which SAEs a name stands for, and their identity, from files alone: none is loaded, and folders need no torch."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from interp.errors import UserError, nearest
from interp.models.hub import cached_commit
from interp.models.store import content_hash
from interp.resources import BUNDLED_SAES, NO_SAES, bundled_folder
from interp.saes.folders import WEIGHTS, FolderSae, check_choice, choose_in_folder
from interp.saes.releases import SaeChoice, choose_saes, known_releases, residual_releases


@dataclass(frozen=True)
class SaeSelection:
    """The SAE of every layer: of a folder, or of a release.

    Attributes:
        identity: content hash of the files; or release, commit of its repository as far as the cache tells, and ids.
    """

    saes: Mapping[int, FolderSae] | Mapping[int, SaeChoice]
    identity: str


def select_saes(
    name: str,
    *,
    layers: Sequence[int] | None = None,
    width: str | int | None = None,
    l0: float | str | None = None,
) -> SaeSelection:
    """What `interp.saes.loading.load_saes` would take; nothing of `none`.

    Raises:
        UserError: no such folder or release, half a checkpoint, or a layer, width or L0 that it does not have.
    """
    if name == NO_SAES:
        return SaeSelection({}, NO_SAES)
    check_choice(layers, width, l0)
    folder = bundled_folder(name) / "saes" if name in BUNDLED_SAES else Path(name)
    if folder.is_dir():
        found = choose_in_folder(folder, layers=layers, width=width, l0=l0)
        parts = [[s.path] if s.path.is_file() else [s.path / "cfg.json", s.path / WEIGHTS] for s in found.values()]
        return SaeSelection(found, content_hash([file for part in parts for file in part]))
    if name.startswith((".", "/", "~")) or name in BUNDLED_SAES:
        raise UserError(f"No SAE folder {str(folder)!r}{nearest(name, BUNDLED_SAES)}")
    if name not in known_releases():
        known = [*BUNDLED_SAES, *residual_releases()]
        raise UserError(f"No SAE folder and no release {name!r} in SAELens' registry{nearest(name, known, n=3)}")
    chosen = choose_saes(name, layers=layers, width=width, l0=l0)
    ids = hashlib.sha256("+".join(choice.sae_id for choice in chosen.values()).encode()).hexdigest()[:16]
    commit = cached_commit(known_releases()[name].repo_id, "README.md", "config.json", ".gitattributes")
    return SaeSelection(chosen, f"{name}@{commit or 'main'}:{ids}")
