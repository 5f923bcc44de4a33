"""Residuals of all layers at the answer position, in one pass per prompt."""

import warnings
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers import DynamicCache

from interp.errors import InterpWarning
from interp.memory import out_of_memory
from interp.models.answers import Answers
from interp.models.language_model import Edit, Encoded, LanguageModel, Tokens
from interp.texts.prompts import Prompt

TOKENS_PER_BATCH = 8192
"""Prompt tokens in flight in one pass, padding included, at most."""
LEAST_SHARED = 16
"""Tokens that all prompts must begin with for these to be passed through the model once and not with every prompt."""
CONTINUED_AT_ONCE = 512
"""Continuation tokens of the answers that are passed together behind each prompt, at most."""
HIDDEN_AT_ONCE = 2**21
"""On a CPU, activations of an MLP's hidden layer that are held together: larger blocks of memory are given back to the
system after each use, and cost more to get anew than larger passes save."""


@dataclass(frozen=True)
class SharedPrefix:
    """The tokens with which all prompts begin (a chat frame, solved examples), passed through the model once."""

    ids: list[int]
    keys: list[Float[Tensor, "kv_head token d_head"]]
    values: list[Float[Tensor, "kv_head token d_head"]]
    residuals: list[Float[Tensor, "token d_model"]]
    """By layer."""

    def __len__(self) -> int:
        return len(self.ids)

    def begins(self, ids: Sequence[int]) -> bool:
        """Whether a prompt begins with it and goes on."""
        return len(ids) > len(self.ids) and list(ids[: len(self.ids)]) == self.ids


@dataclass(frozen=True)
class PromptCache:
    """Keys and values of a batch of prompts: all that passes above an edit need of the tokens before it."""

    examples: list[int]
    """Which examples (columns of `Captured`) the rows are, in order."""
    keys: list[Float[Tensor, "prompt kv_head token d_head"]]
    values: list[Float[Tensor, "prompt kv_head token d_head"]]
    mask: Bool[Tensor, "prompt token"]
    position: Int[Tensor, " prompt"]
    """The answer position's place in its prompt, padding not counted."""
    embedded: Float[Tensor, "prompt token d_model"]
    """What enters the first block at the answer position and at the answers' continuation tokens."""
    continued: list[Float[Tensor, "prompt token d_model"]]
    """By layer, residuals of the answers' continuation tokens (`Answers`); without tokens where none are needed."""
    everywhere: dict[int, Float[Tensor, "prompt token d_model"]] = field(default_factory=dict)
    """Residuals at all positions, for the layers asked for."""


@dataclass(frozen=True)
class Captured:
    """What one pass per prompt leaves behind."""

    residuals: Float[Tensor, "layer example d_model"]
    answer_logits: Float[Tensor, "example answer"]
    """Scores of the answers, up to a constant of the example: logits of first tokens, or of whole words."""
    answers: Answers
    n_tokens: list[int]
    cut: list[int]
    """Tokens of each text cut to fit the context."""
    caches: tuple[PromptCache, ...] = ()

    @property
    def answer_log_probabilities(self) -> Float[Tensor, "example answer"]:
        """log softmax over the label set alone, at the answer position."""
        return self.answer_logits.log_softmax(-1)

    def tail(self, cache: PromptCache, layer: int) -> Float[Tensor, "prompt token d_model"]:
        """Residuals of a cache's prompts from the answer position on: itself, then the continuation tokens."""
        examples = torch.tensor(cache.examples, device=self.residuals.device)
        return torch.cat([self.residuals[layer, examples][:, None], cache.continued[layer]], dim=1)

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
    words = Answers.after(model, prompts[0], answers)
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
            own = shared if shared and all(shared.begins(encoded[i].ids) for i in batch) else None
            found = _one_pass(model, tokens, words, batch, keep_cache, everywhere, own)
            scores = words.score(model, found.tail)
        except (torch.OutOfMemoryError, RuntimeError) as error:
            if not out_of_memory(error) or len(batch) == 1:
                raise
            size = len(batch) // 2
            warnings.warn(f"Out of memory: going on with {size} prompts a pass.", InterpWarning, stacklevel=2)
            waiting = [part[k : k + size] for part in waiting for k in range(0, len(part), size)]
            continue
        waiting = waiting[1:]
        residuals[:, batch] = found.residuals
        logits[batch] = scores
        if found.cache is not None:
            caches.append(found.cache)
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


