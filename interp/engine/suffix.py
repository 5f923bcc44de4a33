"""Exact recomputation above an edit: the algorithm that all of the engine rests on.

Written here: x[l, t] is the residual of token t after block l of L; k[l, t] and v[l, t] are that block's keys and
values; T is the answer position, a prompt's last token; a prime marks what an edit has changed.

    edit after block l:         x'[l, T] = x[l, T] + delta
    removing feature f there:   delta = -a_f d_f      (activation a_f, direction d_f)

1. One pass over the prompt leaves x[l, T] of all layers and k[l, t], v[l, t] of all tokens (`capture`).
2. Attention is causal: an edit at T changes nothing at t < T, in any layer. Their keys and values stand.
3. So for m = l+1, ..., L-1 block m is applied to one token alone, x'[m-1, T]. From it come q', k', v', and

       attention = softmax(q' [k[m, <T], k']^T / sqrt(d_head)) [v[m, <T], v']      (`attention`)

4. The answers' scores are some rows of the unembedding: W_U[answers] norm(x'[L-1, T]). Answers of several tokens are
   scored whole: the tokens of their continuations are recomputed as well, each behind those before it (`LabelTokens`).
5. Many edits of a prompt are *rows* of one pass: their queries meet the same k[m, <T] and v[m, <T], which are never
   copied, in one matrix product. Rows edited after a later layer enter there: a sweep over layers is a single pass.
6. One row of every pass is not edited. If its scores are not the capture's, something is wrong, and the run stops
   (`check_unedited`).

An edit at several positions, p the first of them, costs the tokens p, ..., T in place of T: step 2 holds for t < p. Of
the last block only T and the continuations need more than keys and values (`Suffix.scores_from`).

Sources: interventions on residuals and modules, Vig et al. 2020 (arXiv 2004.12265) and Meng et al. 2022 (2202.05262);
on features of sparse autoencoders with their error kept, Marks et al. 2024 (2403.19647). Step 2 is what makes the
key-value cache of decoding exact; here it serves interventions.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.engine.attention import KEYS_ONLY, TO_PREFIX, Prefix, attending
from interp.engine.cache import PromptCache
from interp.engine.capture import Captured
from interp.memory import free_memory
from interp.models.caching import cache_name
from interp.models.language_model import LanguageModel

ResidualEdit = Callable[[Float[Tensor, "*row d_model"]], Float[Tensor, "*row d_model"]]
Rows = Float[Tensor, "prompt _ d_model"]
"""Variants of each prompt's residual at the answer position."""
Tail = Float[Tensor, "prompt row tail d_model"]
"""Rows with all tokens from the answer position on: itself, then the answers' continuation tokens, if any."""

ROWS_IN_FLIGHT = 1024
"""Edited tokens computed together, at most; beyond a few hundred, more of them are no faster."""
LEAST_ROWS = 16
"""Edited tokens computed together, at least, however little memory seems free."""
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 0.25, torch.float16: 0.05}
"""Largest answer-logit difference that a row without an edit may show: above it, something is wrong."""
NONE: Mapping[int, ResidualEdit] = MappingProxyType({})


class EngineError(RuntimeError):
    """The recomputation does not reproduce the unedited model. Never the user's fault."""


class Attended(NamedTuple):
    """What attention puts out, and, where it was asked for, how much each head attends to every token of the prompt."""

    output: Float[Tensor, "prompt row d_model"]
    weights: Float[Tensor, "prompt row head token"] | None


