"""Residuals of several layers from one pass, as the rows that SAEs are trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.errors import UserError
from interp.model import Edit, Encoded, LanguageModel, Tokens
from interp.training.texts import Piece

Rows = dict[int, Float[Tensor, "row d_model"]]


class _SeenAll(Exception):
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


@torch.no_grad()
def read_rows(model: LanguageModel, pieces: Sequence[Piece], reading: Reading) -> Rows:
    """Residuals at the positions of interest, layer by layer, in one pass.

    Tokens with which all pieces of a source begin have the same residuals in each: they are read from the first alone.

    Raises:
        UserError: a residual that is not a finite number, with its layer and text.
    """
    tokens = model.pad([Encoded(p.ids, 0) for p in pieces])
    wanted = positions(tokens, pieces, reading.first_position)
    answers = torch.zeros_like(wanted)
    answers[[i for i, p in enumerate(pieces) if p.answer], -1] = True
    seen: Rows = {}
    last = max(reading.layers)

    def watch(layer: int) -> Edit:
        def note(residual: Tensor) -> None:
            rows = residual[wanted]
            if not torch.isfinite(rows).all():
                raise UserError(_not_finite(model, pieces, residual, layer))
            seen[layer] = torch.cat([rows, residual[answers].repeat(reading.answer_repeats - 1, 1)])
            if layer == last:
                raise _SeenAll

        return note

    try:
        with model.edited({layer: watch(layer) for layer in reading.layers}):
            model.run(tokens, use_cache=False)
    except _SeenAll:
        pass
    return seen


def positions(tokens: Tokens, pieces: Sequence[Piece], first_position: bool) -> Bool[Tensor, "piece token"]:
    """Positions that count: no padding, no first token, and what all pieces share only in the first one."""
    wanted = tokens.mask.clone() if first_position else tokens.mask & (tokens.positions > 0)
    for row, piece in enumerate(pieces):
        if row:
            start = wanted.shape[1] - len(piece.ids)
            wanted[row, start : start + piece.shared] = False
    return wanted


def _not_finite(model: LanguageModel, pieces: Sequence[Piece], residual: Tensor, layer: int) -> str:
    bad = int((~torch.isfinite(residual)).flatten(1).any(1).int().argmax())
    text = " ".join(str(model.tokenizer.decode(pieces[bad].ids)).split())
    shown = text if len(text) <= 60 else f"{text[:57]}..."
    return (
        f"The residual of layer {layer} of {model.name} holds NaN or infinite numbers for the text {shown!r};"
        " nothing is trained on them. Use capture_dtype float32, or leave the text out."
    )
