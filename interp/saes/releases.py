"""SAE releases of SAELens' registry: which residual-stream SAE each layer gets."""

import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from interp.errors import InterpWarning, UserError, nearest

if TYPE_CHECKING:
    from sae_lens.loading.pretrained_saes_directory import PretrainedSAELookup

USUAL_L0 = 100
"""Canonical Gemma Scope SAEs are those nearest to this L0; so is the choice where nothing was asked for."""
RESIDUAL = re.compile(r"resid|[-_]res(?![a-z])|lxr|SAE-Res|Instruct-SAE-l\d+", re.IGNORECASE)
OTHER_HOOKS = re.compile(r"mlp|attn?[-_./]|hook_z|transcoder|resid_mid|resid-mid|\bclt\b|crosscoder", re.IGNORECASE)
LAYER = (r"layer[_ ]?(\d+)", r"blocks\.(\d+)\.", r"^l(\d+)r_", r"^(\d+)$")


@dataclass(frozen=True)
class SaeChoice:
    """One SAE of a release.

    Attributes:
        layer: the layer whose output it reads; an SAE before block k reads the output of layer k - 1.
        width: number of features, where the registry says so.
        l0: mean number of active features, or the registry's word for it (small, medium, big).
        neuronpedia: id of its page, where there is one.
    """

    release: str
    sae_id: str
    layer: int
    before_block: bool
    width: int | None
    l0: float | str | None
    neuronpedia: str | None


def known_releases() -> "dict[str, PretrainedSAELookup]":
    """The registry, which needs torch."""
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    return dict(get_pretrained_saes_directory())


def residual_releases() -> "dict[str, PretrainedSAELookup]":
    """The registry's releases that have SAEs on the residual stream between blocks."""
    return {name: entry for name, entry in known_releases().items() if residual_choices(entry)}


def choose_saes(
    release: str, *, layers: Sequence[int] | None = None, width: str | int | None = None, l0: float | str | None = None
) -> dict[int, SaeChoice]:
    """One SAE per layer: the canonical one, or the nearest to what is asked for; what was taken is said aloud.

    Args:
        layers: None for all that the release covers.
        width: number of features (`16k`, 16384); the narrowest from 16k on where None.
        l0: mean number of active features, or the registry's word for it; nearest to 100 where None.

    Raises:
        UserError: an unknown release, one without residual SAEs, a layer or a width that it does not have.
    """
    entry = known_releases().get(release)
    if entry is None:
        raise UserError(f"No SAE release {release!r} in SAELens' registry{nearest(release, residual_releases(), n=3)}")
    found = residual_choices(entry)
    if not found:
        raise UserError(
            f"{release} has no SAE on the residual stream between blocks (its ids: {_few(entry.saes_map)})."
        )
    by_layer: dict[int, list[SaeChoice]] = {}
    for choice in found:
        by_layer.setdefault(choice.layer, []).append(choice)
    wanted = sorted(by_layer) if layers is None else list(layers)
    for layer in wanted:
        if layer not in by_layer:
            raise UserError(f"{release} has no SAE for layer {layer}; layers covered: {spans(sorted(by_layer))}.")
    asked = None if width is None else parse_width(width)
    chosen = {layer: _one(release, layer, by_layer[layer], asked, l0) for layer in wanted}
    _say(release, chosen, by_layer, asked, l0)
    return chosen


