"""What steering costs in language: perplexity and next-token distributions on plain text."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.capture import tokens_in_flight
from interp.engine.passes import KeptPasses, Steered
from interp.models.language_model import Encoded, LanguageModel
from interp.statistics import Bootstrap, Estimate

Array = np.ndarray
WINDOW = 256
"""Tokens per window of text, at most (and never more than the context)."""
LOGITS_IN_FLIGHT, LOGITS_ON_CPU = 2**28, 2**21
"""Logits over the vocabulary that are held together; on a CPU larger blocks are slower (see `engine.capture`)."""


@dataclass(frozen=True)
class FluencyScore:
    """Language quality under steering, against the same model without it."""

    perplexity: float
    """Of the unsteered model, per token."""
    perplexity_ratio: Estimate
    kl: Estimate
    """Mean KL(unsteered || steered) of the next-token distribution, nats per token."""


class PlainText:
    """Documents as windows of tokens, passed once by the model as it is and once under every steering."""

    def __init__(
        self, model: LanguageModel, documents: Sequence[str], *, layers: Collection[int] = (), limit: int | None = None
    ) -> None:
        """
        Args:
            layers: after which a steered pass may begin (see `KeptPasses`).
            limit: tokens, about: the documents' first windows that hold so many.
        """
        windows = _within([(i, e) for i, d in enumerate(documents) for e in _windows(model, d)], limit)
        windows.sort(key=lambda w: -len(w[1].ids))
        self.model, self.n_documents = model, 1 + max((i for i, _ in windows), default=-1)
        self.n_tokens = sum(len(e.ids) for _, e in windows)
        size = max(1, tokens_in_flight(model) // WINDOW)
        parts = [windows[k : k + size] for k in range(0, len(windows), size)]
        self._documents = [np.array([i for i, _ in part]) for part in parts]
        self._passes = KeptPasses(model, [model.pad([e for _, e in part]) for part in parts], layers)

    def under(self, steered: Steered, bootstrap: Bootstrap, *, lowest: int | None = None) -> FluencyScore:
        """Perplexity ratio and KL between the text unsteered and inside `steered()`.

        Every token of a document counts once, predicted from up to `WINDOW` tokens before it in its window.

        Args:
            bootstrap: of the documents.
            lowest: the lowest layer that is steered, if known: what is below is not computed again.
        """
        loss, steered_loss, divergence, count = (np.zeros(self.n_documents) for _ in range(4))
        for text, after in zip(self._unsteered, self._passes.under(steered, lowest), strict=True):
            of, steered_there = text.document, after[:, :-1][text.real]
            moved = (steered_there != text.residuals).any(-1)
            found = text.loss.copy(), np.zeros_like(text.loss)
            for values, new in zip(found, _compared(self.model, text, steered_there, moved), strict=True):
                values[moved.cpu().numpy()] = new
            for total, values in zip((loss, steered_loss, divergence), (text.loss, *found), strict=True):
                np.add.at(total, of, values)
            np.add.at(count, of, 1)
        n = int(count.sum())
        ratio = bootstrap.statistic(lambda w: np.exp((w @ (steered_loss - loss)) / (w @ count)), n)
        kl = bootstrap.ratio(divergence, count)._replace(n=n)
        return FluencyScore(float(np.exp(loss.sum() / n)), ratio, kl)

    @cached_property
    def _unsteered(self) -> list["_Unsteered"]:
        """What the model says of every batch as it is: the same beside every steering."""
        found = []
        for tokens, document, before in zip(self._passes.batches, self._documents, self._passes.unsteered, strict=True):
            real = tokens.mask[:, 1:] & tokens.mask[:, :-1]
            of = np.repeat(document, real.sum(1).cpu().numpy())
            residuals, target = before[:, :-1][real], tokens.ids[:, 1:][real]
            found.append(_Unsteered(real, of, residuals, target, _loss(self.model, residuals, target)))
        return found


def fluency(model: LanguageModel, documents: Sequence[str], steered: Steered, bootstrap: Bootstrap) -> FluencyScore:
    """Perplexity ratio and KL between two passes over the text, the second inside `steered()` (see `PlainText`)."""
    return PlainText(model, documents).under(steered, bootstrap)


class _Unsteered(NamedTuple):
    """Tokens of a batch that are predicted, without the padding.

    Attributes:
        real: places of their predecessors in the batch.
        document: of each token.
        residuals: what predicts it.
        loss: nats.
    """

    real: Bool[Tensor, "window token"]
    document: Int[Array, " token"]
    residuals: Float[Tensor, "token d_model"]
    target: Int[Tensor, " token"]
    loss: Float[Array, " token"]


def _chunk(model: LanguageModel) -> int:
    """Tokens of which the vocabulary is looked at together."""
    on_cpu = model.device.type == "cpu"
    return max(1, (LOGITS_ON_CPU if on_cpu else LOGITS_IN_FLIGHT) // len(model.head_weight))


@torch.no_grad()
def _loss(
    model: LanguageModel, residuals: Float[Tensor, "token d_model"], target: Int[Tensor, " token"]
) -> Float[Array, " token"]:
    size, parts = _chunk(model), []
    for x, t in zip(residuals.split(size), target.split(size), strict=True):
        logits = model.unembed(x).float()
        parts.append(logits.logsumexp(-1) - logits.gather(-1, t[:, None])[:, 0])
    return np.asarray(torch.cat(parts).double().cpu().numpy())


@torch.no_grad()
def _compared(
    model: LanguageModel,
    text: _Unsteered,
    after: Float[Tensor, "token d_model"],
    moved: Bool[Tensor, " token"],
) -> tuple[Array, Array]:
    """Loss after and KL of the tokens before which the residual is another; where it is not, nothing is."""
    size, parts = _chunk(model), [torch.zeros(2, 0)]
    asked = (text.residuals[moved], after[moved], text.target[moved])
    for x, y, t in zip(*(values.split(size) for values in asked), strict=True):
        if not len(t):
            continue
        p, q = model.unembed(x).float(), model.unembed(y).float()
        p_norm, q_norm = p.logsumexp(-1), q.logsumexp(-1)
        kl = ((p - p_norm[:, None]).exp() * (p - q)).sum(-1) - p_norm + q_norm
        parts.append(torch.stack([q_norm - q.gather(-1, t[:, None])[:, 0], kl]).cpu())
    loss, kl = torch.cat(parts, dim=1).double().numpy()
    return loss, kl


def _within(windows: list[tuple[int, Encoded]], limit: int | None) -> list[tuple[int, Encoded]]:
    """The first windows that hold `limit` tokens, at least one."""
    total = np.cumsum([len(e.ids) for _, e in windows])
    return windows if limit is None else windows[: 1 + int((total < limit).sum())]


def _windows(model: LanguageModel, document: str) -> list[Encoded]:
    width = min(WINDOW, model.context)
    bos = model.tokenization.prepended
    ids = model.tokenization.bare_ids(document)
    size = width - len(bos)
    return [Encoded(bos + ids[k : k + size], 0) for k in range(0, len(ids), size) if len(ids[k : k + size]) > 1]