@torch.no_grad()
def shared_prefix(model: LanguageModel, sequences: Sequence[Sequence[int]]) -> SharedPrefix | None:
    """What several prompts' token ids begin with; None where that is not worth a pass of its own.

    In a causal model tokens know nothing of those behind them, so that keys and values of a common beginning are the
    same in every prompt.
    """
    if len(sequences) < 2:
        return None
    first, last = min(map(list, sequences)), max(map(list, sequences))  # what the outer two in order share, all share
    common = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    n = min(common, min(map(len, sequences)) - 1)
    if n < LEAST_SHARED:
        return None
    ids = list(first[:n])
    seen: list[Tensor] = [torch.empty(0)] * model.n_layers

    def note(layer: int) -> Edit:
        return lambda residual: seen.__setitem__(layer, residual[0])

    store = DynamicCache()
    with model.edited({layer: note(layer) for layer in range(model.n_layers)}):
        model.run(model.pad([Encoded(ids, 0)]), past_key_values=store, use_cache=True)
    kept: list[Any] = store.layers
    return SharedPrefix(ids, [x.keys[0] for x in kept], [x.values[0] for x in kept], seen)


class _Found(NamedTuple):
    """What a batch's passes leave behind; `tail`: last-layer residuals from the answer position on."""

    residuals: Float[Tensor, "layer prompt d_model"]
    tail: Float[Tensor, "prompt token d_model"]
    cache: PromptCache | None


@torch.no_grad()
def _one_pass(
    model: LanguageModel,
    tokens: Tokens,
    answers: Answers,
    examples: list[int],
    keep_cache: bool,
    everywhere: Collection[int],
    prefix: SharedPrefix | None,
) -> _Found:
    """Residuals of the answer position and of the answers' continuation tokens."""
    needs_keys = keep_cache or answers.n_continued > 0
    if prefix is None:
        at_answer, whole, store = _whole_pass(model, tokens, everywhere, needs_keys)
    else:
        at_answer, whole, store = _pass_behind(model, tokens, everywhere, needs_keys, prefix)
    residuals = at_answer[1:, :, 0]
    if store is None:
        return _Found(residuals, at_answer[-1], None)
    layers = range(-1, model.n_layers) if keep_cache else [model.n_layers - 1]
    continued = _continue(model, tokens, answers, store, layers)
    tail = torch.cat([at_answer[-1], continued[model.n_layers - 1]], dim=1)
    if not keep_cache:
        return _Found(residuals, tail, None)
    kept: list[Any] = store.layers
    cache = PromptCache(
        examples=examples,
        keys=[layer.keys for layer in kept],
        values=[layer.values for layer in kept],
        mask=tokens.mask,
        position=tokens.positions[:, -1],
        embedded=torch.cat([at_answer[0], continued[-1]], dim=1),
        continued=[continued[layer] for layer in range(model.n_layers)],
        everywhere=whole,
    )
    return _Found(residuals, tail, cache)


Passed = tuple[Float[Tensor, "layer_and_input prompt 1 d_model"], dict[int, Tensor], DynamicCache | None]
"""Residuals at the answer position, those at all positions by layer, and left-padded keys and values."""


def _whole_pass(model: LanguageModel, tokens: Tokens, everywhere: Collection[int], needs_keys: bool) -> Passed:
    seen: dict[int, Tensor] = {}
    whole: dict[int, Tensor] = {}

    def watch(layer: int) -> Edit:
        def at_answer(residual: Tensor) -> None:
            seen[layer] = residual[:, -1:].to(model.device, copy=True)
            if layer in everywhere:
                whole[layer] = residual.to(model.device)

        return at_answer

    # A cache built without a config keeps every key, in sliding-window layers too.
    store = DynamicCache() if needs_keys else None
    prompts = model.prompted(tokens.ids.shape[1])
    with prompts, model.edited({layer: watch(layer) for layer in range(-1, model.n_layers)}):
        model.run(tokens, past_key_values=store, use_cache=store is not None)
    return torch.stack([seen[layer] for layer in range(-1, model.n_layers)]), whole, store


