"""Residuals of all layers at the answer position, in one pass per prompt."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.cache import PromptCache, SharedPrefix
from interp.engine.prompt_pass import pass_prompts, shared_prefix
from interp.memory import halved
from interp.models.answers import LabelTokens
from interp.models.language_model import LanguageModel
from interp.notebook import html_table, text_line
from interp.texts.prompts import Prompt

TOKENS_PER_BATCH = 8192
"""Prompt tokens in flight in one pass, padding included, at most."""
HIDDEN_AT_ONCE = 2**21
"""On a CPU, activations of an MLP's hidden layer that are held together: larger blocks of memory are given back to the
system after each use, and cost more to get anew than larger passes save."""


@dataclass(frozen=True, repr=False)
class Captured:
    """What one pass per prompt leaves behind."""

    residuals: Float[Tensor, "layer example d_model"]
    answer_logits: Float[Tensor, "example answer"]
    """Scores of the answers, up to a constant of the example: logits of first tokens, or of whole words."""
    answers: LabelTokens
    n_tokens: list[int]
    cut: list[int]
    """Tokens of each text cut to fit the context."""
    caches: tuple[PromptCache, ...] = ()

    @property
    def answer_log_probabilities(self) -> Float[Tensor, "example answer"]:
        """log softmax over the label set alone, at the answer position."""
        return self.answer_logits.log_softmax(-1)

    def tail(self, cache: PromptCache, layer: int) -> Float[Tensor, "prompt tail d_model"]:
        """Residuals of a cache's prompts from the answer position on: itself, then the continuation tokens."""
        examples = torch.tensor(cache.examples, device=self.residuals.device)
        return torch.cat([self.residuals[layer, examples][:, None], cache.continued[layer]], dim=1)

    def _shown(self) -> dict[str, object]:
        layers, examples, width = self.residuals.shape
        return {
            "residuals": f"[layer {layers}, example {examples}, d_model {width}]",
            "precision": f"{str(self.residuals.dtype).removeprefix('torch.')} on {self.residuals.device}",
            "answers": self.answer_logits.shape[1],
            "tokens": f"{min(self.n_tokens)} to {max(self.n_tokens)} a prompt" if self.n_tokens else "",
            "cut": sum(n > 0 for n in self.cut) or "",
            "keys and values": "kept" if self.caches else "not kept",
        }

    def __repr__(self) -> str:
        return text_line("Captured", self._shown())

    def _repr_html_(self) -> str:
        return html_table("Captured", self._shown())

    def read_out(self, model: LanguageModel, layer: int) -> Float[Tensor, "example answer"]:
        """Scores of the answers if a layer's residual were the last one (the logit lens, nostalgebraist 2020)."""
        scores = torch.empty_like(self.answer_logits)
        for cache in self.caches:
            examples = torch.tensor(cache.examples, device=scores.device)
            scores[examples] = self.answers.score(model, self.tail(cache, layer))
        return scores


def capture(
    model: LanguageModel,
    prompts: Sequence[Prompt | str],
    *,
    answers: Sequence[str],
    keep_cache: bool = False,
    everywhere: Collection[int] = (),
    tokens_per_batch: int | None = None,
    prefix: SharedPrefix | None = None,
) -> Captured:
    """Residuals of every layer at the answer position, and the answers' logits there.

    The forward stops before the unembedding, of which only the answers' rows are computed. Answers whose first tokens
    do not tell them apart are scored whole, at one pass of all their continuation tokens behind the cached prompt.
    Prompts are batched by length, these tokens included; the result is in their own order, and batched equals single
    up to rounding. Where memory runs out, the batches are halved, with a warning.

    Args:
        answers: label words (`joy`) or answers as they continue a prompt (` joy`).
        keep_cache: also keep keys and values, as the passes above an edit (tracing, steering) need.
        everywhere: layers whose residuals at all positions are kept in the cache as well.
        tokens_per_batch: padded tokens of prompts and continuations per batch; None: `tokens_in_flight`.
        prefix: from `shared_prefix`, for calls that share one; None: what the prompts of this call have in common.

    Raises:
        UserError: an empty prompt, answers that no token tells apart.
    """
    words = LabelTokens.after(model, prompts[0], answers)
    encoded = model.encode(prompts, room=int(words.offsets.max()))
    words.check_ends(model, prompts, encoded)
    # Under somebody's edits a common beginning is passed with every prompt, whose last token stands in the last column.
    edited = model.placing.watchers > 0
    shared = prefix or (None if edited else shared_prefix(model, [e.ids for e in encoded]))
    residuals = torch.empty(model.n_layers, len(prompts), model.d_model, dtype=model.dtype, device=model.device)
    logits = torch.empty(len(prompts), len(answers), device=model.device)
    caches = []
    lengths = [len(e.ids) + words.n_continued for e in encoded]
    waiting = list(batches(lengths, tokens_per_batch or tokens_in_flight(model)))
    while waiting:
        batch = waiting[0]
        try:
            tokens = model.pad([encoded[i] for i in batch])
            begun = shared if shared and all(shared.begins(encoded[i].ids) for i in batch) else None
            passed = pass_prompts(
                model, tokens, words, batch, keep_cache=keep_cache, everywhere=everywhere, prefix=begun
            )
            scores = words.score(model, passed.tail)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            size = halved(len(batch), "prompts a pass", error)
            waiting = [longer[k : k + size] for longer in waiting for k in range(0, len(longer), size)]
            continue
        waiting = waiting[1:]
        residuals[:, batch] = passed.residuals
        logits[batch] = scores
        if passed.cache is not None:
            caches.append(passed.cache)
    return Captured(residuals, logits, words, [len(e.ids) for e in encoded], [e.cut for e in encoded], tuple(caches))


def tokens_in_flight(model: LanguageModel) -> int:
    """Prompt tokens per pass that are fastest: few on a CPU, many elsewhere."""
    if model.device.type != "cpu":
        return TOKENS_PER_BATCH
    return min(TOKENS_PER_BATCH, max(256, HIDDEN_AT_ONCE // model.d_hidden))


def batches(lengths: Sequence[int], tokens_per_batch: int) -> Iterator[list[int]]:
    """Indices grouped by length, longest first, so that little is spent on padding and memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    while order:
        size = max(1, tokens_per_batch // max(1, lengths[order[0]]))
        yield order[:size]
        order = order[size:]
