"""What steering costs in language: perplexity and next-token distributions on plain text."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from interp.errors import UserError
from interp.evaluation.statistics import Estimate, from_draws, ratio_estimate
from interp.model import Encoded, LanguageModel, Tokens
from interp.plain_documents import documents as documents_of

BATCH = 8
WINDOW = 256
"""Tokens per window of text, at most (and never more than the context)."""
LOGITS_IN_FLIGHT, LOGITS_ON_CPU = 2**28, 2**21
"""Logits over the vocabulary that are held together; on a CPU larger blocks are slower (see `interp.capture`)."""


@dataclass(frozen=True)
class FluencyScore:
    """Language quality under steering, against the same model without it."""

    perplexity: float
    """Of the unsteered model, per token."""
    perplexity_ratio: Estimate
    kl: Estimate
    """Mean KL(unsteered || steered) of the next-token distribution, nats per token."""


def load_plain_text(path: str | None) -> list[str]:
    """Documents of a plain-text file (see `interp.plain_documents`); None: the bundled one.

    Raises:
        UserError: no such file, or no text in it.
    """
    file = Path(path) if path is not None else Path(str(files("interp") / "data" / "plain_text.txt"))
    if not file.is_file():
        raise UserError(f"No plain-text file {str(file)!r} (fluency.path); leave it out for the bundled one.")
    try:
        found = documents_of(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise UserError(f"{file} is not UTF-8 text; convert it first.") from None
    if not found:
        raise UserError(f"{file} holds no text.")
    return found


@torch.no_grad()
def fluency(
    model: LanguageModel,
    documents: Sequence[str],
    steered: Callable[[], AbstractContextManager[None]],
    weights: Float[np.ndarray, "resample document"],
) -> FluencyScore:
    """Perplexity ratio and KL between two passes over the text, the second inside `steered()`.

    Every token of a document counts once, predicted from up to `WINDOW` tokens before it in its window.
    """
    windows = [(i, e) for i, d in enumerate(documents) for e in _windows(model, d)]
    logits = LOGITS_ON_CPU if model.device.type == "cpu" else LOGITS_IN_FLIGHT
    size = max(1, min(BATCH, logits // (WINDOW * model.head_weight.shape[0])))
    loss, steered_loss, divergence, count = (np.zeros(len(documents)) for _ in range(4))
    for start in range(0, len(windows), size):
        batch = windows[start : start + size]
        tokens = model.pad([e for _, e in batch])
        before = _log_probs(model, tokens)
        with steered():
            after = _log_probs(model, tokens)
        target, real = tokens.ids[:, 1:, None], tokens.mask[:, 1:] & tokens.mask[:, :-1]
        document = np.array([d for d, _ in batch])
        kl = (before.exp() * (before - after)).sum(-1)[:, :-1]
        for total, per_token in (
            (loss, -before[:, :-1].gather(-1, target)[..., 0]),
            (steered_loss, -after[:, :-1].gather(-1, target)[..., 0]),
            (divergence, kl),
            (count, torch.ones_like(kl)),
        ):
            np.add.at(total, document, (per_token * real).sum(-1).double().cpu().numpy())
    draws = np.exp((weights @ (steered_loss - loss)) / (weights @ count))
    n = int(count.sum())
    ratio = from_draws(float(np.exp((steered_loss - loss).sum() / n)), draws, n)
    kl_estimate = ratio_estimate(divergence, count, weights)
    return FluencyScore(float(np.exp(loss.sum() / n)), ratio, kl_estimate._replace(n=n))


def _windows(model: LanguageModel, document: str) -> list[Encoded]:
    width = min(WINDOW, model.context)
    bos = model.tokenization.prepended
    ids = model.tokenization.bare_ids(document)
    size = width - len(bos)
    return [Encoded(bos + ids[k : k + size], 0) for k in range(0, len(ids), size) if len(ids[k : k + size]) > 1]


def _log_probs(model: LanguageModel, tokens: Tokens) -> torch.Tensor:
    logits = model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.positions).logits
    return logits.float().log_softmax(-1)