@dataclass(frozen=True)
class Suffix:
    """Some prompts from the answer position on, ready to be computed again above edits.

    Attributes:
        captured: what the prompts' own passes left behind.
        cache: those of its caches' prompts that are meant.
    """

    model: LanguageModel
    captured: Captured
    cache: PromptCache

    @cached_property
    def examples(self) -> Int[Tensor, " prompt"]:
        """The prompts' places in the capture."""
        return torch.tensor(self.cache.examples, device=self.captured.residuals.device)

    @property
    def clean_scores(self) -> Float[Tensor, "prompt answer"]:
        return self.captured.answer_logits[self.examples]

    def clean(self, layer: int) -> Float[Tensor, "prompt d_model"]:
        """The unedited residual after a layer (-1: what enters the first), at the answer position."""
        return self.cache.embedded[:, 0] if layer == -1 else self.captured.residuals[layer, self.examples]

    def select(self, prompts: Sequence[int], *, above: int = -1) -> "Suffix":
        """Some of these prompts (see `PromptCache.select`)."""
        return replace(self, cache=self.cache.select(prompts, above=above))

    def scores(
        self, entering: Mapping[int, Rows], edits: Mapping[int, ResidualEdit] = NONE
    ) -> Float[Tensor, "prompt row answer"]:
        """Scores of the answers (steps 3 and 4). Arguments as those of `tails`."""
        return self.captured.answers.score(self.model, self.tails(entering, edits))

    def tails(self, entering: Mapping[int, Rows], edits: Mapping[int, ResidualEdit] = NONE) -> Tail:
        """Residuals after the last layer (step 3).

        Args:
            entering: by layer, the residuals of rows that enter after it (-1: before the first); the result has them in
                the order of layers.
            edits: by layer above the lowest one entered at, what replaces the answer position's residual
                [prompt, row, d_model] of the rows that have entered.
        """
        lowest = min(entering)
        tail = self.with_continuation(entering[lowest], lowest)
        for layer in range(lowest + 1, self.model.n_layers):
            tail = self.block(tail, layer)
            if layer in entering:
                tail = torch.cat([tail, self.with_continuation(entering[layer], layer).to(tail.device)], dim=1)
            if layer in edits:
                edited = edits[layer](tail[..., 0, :].to(self.model.device))
                tail = torch.cat([edited[..., None, :].to(tail.device), tail[..., 1:, :]], dim=2)
        return tail.to(self.model.device)

    def with_continuation(self, rows: Rows, layer: int) -> Tail:
        """The rows' answer position, then the unedited continuation tokens."""
        continued = self.cache.embedded[:, 1:] if layer == -1 else self.cache.continued[layer]
        return torch.cat([rows[:, :, None], continued[:, None].expand(-1, rows.shape[1], -1, -1)], dim=2)

    def block(self, tail: Tail, layer: int) -> Tail:
        """What a block makes of the tokens from the answer position on."""
        answers, n_rows = self.captured.answers, tail.shape[1]
        prefix = self._prefix(layer, self.cache.mask.shape[1] - 1, answers.offsets, answers.seen)
        positions = (self.cache.position[:, None] + answers.offsets).repeat_interleave(n_rows, 0)
        flat = rearrange(tail, "prompt row token d -> (prompt row) token d")
        flat = self._call_block(flat, layer, positions, prefix)
        return rearrange(flat, "(prompt row) token d -> prompt row token d", row=n_rows)

    def attend(self, rows: Rows, layer: int, function: str = TO_PREFIX) -> Attended:
        """A layer's attention alone, of rows that enter the layer, at the answer position.

        Args:
            function: `WITH_WEIGHTS` where it is asked what they attend to as well.
        """
        answers, n_rows = self.captured.answers, rows.shape[1]
        prefix = self._prefix(layer, self.cache.mask.shape[1] - 1, answers.offsets[:1], answers.seen[:1, :1])
        positions = self.cache.position.repeat_interleave(n_rows)[:, None]
        hidden = rearrange(rows, "prompt row d -> (prompt row) 1 d").to(prefix.mask.device)
        normed = self.model.part(("input_norm", layer))(hidden)
        with attending(self.model, function):
            attention = self.model.part(("attention", layer))
            output, weights, *_ = attention(normed, **self._arguments(normed, layer, positions, prefix, None))
        if weights is not None:
            weights = rearrange(weights, "(prompt row) head 1 key -> prompt row head key", row=n_rows)
        return Attended(rearrange(output, "(prompt row) 1 d -> prompt row d", row=n_rows), weights)

    def scores_from(self, rows: Float[Tensor, "row span d_model"], after: int) -> Float[Tensor, "row answer"]:
        """Scores of the answers, given residuals of a single prompt's last tokens after a layer.

        Args:
            rows: variants of these tokens; those before them are as they were.
        """
        answers, span = self.captured.answers, rows.shape[1]
        start, n_answers, last = self.cache.mask.shape[1] - span, len(answers.offsets), self.model.n_layers - 1
        offsets, seen = self._from_span(span)
        tail = torch.cat([rows, self.cache.continued[after].expand(len(rows), -1, -1)], dim=1)
        positions = (self.cache.position + offsets).expand(len(rows), -1)
        for layer in range(after + 1, self.model.n_layers):
            prefix, past = self._prefix(layer, start, offsets, seen), None
            if layer == last and span > 1:
                past = DynamicCache()
                self._fill(past, tail[:, :-n_answers], layer, positions[:, :-n_answers], prefix)
                tail, positions = tail[:, -n_answers:], positions[:, -n_answers:]
            tail = self._call_block(tail, layer, positions, prefix, past)
        return answers.score(self.model, tail[:, -n_answers:].to(self.model.device))

    def span_block(self, tail: Float[Tensor, "row token d_model"], layer: int, span: int) -> Tensor:
        """What a block makes of a single prompt's last `span` tokens and the continuation tokens behind them."""
        offsets, seen = self._from_span(span)
        prefix = self._prefix(layer, self.cache.mask.shape[1] - span, offsets, seen)
        return self._call_block(tail, layer, (self.cache.position + offsets).expand(len(tail), -1), prefix)

    def _from_span(self, span: int) -> tuple[Int[Tensor, " token"], Bool[Tensor, "token token"]]:
        """Offsets of the last `span` tokens and the continuation tokens, and which of them each attends to."""
        answers = self.captured.answers
        offsets = torch.cat([torch.arange(1 - span, 0, device=answers.offsets.device), answers.offsets])
        seen = offsets[:, None] >= offsets
        seen[span - 1 :, span - 1 :] = answers.seen
        return offsets, seen

    def _prefix(
        self,
        layer: int,
        start: int,
        offsets: Int[Tensor, " recomputed"],
        seen: Bool[Tensor, "recomputed recomputed"],
    ) -> Prefix:
        """The prompt's first `start` tokens in a layer, on that layer's device."""
        device = self.model.device_of(layer)
        keys, values = self.cache.keys[layer][:, :, :start], self.cache.values[layer][:, :, :start]
        return Prefix(keys, values, self.cache.mask[:, :start].to(device), offsets.to(device), seen.to(device))

    def _call_block(
        self,
        hidden: Float[Tensor, "prompt_row query d_model"],
        layer: int,
        positions: Int[Tensor, "prompt_row query"],
        prefix: Prefix,
        past: DynamicCache | None = None,
    ) -> Float[Tensor, "prompt_row query d_model"]:
        hidden = hidden.to(prefix.mask.device)
        with attending(self.model, TO_PREFIX):
            output = self.model.blocks[layer](hidden, **self._arguments(hidden, layer, positions, prefix, past))
        residual: Tensor = output[0] if isinstance(output, tuple) else output
        return residual

    def _fill(
        self,
        past: DynamicCache,
        hidden: Float[Tensor, "prompt_row token d_model"],
        layer: int,
        positions: Int[Tensor, "prompt_row token"],
        prefix: Prefix,
    ) -> None:
        """Puts a layer's keys and values of some tokens into `past`, without their attention or MLP."""
        hidden = self.model.part(("input_norm", layer))(hidden.to(prefix.mask.device))
        with attending(self.model, KEYS_ONLY):
            attention = self.model.part(("attention", layer))
            attention(hidden, **self._arguments(hidden, layer, positions, prefix, past))

    def _arguments(
        self,
        hidden: Float[Tensor, "prompt_row token d_model"],
        layer: int,
        positions: Int[Tensor, "prompt_row token"],
        prefix: Prefix,
        past: DynamicCache | None,
    ) -> dict[str, Any]:
        """What every family's block takes; those that need less ignore the rest."""
        positions = positions.to(hidden.device)
        return {
            "attention_mask": None,
            "position_ids": positions,
            "position_embeddings": self.model.rotary(layer, hidden, positions),
            "use_cache": past is not None,
            cache_name(self.model.blocks[layer]): past,
            "prefix": prefix,
        }


