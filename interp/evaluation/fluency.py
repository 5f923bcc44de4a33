"""What steering costs in language: perplexity and next-token distributions on plain text."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
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
        passes = zip(self._passes.batches, self._documents, self._passes.unsteered, strict=True)
        for (tokens, document, before), after in zip(passes, self._passes.under(steered, lowest), strict=True):
            real = tokens.mask[:, 1:] & tokens.mask[:, :-1]
            of = np.repeat(document, real.sum(1).cpu().numpy())
            per_token = _compared(self.model, before[:, :-1][real], after[:, :-1][real], tokens.ids[:, 1:][real])
            for total, values in zip((loss, steered_loss, divergence), per_token, strict=True):
                np.add.at(total, of, values)
            np.add.at(count, of, 1)
        n = int(count.sum())
        ratio = bootstrap.statistic(lambda w: np.exp((w @ (steered_loss - loss)) / (w @ count)), n)
        kl = bootstrap.ratio(divergence, count)._replace(n=n)
        return FluencyScore(float(np.exp(loss.sum() / n)), ratio, kl)


def fluency(model: LanguageModel, documents: Sequence[str], steered: Steered, bootstrap: Bootstrap) -> FluencyScore:
    """Perplexity ratio and KL between two passes over the text, the second inside `steered()` (see `PlainText`)."""
    return PlainText(model, documents).under(steered, bootstrap)


@torch.no_grad()
def _compared(
    model: LanguageModel,
    before: Float[Tensor, "token d_model"],
    after: Float[Tensor, "token d_model"],
    target: Int[Tensor, " token"],
) -> tuple[Array, Array, Array]:
    """Loss before, loss after and KL of every token; the vocabulary is looked at for a few tokens at a time."""
    on_cpu = model.device.type == "cpu"
    size = max(1, (LOGITS_ON_CPU if on_cpu else LOGITS_IN_FLIGHT) // len(model.head_weight))
    parts = []
    for x, y, t in zip(before.split(size), after.split(size), target.split(size), strict=True):
        p, q = model.unembed(x).float(), model.unembed(y).float()
        p_norm, q_norm = p.logsumexp(-1), q.logsumexp(-1)
        losses = [norm - z.gather(-1, t[:, None])[:, 0] for z, norm in ((p, p_norm), (q, q_norm))]
        kl = ((p - p_norm[:, None]).exp() * (p - q)).sum(-1) - p_norm + q_norm
        parts.append(torch.stack([*losses, kl]))
    loss, steered_loss, kl = torch.cat(parts, dim=1).double().cpu().numpy()
    return loss, steered_loss, kl


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