def _pass_behind(
    model: LanguageModel, tokens: Tokens, everywhere: Collection[int], needs_keys: bool, prefix: SharedPrefix
) -> Passed:
    """As `_whole_pass`, of the tokens behind a prefix that all these prompts share.

    They are padded on their right, so that they stand next to the prefix, as layers with a sliding window need: these
    count columns. What is handed back is padded on the left.
    """
    device, n_before = model.device, len(prefix)
    n_prompts, width = len(tokens.ids), tokens.ids.shape[1] - n_before
    padding = (~tokens.mask).sum(1)  # of each prompt
    last = width - padding - 1
    rows = torch.arange(n_prompts, device=device)
    step = torch.arange(width, device=device)
    left = (step + n_before + padding[:, None]).clamp(max=tokens.ids.shape[1] - 1)
    ids = tokens.ids.gather(1, left)
    real = torch.cat([tokens.mask.new_ones(n_prompts, n_before), step <= last[:, None]], dim=1)
    positions = (n_before + step).clamp(max=model.context - 1).expand(n_prompts, -1)
    # From [prefix, own tokens, padding] to [padding, prefix, own tokens].
    column = (torch.arange(n_before + width, device=device) - padding[:, None]).clamp(min=0)

    def to_the_right(x: Tensor, dim: int) -> Tensor:
        shape = [1] * x.ndim
        shape[0], shape[dim] = column.shape
        index = column.to(x.device).view(shape).expand(*x.shape)
        return x.gather(dim, index) if bool(padding.any()) else x

    seen: dict[int, Tensor] = {}
    whole: dict[int, Tensor] = {}

    def watch(layer: int) -> Edit:
        def at_answer(residual: Tensor) -> None:
            x = residual.to(model.device)
            seen[layer] = x[rows, last][:, None]
            if layer in everywhere:
                before = prefix.residuals[layer].to(model.device).expand(n_prompts, -1, -1)
                whole[layer] = to_the_right(torch.cat([before, x], dim=1), 1)

        return at_answer

    store = DynamicCache()
    for layer, (keys, values) in enumerate(zip(prefix.keys, prefix.values, strict=True)):
        store.update(keys.expand(n_prompts, -1, -1, -1), values.expand(n_prompts, -1, -1, -1), layer)
    nowhere = model.prompted(None)  # prompts padded on their right do not end in one column
    with nowhere, model.edited({layer: watch(layer) for layer in range(-1, model.n_layers)}):
        model.backbone(
            input_ids=ids,
            attention_mask=real.long(),
            position_ids=positions,
            past_key_values=store,
            use_cache=True,
        )
    at_answer = torch.stack([seen[layer] for layer in range(-1, model.n_layers)])
    if not needs_keys:
        return at_answer, whole, None
    kept: list[Any] = store.layers
    for one in kept:
        one.keys, one.values = to_the_right(one.keys, 2), to_the_right(one.values, 2)
    return at_answer, whole, store


def _continue(
    model: LanguageModel, tokens: Tokens, answers: Answers, store: DynamicCache, layers: Iterable[int]
) -> dict[int, Float[Tensor, "prompt token d_model"]]:
    """By layer, what leaves it at the answers' continuation tokens; -1: what enters the first block.

    All of them pass together behind the prompt's keys and values, each seeing what `Answers.seen` says;
    `CONTINUED_AT_ONCE` at most in one pass.
    """
    n_prompts, width = tokens.mask.shape
    empty = partial(torch.empty, n_prompts, answers.n_continued, model.d_model, dtype=model.dtype, device=model.device)
    out = {layer: empty() for layer in layers}
    positions = tokens.positions[:, -1:] + answers.offsets[1:]
    for start in range(0, answers.n_continued, CONTINUED_AT_ONCE):
        part = slice(start, min(start + CONTINUED_AT_ONCE, answers.n_continued))

        def note(layer: int, part: slice = part) -> Edit:
            def keep(residual: Tensor) -> None:
                out[layer][:, part] = residual.to(model.device)

            return keep

        with model.prompted(width), model.edited({layer: note(layer) for layer in out}):
            model.backbone(
                input_ids=answers.ids[part].expand(n_prompts, -1),
                attention_mask=_continuation_mask(model, tokens, answers, part),
                position_ids=positions[:, part],
                past_key_values=store,
                use_cache=True,
            )
    if answers.n_continued:
        store.crop(-answers.n_continued)
    return out


def _continuation_mask(
    model: LanguageModel, tokens: Tokens, answers: Answers, part: slice
) -> Tensor | dict[str, Tensor]:
    """What some of the continuation tokens attend to, [prompt, 1, query, key]: the prompt, and those before them."""
    n_prompts, width = tokens.mask.shape
    offsets, device = answers.offsets, tokens.mask.device
    queries, keys = slice(part.start + 1, part.stop + 1), slice(1, part.stop + 1)
    own = answers.seen[queries, keys].expand(n_prompts, -1, -1)
    seen = torch.cat([tokens.mask[:, None].expand(-1, own.shape[1], -1), own], dim=2)
    where = torch.cat([torch.arange(1 - width, 1, device=device), offsets[keys]])

    def masked(window: int | None) -> Tensor:
        near = seen if window is None else seen & (where > offsets[queries, None] - window)
        return model.attention_mask(near[:, None])

    window = getattr(model.backbone.config, "sliding_window", None)
    if not model.masks_by_type:
        return masked(window)
    return {"full_attention": masked(None), "sliding_attention": masked(window)}