def suffixes(model: LanguageModel, captured: Captured, most: int | None = None) -> Iterator[Suffix]:
    """The prompts of a capture, cache by cache, at most `most` together.

    Raises:
        ValueError: `captured` was made without `keep_cache=True`.
    """
    if not captured.caches:
        raise ValueError("captured = capture(..., keep_cache=True) is needed: keys and values were not kept.")
    for cache in captured.caches:
        whole, n_prompts = Suffix(model, captured, cache), len(cache.examples)
        size = n_prompts if most is None else max(1, most)
        for start in range(0, n_prompts, size):
            yield whole.select(range(start, min(start + size, n_prompts)))


def rows_that_fit(model: LanguageModel, captured: Captured) -> int:
    """Edited rows that a tenth of the free memory holds, between 2 and `ROWS_IN_FLIGHT`.

    A row has one token, and the answers' continuation tokens where these are scored whole.
    """
    return min(ROWS_IN_FLIGHT, rows_in_memory(model, captured))


def rows_in_memory(model: LanguageModel, captured: Captured) -> int:
    """Edited rows that a tenth of the free memory holds in one layer, at least 2, and 16 of a single token."""
    n_tail = len(captured.answers.offsets)
    n_keys = n_tail + max((cache.mask.shape[1] for cache in captured.caches), default=0)
    hidden, heads = 4 * model.d_hidden, int(model.backbone.config.num_attention_heads)
    bytes_per_row = 4 * n_tail * (hidden + 3 * heads * n_keys)  # the MLP's hidden layer, attention's scores
    return max(2, LEAST_ROWS // n_tail, free_memory(model.device) // 10 // bytes_per_row)


def check_unedited(model: LanguageModel, layer: int, difference: Float[Tensor, "*row column"]) -> None:
    """The engine's self-test (step 6).

    Raises:
        EngineError: scores of a row without an edit differ from the capture's by more than `TOLERANCE`.
    """
    moved = difference.abs().max().item()
    if not moved <= TOLERANCE[model.dtype]:
        raise EngineError(f"above layer {layer}, a row without an edit moved the answer logits by {moved:.2g}.")
