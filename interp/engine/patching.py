"""Activation patching from one prompt into another: residuals, attention or MLP outputs, over layers, at any position.

The target prompt is computed anew from the first patched position on, with what the source prompt held put into its
place; tokens before that are as they were. Positions are counted from the prompt's end (-1: the answer position), where
prompts of one template are alike.

Sources: Vig et al. 2020 (arXiv 2004.12265); Meng et al. 2022 (2202.05262); in this field emo-llm (Tak et al. 2025,
2502.05489), which patches residuals, attention and MLP at the last token, over spans of layers.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.capture import Captured
from interp.engine.suffix import Suffix, check_unedited, rows_in_memory, suffixes
from interp.errors import UserError
from interp.models.language_model import Encoded, LanguageModel, Site

Part = Literal["residual", "attention", "mlp"]


class Patch(NamedTuple):
    """Where a source's values stand in a target: outputs of a part in layers `first` to `last`, at some positions."""

    part: Part
    first: int
    last: int
    positions: tuple[int, ...] = (-1,)

    @property
    def span(self) -> int:
        """Tokens, from the first patched one to the prompt's last."""
        return -min(self.positions)

    def site(self, layer: int) -> Site:
        return layer if self.part == "residual" else (self.part, layer)


class Ends(NamedTuple):
    """What passed the sites at prompts' last tokens; site -1 is what enters the first block."""

    values: Mapping[Site, Float[Tensor, "example position d_model"]]


@torch.no_grad()
def prompt_ends(model: LanguageModel, encoded: Sequence[Encoded], span: int) -> Ends:
    """Residuals of all layers, and outputs of attention and MLP, at the last `span` tokens of some prompts.

    Raises:
        UserError: a prompt of fewer tokens.
    """
    shortest = min(len(e.ids) for e in encoded)
    if span > shortest:
        raise UserError(f"Position -{span} is outside a prompt of {shortest} tokens.")
    layers = range(model.n_layers)
    sites: list[Site] = [-1, *layers, *((part, k) for part in ("attention", "mlp") for k in layers)]
    tokens = model.pad(encoded)
    looked = model.recorded(sites, lambda x: x[:, -span:].to(model.device, copy=True))
    with model.prompted(tokens.ids.shape[1]), looked as seen:
        model.run(tokens)
    return Ends(dict(seen))


@torch.no_grad()
def patched_answers(
    model: LanguageModel, captured: Captured, targets: Ends, sources: Ends, patches: Sequence[Patch]
) -> Float[Tensor, "example patch answer"]:
    """Answer logits of every target with each patch alone: what its source held, in its place.

    Args:
        captured: of the targets, with keys and values.
        targets, sources: `prompt_ends` of the targets, and of the source of each, at least as long as any patch's span.

    Raises:
        UserError: a layer that the model does not have, or a position that is not before the prompt's end.
        ValueError: ends too short, or `captured` made without `keep_cache=True`.
        EngineError: an unedited row moved.
    """
    for patch in patches:
        if not 0 <= patch.first <= patch.last < model.n_layers:
            raise UserError(f"{model.name} has layers 0 to {model.n_layers - 1}; got {patch.first} to {patch.last}.")
        if not patch.positions or max(patch.positions) >= 0:
            raise UserError(f"Positions are counted from the prompt's end, -1 is its last; got {patch.positions}.")
    known = min(ends.values[-1].shape[1] for ends in (targets, sources))
    if (most := max((patch.span for patch in patches), default=1)) > known:
        raise ValueError(f"ends of {known} tokens were read, {most} are patched")
    logits = captured.answer_logits[:, None].repeat(1, len(patches), 1)
    by_span: dict[int, list[int]] = {}
    for k, patch in enumerate(patches):
        by_span.setdefault(patch.span, []).append(k)
    for suffix in suffixes(model, captured, 1):
        (example,) = suffix.cache.examples
        for span, own in by_span.items():
            ordered = sorted(own, key=lambda k: patches[k].first)
            count = max(1, rows_in_memory(model, captured) // span - 1)
            for k in range(0, len(ordered), count):
                chunk = ordered[k : k + count]
                rows = _Patched(suffix, example, targets, sources, [patches[i] for i in chunk], span)
                scores = rows.run()
                check_unedited(model, rows.lowest, scores[0] - captured.answer_logits[example])
                logits[example, chunk] = scores[1:]
    return logits


class _Patched:
    """Patches of one target and span as rows of one pass, the unedited one first, by their first layers."""

    def __init__(
        self, suffix: Suffix, example: int, targets: Ends, sources: Ends, patches: Sequence[Patch], span: int
    ) -> None:
        self.suffix, self.model, self.span, self.patches = suffix, suffix.model, span, patches
        self.target = {site: x[example, -span:] for site, x in targets.values.items()}
        self.source = {site: x[example, -span:] for site, x in sources.values.items()}
        self.lowest = patches[0].first - 1

    def run(self) -> Float[Tensor, "row answer"]:
        suffix, model, answers = self.suffix, self.model, self.suffix.captured.answers
        tail = self._entering(self.lowest, 1)
        for layer in range(self.lowest + 1, model.n_layers):
            tail = torch.cat([tail, self._entering(layer - 1, sum(p.first == layer for p in self.patches))])
            edits: dict[Site, Callable[[Tensor], Tensor]] = {
                (part, layer): partial(self._put, part, layer) for part in ("attention", "mlp")
            }
            with model.edited({site: edit for site, edit in edits.items() if self._rows(site[0], layer)}):  # type: ignore[index]
                tail = suffix.span_block(tail, layer, self.span)
            tail = self._put("residual", layer, tail).to(model.device)
        return answers.score(model, tail[:, self.span - 1 :])

    def _entering(self, after: int, n: int) -> Float[Tensor, "row token d_model"]:
        cache = self.suffix.cache
        continued = cache.embedded[:, 1:] if after == -1 else cache.continued[after]
        return torch.cat([self.target[after][None], continued], dim=1).expand(n, -1, -1).to(self.model.device)

    def _rows(self, part: str, layer: int) -> list[int]:
        return [r for r, p in enumerate(self.patches, start=1) if p.part == part and p.first <= layer <= p.last]

    def _put(self, part: Part, layer: int, output: Tensor) -> Tensor:
        out = output.clone()
        for row in self._rows(part, layer):
            patch = self.patches[row - 1]
            for position in patch.positions:
                column = self.span + position
                out[row, column] = self.source[patch.site(layer)][column].to(out)
        return out
