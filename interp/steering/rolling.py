"""Texts that are written together, each under a steering of its own; they join and leave between two tokens.

A prompt joins with a pass of its own; then one pass a step brings every text one token further. Rows stand with their
last columns beside each other and padding on their left, so that a text is written as it would be alone: what differs
is the rounding of larger matrix products.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import pad
from transformers import DynamicCache

from interp.engine.row_caches import joined, keep_rows
from interp.engine.suffix import ResidualEdit
from interp.models.caching import cache_in, cache_name
from interp.models.language_model import Edit, Encoded, LanguageModel, Tokens
from interp.saes.stack import SaeStack
from interp.steering.positions import Positions
from interp.steering.steering import Steering


@dataclass(frozen=True, eq=False)
class RowSteering:
    """What is done to the rows that share it: by layer, and where in their texts."""

    edits: Mapping[int, ResidualEdit] = field(default_factory=dict)
    positions: Positions = "all"

    @classmethod
    def of(cls, steering: Steering, model: LanguageModel, saes: SaeStack) -> "RowSteering":
        """
        Raises:
            UserError: made for another model or other SAEs, a layer that is missing.
        """
        steering.check(model, saes if steering.sparse else None)
        return cls(steering.edits(saes), steering.positions)


@runtime_checkable
class Writing(Protocol):
    """A text being written: it decides which token comes next."""

    @property
    def ids(self) -> Sequence[int]:
        """Of its prompt."""

    @property
    def steering(self) -> RowSteering: ...

    def take(self, logits: Float[Tensor, " vocabulary"]) -> int | None:
        """The next token, or None where the text is at its end."""


W = TypeVar("W", bound=Writing)


class RollingBatch(Generic[W]):
    """Texts under way. One thread at a time; nothing else may edit the model meanwhile.

    Attributes:
        texts: by row.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.clear()

    def clear(self) -> None:
        """Every text is left where it is."""
        self.texts: list[W] = []
        self._last: list[int] = []
        self._cache: DynamicCache | None = None
        self._mask: Bool[Tensor, "row column"] = torch.empty(0, 0, dtype=torch.bool)

    @torch.no_grad()
    def join(self, texts: Sequence[W]) -> None:
        """The prompts of new texts pass; each takes its first token."""
        tokens = self.model.pad([Encoded(list(text.ids), 0) for text in texts])
        cache, logits = self._pass(tokens, texts, None, prompts=True)
        width = max(tokens.mask.shape[1], self._mask.shape[1])
        masks = [pad(mask, (width - mask.shape[1], 0)) for mask in (self._mask, tokens.mask) if len(mask)]
        self._cache = cache if self._cache is None else joined([self._cache, cache])
        self._mask = torch.cat(masks)
        taken = [text.take(row) for text, row in zip(texts, logits, strict=True)]
        self._go_on([*self.texts, *texts], [*self._last, *taken])

    @torch.no_grad()
    def step(self) -> None:
        """Every text takes its next token; those at their end leave."""
        if not self.texts:
            return
        ids = torch.tensor(self._last, device=self.model.device)[:, None]
        self._mask = pad(self._mask, (0, 1), value=True)
        _, logits = self._pass(Tokens(ids, self._mask), self.texts, self._cache, prompts=False)
        self._go_on(self.texts, [text.take(row) for text, row in zip(self.texts, logits, strict=True)])

    def leave(self, texts: Sequence[W]) -> None:
        """Some texts are given up."""
        gone = {id(text) for text in texts}
        last = [None if id(text) in gone else token for text, token in zip(self.texts, self._last, strict=True)]
        self._go_on(self.texts, last)

    def _go_on(self, texts: Sequence[W], last: Sequence[int | None]) -> None:
        """Keeps the rows that have a next token, and of the columns those that a row needs."""
        rows = [i for i, token in enumerate(last) if token is not None]
        if not rows:
            self.clear()
            return
        if len(rows) < len(texts):
            assert self._cache is not None
            mask = self._mask[torch.tensor(rows, device=self._mask.device)]
            self._mask = mask[:, int(mask.any(0).long().argmax()) :]
            keep_rows(self._cache, rows, self._mask.shape[1])
        self.texts = [texts[i] for i in rows]
        self._last = [token for token in last if token is not None]

    def _pass(
        self, tokens: Tokens, texts: Sequence[Writing], cache: DynamicCache | None, *, prompts: bool
    ) -> tuple[DynamicCache, Float[Tensor, "row vocabulary"]]:
        model = self.model
        with model.edited(_hooks([text.steering for text in texts], prompts)):
            out = model.hf(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                position_ids=tokens.positions,
                use_cache=True,
                logits_to_keep=1,
                **{cache_name(model.hf): cache},
            )
        return cache_in(out), out.logits[:, -1].float().cpu()


def _hooks(steerings: Sequence[RowSteering], prompts: bool) -> dict[int, Edit]:
    """By layer, residuals [row, column, d_model] to those in which every row is steered its own way."""
    rows: dict[RowSteering, list[int]] = {}
    for i, steering in enumerate(steerings):
        rows.setdefault(steering, []).append(i)
    parts: dict[int, list[tuple[Tensor, slice, ResidualEdit]]] = {}
    for steering, own in rows.items():
        if not prompts and steering.positions == "answer":
            continue
        where = slice(-1, None) if prompts and steering.positions != "all" else slice(None)
        for layer, edit in steering.edits.items():
            parts.setdefault(layer, []).append((torch.tensor(own), where, edit))
    return {layer: _rowwise(own) for layer, own in parts.items()}


def _rowwise(parts: Sequence[tuple[Tensor, slice, ResidualEdit]]) -> Edit:
    def edit(x: Float[Tensor, "row column d_model"]) -> Float[Tensor, "row column d_model"]:
        out = x.clone()
        for own, where, change in parts:
            index = own.to(x.device)
            out[index, where] = change(x[index, where])
        return out

    return edit
