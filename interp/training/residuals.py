"""Residuals of several layers from one pass, as the rows that SAEs are trained on."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import DynamicCache

from interp.errors import UserError
from interp.models.language_model import Edit, LanguageModel, Tokens
from interp.training.texts import Piece

Rows = dict[int, Float[Tensor, "row d_model"]]


class _SeenAllError(Exception):
    """Ends a pass after the last layer that is looked at."""


@dataclass(frozen=True)
class Reading:
    """Which positions are read.

    Attributes:
        layers: of which blocks' outputs.
        first_position: the first token of a piece as well.
        answer_repeats: how often an answer position counts.
    """

    layers: tuple[int, ...]
    first_position: bool = False
    answer_repeats: int = 1


@dataclass(frozen=True)
class _Beginning:
    """Keys, values and rows of the tokens with which all pieces of a source begin."""

    ids: tuple[int, ...]
    keys: list[Tensor]
    values: list[Tensor]
    rows: Rows

    def cache(self, n: int) -> DynamicCache:
        """For `n` pieces that begin so."""
        store = DynamicCache()
        for layer, (k, v) in enumerate(zip(self.keys, self.values, strict=True)):
            store.update(k.expand(n, -1, -1, -1), v.expand(n, -1, -1, -1), layer)
        return store


class RowReader:
    """Reads pieces of text. What all pieces of a source begin with (a chat template's words) is computed once."""

    def __init__(self, model: LanguageModel, reading: Reading) -> None:
        self.model, self.reading = model, reading
        self._beginnings: dict[tuple[int, ...], _Beginning] = {}

    @torch.no_grad()
    def rows(self, pieces: Sequence[Piece]) -> Rows:
        """Residuals at the positions of interest of pieces of one source, layer by layer, in one pass.

        Positions of their common beginning are the same in all pieces, and are given once.

        Raises:
            UserError: a residual that is not a finite number, with its layer and text.
        """
        shared = pieces[0].shared
        if not shared:
            return self._pass(pieces, [p.ids for p in pieces], None)
        beginning = self._beginning(tuple(pieces[0].ids[:shared]))
        behind = self._pass(pieces, [p.ids[shared:] for p in pieces], beginning)
        return {layer: torch.cat([beginning.rows[layer], rows]) for layer, rows in behind.items()}

    def _beginning(self, ids: tuple[int, ...]) -> _Beginning:
        if ids not in self._beginnings:
            store = DynamicCache()
            rows = self._pass([Piece(list(ids))], [list(ids)], None, store)
            kept: list[Any] = store.layers
            self._beginnings[ids] = _Beginning(ids, [k.keys for k in kept], [k.values for k in kept], rows)
        return self._beginnings[ids]

    def _pass(
        self,
        pieces: Sequence[Piece],
        ids: Sequence[list[int]],
        beginning: _Beginning | None,
        store: DynamicCache | None = None,
    ) -> Rows:
        tokens = self._padded(ids, 0 if beginning is None else len(beginning.ids))
        width = tokens.ids.shape[1]
        wanted = tokens.mask[:, -width:].clone()
        if beginning is None and not self.reading.first_position:
            wanted[:, 0] = False
        else:
            store = store if beginning is None else beginning.cache(len(pieces))
        answers = torch.zeros_like(wanted)
        for row, piece in enumerate(pieces):
            answers[row, len(ids[row]) - 1] = piece.answer
        seen: Rows = {}
        with (
            self.model.edited(
                {layer: self._watch(layer, pieces, wanted, answers, seen) for layer in self.reading.layers}
            ),
            suppress(_SeenAllError),
        ):
            self.model.run(tokens, cache=store)
        return {layer: seen[layer] for layer in self.reading.layers}

    def _padded(self, ids: Sequence[list[int]], past: int) -> Tokens:
        """Padding stands behind: between a common beginning and what follows, it would widen their distance."""
        width = max(len(i) for i in ids)
        pad = self.model.tokenizer.pad_token_id
        rows = torch.tensor([i + [pad] * (width - len(i)) for i in ids], device=self.model.device)
        length = torch.tensor([past + len(i) for i in ids], device=self.model.device)
        return Tokens(rows, torch.arange(past + width, device=self.model.device) < length[:, None])

    def _watch(
        self,
        layer: int,
        pieces: Sequence[Piece],
        wanted: Bool[Tensor, "piece token"],
        answers: Bool[Tensor, "piece token"],
        seen: Rows,
    ) -> Edit:
        def note(residual: Tensor) -> None:
            rows = residual[wanted]
            if not torch.isfinite(rows).all():
                raise UserError(_not_finite(self.model, pieces, residual, layer))
            seen[layer] = torch.cat([rows, residual[answers].repeat(self.reading.answer_repeats - 1, 1)])
            if len(seen) == len(self.reading.layers):
                raise _SeenAllError

        return note


def _not_finite(model: LanguageModel, pieces: Sequence[Piece], residual: Tensor, layer: int) -> str:
    bad = int((~torch.isfinite(residual)).flatten(1).any(1).int().argmax())
    text = " ".join(str(model.tokenizer.decode(pieces[bad].ids)).split())
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return (
        f"The residual of layer {layer} of {model.name} holds NaN or infinite numbers for the text {shown!r};"
        " nothing is trained on them. Use capture_dtype float32, or leave the text out."
    )
