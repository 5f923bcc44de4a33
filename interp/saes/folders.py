"""SAEs in folders: which layer each of them reads, and which one of a layer is meant."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import UserError
from interp.saes.releases import USUAL_L0, parse_width, spans

WEIGHTS = "sae_weights.safetensors"
IN_NAME = (r"(?:^|[^a-z])layers?[_.-]?(\d+)", r"(?:^|[^a-z])blocks\.(\d+)", r"^l?(\d+)$")
"""How folders name a layer, the surest first; other numbers in a name are sizes and versions."""


class FolderSae(NamedTuple):
    """An SAE on disk.

    Attributes:
        layer: after which block the residual is that it reads.
        path: a folder as SAELens saves it, or a `params.npz` of Gemma Scope.
        width: number of features, where the file names or cfg.json say it.
        l0: mean number of active features, likewise.
    """

    layer: int
    path: Path
    width: int | None = None
    l0: float | None = None


def check_choice(layers: Sequence[int] | None, width: str | int | None, l0: float | str | None) -> None:
    """Refuses what can choose no SAE, wherever the SAEs come from.

    Raises:
        UserError: no layer, or one twice; a width that is no number of features; an L0 that is no number above 0.
    """
    if layers is not None and (not layers or len(set(layers)) < len(layers)):
        raise UserError(f"saes.layers must name at least one layer, each once; got {list(layers)}.")
    if width is not None:
        parse_width(width)
    if isinstance(l0, int | float) and not 0 < l0 < math.inf:
        raise UserError(f"saes.l0 must be a number above 0, or a release's word for it; got {l0}.")


def choose_in_folder(
    folder: Path, *, layers: Sequence[int] | None, width: str | int | None, l0: float | str | None
) -> dict[int, FolderSae]:
    """The SAE of every layer that is asked for, or that is there.

    Raises:
        UserError: no SAE in the folder, none for a layer, half of one, or two for a layer that nothing tells apart.
    """
    found = find_saes(folder)
    if not found:
        raise UserError(f"{folder} holds no folder per layer (layer_00, layer_01, ...), each with cfg.json.")
    by_layer: dict[int, list[FolderSae]] = {}
    for sae in found:
        by_layer.setdefault(sae.layer, []).append(sae)
    for layer in layers or ():
        if layer not in by_layer:
            raise UserError(f"{folder} has no SAE for layer {layer}; layers covered: {spans(sorted(by_layer))}.")
    return {layer: _one(folder, by_layer[layer], width, l0) for layer in layers or sorted(by_layer)}


def find_saes(folder: Path) -> list[FolderSae]:
    """All SAEs of a folder that holds one folder per layer, or that is one SAE itself."""
    if (folder / "cfg.json").is_file():
        return [_saelens(folder)]
    found = []
    for part in sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith(".")):
        raw = sorted(part.rglob("params.npz"))
        if raw:
            found += [_gemma_scope(part, path) for path in raw]
        elif (part / "cfg.json").is_file() or (part / WEIGHTS).is_file() or _layer_in(part.name) is not None:
            found.append(_saelens(part))
    return found


def described(folder: Path) -> dict[str, Any]:
    """`cfg.json` of an SAE, with what newer versions keep under `metadata` at its top.

    Raises:
        UserError: it is missing or damaged.
    """
    path = folder / "cfg.json"
    if not path.is_file():
        raise UserError(f"{folder} lacks cfg.json; give folders as SAELens saves them.")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        metadata = value.get("metadata") or {}
        return {**value, **metadata}
    except (ValueError, AttributeError, TypeError, RecursionError):
        raise UserError(f"{path} is damaged: it is no table of settings; get {folder.name} again.") from None


def hook_layer(hook: str) -> int | None:
    """The layer that a hook's name stands for: what is read before block N is what block N - 1 leaves."""
    match = re.search(r"(?:blocks|layers|h)\.(\d+)", hook)
    return None if match is None else int(match[1]) - ("resid_pre" in hook)


def _saelens(folder: Path) -> FolderSae:
    cfg = described(folder)
    if not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} lacks {WEIGHTS}; give folders as SAELens saves them.")
    layer = hook_layer(str(cfg.get("hook_name") or cfg.get("hook_point") or ""))
    if layer is None:
        layer = _layer_in(folder.name)
    if layer is None:
        raise UserError(
            f"{folder} does not say which layer it is for: give its cfg.json a hook_name such as"
            " blocks.7.hook_resid_post, or its folder a name such as layer_07."
        )
    if layer < 0:
        raise UserError(f"{folder} reads what enters the first block, which is no layer's residual; leave it out.")
    width, l0 = cfg.get("d_sae"), cfg.get("l0")
    return FolderSae(
        layer,
        folder,
        width if isinstance(width, int) else None,
        float(l0) if isinstance(l0, int | float) else _named(folder, r"l0_(\d+)"),
    )


def _gemma_scope(part: Path, path: Path) -> FolderSae:
    layer = _layer_in(part.name)
    if layer is None:
        raise UserError(f"{part} does not say which layer it is for; give it a name such as layer_07.")
    width = re.search(r"width_(\d+[km])", str(path))
    return FolderSae(layer, path, parse_width(width[1]) if width else None, _named(path, r"average_l0_(\d+)"))


def _layer_in(name: str) -> int | None:
    for pattern in IN_NAME:
        if match := re.search(pattern, name, re.IGNORECASE):
            return int(match[1]) - ("resid_pre" in name)
    return None


def _named(path: Path, pattern: str) -> float | None:
    match = re.search(pattern, str(path))
    return float(match[1]) if match else None


def _one(folder: Path, saes: list[FolderSae], width: str | int | None, l0: float | str | None) -> FolderSae:
    layer, left = saes[0].layer, saes
    if width is not None:
        left = [s for s in saes if s.width is None or s.width == parse_width(width)]
        if not left:
            there = ", ".join(f"{w:,}" for w in sorted({s.width for s in saes if s.width}))
            raise UserError(f"{folder} has no SAE of {parse_width(width):,} features at layer {layer}; there: {there}.")
    told = all(s.l0 is not None for s in left) and len({s.l0 for s in left}) == len(left)
    raw = all(s.path.is_file() for s in left)
    if len(left) > 1 and told and (raw or isinstance(l0, int | float)):
        target = float(l0) if isinstance(l0, int | float) else USUAL_L0
        return min(left, key=lambda s: abs((s.l0 or 0.0) - target))
    if len(left) > 1:
        names = " and ".join(str(s.path.relative_to(folder)) for s in left[:2])
        raise UserError(
            f"{folder} has {len(left)} SAEs for layer {layer}: {names}. Move all but one away{_ways(left)}."
        )
    return left[0]


def _ways(saes: Sequence[FolderSae]) -> str:
    """How the SAEs of a layer can be told apart, if they can."""
    ways = []
    if len({s.width for s in saes}) > 1:
        ways.append("saes.width")
    if len({s.l0 for s in saes}) == len(saes):
        ways.append("saes.l0")
    return f", or choose by {' or '.join(ways)}" if ways else ""


def declared_bos(cfg: Mapping[str, Any]) -> bool | None:
    """Whether cfg.json says that training prepended a beginning-of-sequence token; None where it does not say."""
    value = cfg.get("prepend_bos")
    return value if isinstance(value, bool) else None