def parse_width(width: str | int) -> int:
    """`16k`, `1m` or a number of features.

    `k` is the power of two whose thousands it names (16k, 65k, 131k), else 1,024 (80k); `m` likewise.

    Raises:
        UserError: anything else.
    """
    match = re.fullmatch(r"(\d+)([km]?)", str(width).lower())
    if not match:
        raise UserError(f"saes.width must be a number of features such as 16k or 16384; got {width!r}.")
    number, unit = int(match[1]), match[2]
    if not unit:
        return number
    thousand, binary = (1_000, 2**10) if unit == "k" else (1_000_000, 2**20)
    return next((2**p for p in range(8, 32) if number in (2**p // thousand, 2**p / binary)), number * binary)


def spans(layers: Sequence[int]) -> str:
    """`0-3, 7` for [0, 1, 2, 3, 7]."""
    found: list[list[int]] = []
    for layer in layers:
        if found and found[-1][1] == layer - 1:
            found[-1][1] = layer
        else:
            found.append([layer, layer])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in found)


def residual_choices(entry: "PretrainedSAELookup") -> list[SaeChoice]:
    """The SAEs of a release that read the residual stream between blocks."""
    out = []
    for sae_id, path in entry.saes_map.items():
        words = f"{entry.release} {entry.repo_id} {sae_id} {path}"
        if OTHER_HOOKS.search(f"{entry.release} {sae_id}") or not RESIDUAL.search(words):
            continue
        number = next((m[1] for pattern in LAYER if (m := re.search(pattern, sae_id))), None)
        if number is None:  # embeddings
            continue
        before = "resid_pre" in sae_id
        layer = int(number) - before
        if layer >= 0:
            link = entry.neuronpedia_id.get(sae_id)
            out.append(SaeChoice(entry.release, sae_id, layer, before, _width(words), _l0(entry, sae_id), link))
    return out


def _width(words: str) -> int | None:
    match = re.search(r"width_(\d+[km])|[-_]w(\d+k)\b|width-(2pow\d+)", words, re.IGNORECASE)
    if not match:
        return None
    if match[3]:
        return int(2 ** int(match[3][4:]))
    return parse_width(match[1] or match[2])


def _l0(entry: "PretrainedSAELookup", sae_id: str) -> float | str | None:
    if match := re.search(r"average_l0_(\d+)", sae_id):
        return float(match[1])
    if match := re.search(r"l0_(small|medium|big)", sae_id):
        return match[1]
    return entry.expected_l0.get(sae_id) or None


def _one(release: str, layer: int, choices: list[SaeChoice], width: int | None, l0: float | str | None) -> SaeChoice:
    widths = sorted({c.width for c in choices if c.width})
    if width is not None and width not in widths:
        there = ", ".join(f"{w:,}" for w in widths) or "not told apart by width"
        raise UserError(f"{release} has no SAE of {width:,} features at layer {layer}; there: {there}.")
    if width is None and widths:
        width = next((w for w in widths if w >= 2**14), widths[-1])
    left = [c for c in choices if c.width == width] if widths else choices
    left = [c for c in left if not c.before_block] or left
    if isinstance(l0, str) or all(isinstance(c.l0, str) for c in left):
        word = l0 or "medium"
        named = [c for c in left if c.l0 == word]
        if not named and l0 is not None:
            there = ", ".join(sorted({str(c.l0) for c in left}))
            raise UserError(f"{release} has no SAE with l0 {l0!r} at layer {layer}; there: {there}.")
        return (named or left)[0]
    target = float(l0 if l0 is not None else USUAL_L0)
    return min(left, key=lambda c: abs(c.l0 - target) if isinstance(c.l0, float | int) else 0.0)


def _say(
    release: str,
    chosen: dict[int, SaeChoice],
    by_layer: dict[int, list[SaeChoice]],
    width: int | None,
    l0: float | str | None,
) -> None:
    """One line on what was taken where there was a choice that nobody made, or the asked-for L0 was not there."""

    def each(what: Callable[[SaeChoice], object]) -> str:
        values = {k: what(c) for k, c in chosen.items()}
        distinct = set(values.values())
        if len(distinct) == 1:
            return str(distinct.pop())
        return ", ".join(f"layer {k}: {v}" for k, v in values.items())

    said = []
    if width is None and any(len({c.width for c in by_layer[k]}) > 1 for k in chosen):
        said.append(f"width {each(lambda c: c.width)}")
    off = l0 is not None and any(c.l0 != l0 for c in chosen.values())
    open_choice = l0 is None and any(len({c.l0 for c in by_layer[k] if c.width == chosen[k].width}) > 1 for k in chosen)
    if off or open_choice:
        said.append(f"l0 {each(lambda c: f'{c.l0:g}' if isinstance(c.l0, float | int) else c.l0)}")
    if said:
        text = f"{release}: took {' and '.join(said)}; set saes.width and saes.l0 to choose."
        warnings.warn(text, InterpWarning, stacklevel=3)


def _few(words: Iterable[str]) -> str:
    words = list(words)
    return ", ".join(words[:3]) + (", ..." if len(words) > 3 else "")
