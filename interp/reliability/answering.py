"""Which option a model answers: from first-token probabilities, whole-answer probabilities, or generated text."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from interp.capture import batches
from interp.errors import UserError
from interp.model import LanguageModel
from interp.prompts import Prompt, answer_text
from interp.reliability.prefixes import next_tokens
from interp.reliability.variations import Asked
from interp.tracing.ablation import ResidualEdit

CASINGS: tuple[Callable[[str], str], ...] = (str.lower, str.capitalize, str.upper)
REPLY_TOKENS = 24


@dataclass(frozen=True)
class Answered:
    """Probabilities of the options of some prompts.

    Attributes:
        probabilities: per prompt, one number per option; that of its likeliest spelling.
        top: whether the likeliest next token begins an option.
        method: per prompt, `first token`, `whole answer` or `generated`.
        cut: tokens of each prompt's text cut to fit the context.
    """

    probabilities: list[Float[Tensor, " option"]]
    top: Bool[Tensor, " prompt"]
    method: list[str]
    cut: list[int]


@dataclass(frozen=True)
class OptionTokens:
    """How a tokenizer begins a set of options.

    Attributes:
        first: per option, the first tokens of all its spellings that no other option shares.
        distinct: False where the natural spellings of two options begin with the same token.
    """

    options: tuple[str, ...]
    first: tuple[tuple[int, ...], ...]
    distinct: bool


def option_tokens(tokenizer: PreTrainedTokenizerBase, options: Sequence[str]) -> OptionTokens:
    """The first token of every spelling that the tokenizer knows: a casing, with or without a blank, of one token.

    An option without such a spelling is known by the first tokens of its natural ones: with a blank before, in lower
    or capital case. Options count as distinct where no two natural spellings begin alike; a rarer spelling that begins
    like another option's, or with a token that is a blank alone, is left out.
    """
    starts = [{_ids(tokenizer, f" {casing(o)}")[0] for casing in CASINGS[:2]} for o in options]
    natural = [{t for t in own if str(tokenizer.decode([t])).strip()} for own in starts]
    spelled = [[_ids(tokenizer, blank + casing(o)) for casing in CASINGS for blank in ("", " ")] for o in options]
    known = [{ids[0] for ids in own if len(ids) == 1} or first for own, first in zip(spelled, natural, strict=True)]
    shared = {t for i, own in enumerate(known) for j, other in enumerate(known) if i != j for t in own & other}
    clash = any(a & b for i, a in enumerate(natural) for b in natural[:i])
    first = tuple(tuple(sorted(own - shared)) for own in known)
    return OptionTokens(tuple(options), first, not clash and all(first))


def answer(
    model: LanguageModel,
    asked: Sequence[Asked],
    *,
    share_prefixes: bool = True,
    whole_answers: bool = False,
    edits: Mapping[int, ResidualEdit] | None = None,
) -> Answered:
    """Probabilities of every prompt's options, from one pass per prompt.

    An option's probability is that of its likeliest spelling's first token. Options that the tokenizer begins with the
    same token are scored by the probability of the whole word instead (longer words are then less likely; `method` says
    which prompts that was done for).

    Args:
        share_prefixes: pass what prompts have in common only once; the result is the same up to rounding.
        whole_answers: score whole answers throughout.
        edits: by layer, what replaces the residual at the answer position (a steering).

    Raises:
        UserError: a prompt too long for the context.
    """
    room = 0
    known: dict[tuple[str, ...], OptionTokens] = {}
    for a in asked:
        if a.options not in known:
            found = option_tokens(model.tokenizer, a.options)
            known[a.options] = found if not whole_answers else OptionTokens(a.options, found.first, False)
            if not known[a.options].distinct:
                room = max(room, *(len(ids) for o in a.options for ids in _continuations(model.tokenizer, o, "")))
    encoded = model.encode([a.prompt for a in asked], room=room)
    sequences: list[list[int]] = []
    wanted: list[Tensor] = []
    for a, e in zip(asked, encoded, strict=True):
        for sequence, tokens in _steps(model.tokenizer, a, e.ids, known[a.options]):
            sequences.append(sequence)
            wanted.append(torch.tensor(tokens))
    log_probabilities, likeliest = next_tokens(model, sequences, wanted, share_prefixes=share_prefixes, edits=edits)
    at = 0
    probabilities, top = [], []
    for a, e in zip(asked, encoded, strict=True):
        steps = len(list(_steps(model.tokenizer, a, e.ids, known[a.options])))
        own = slice(at, at + steps)
        options = known[a.options]
        probabilities.append(_combine(model.tokenizer, a, options, log_probabilities[own]))
        top.append(int(likeliest[at]) in _beginnings(model.tokenizer, a, options))
        at += steps
    method = ["first token" if known[a.options].distinct else "whole answer" for a in asked]
    return Answered(probabilities, torch.tensor(top), method, [e.cut for e in encoded])


# ----------------------------------------------------------------------------------------- whole answers


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _continuations(tokenizer: PreTrainedTokenizerBase, option: str, prompt: str) -> list[list[int]]:
    """Token ids of an option's casings as they continue a prompt."""
    spelled = dict.fromkeys(answer_text(casing(option), prompt) for casing in CASINGS)
    return [_ids(tokenizer, s) for s in spelled]


def _steps(
    tokenizer: PreTrainedTokenizerBase, asked: Asked, ids: list[int], options: OptionTokens
) -> Iterator[tuple[list[int], list[int]]]:
    """(tokens so far, next tokens wanted) for each distribution that the options of a prompt need; the prompt first."""
    if options.distinct:
        yield ids, [t for own in options.first for t in own]
        return
    spelled = [c for o in asked.options for c in _continuations(tokenizer, o, str(asked.prompt))]
    yield ids, [c[0] for c in spelled]
    for c in spelled:
        for length in range(1, len(c)):
            yield ids + c[:length], [c[length]]


def _combine(
    tokenizer: PreTrainedTokenizerBase, asked: Asked, options: OptionTokens, found: Sequence[Tensor]
) -> Float[Tensor, " option"]:
    if options.distinct:
        own = found[0].split([len(tokens) for tokens in options.first])
        return torch.stack([part.max() for part in own]).exp()
    first, rest = iter(found[0]), iter(found[1:])
    totals = []
    for option in asked.options:
        spelled = _continuations(tokenizer, option, str(asked.prompt))
        totals.append(max(float(next(first) + sum(next(rest)[0] for _ in c[1:])) for c in spelled))
    return torch.tensor(totals).exp()


def _beginnings(tokenizer: PreTrainedTokenizerBase, asked: Asked, options: OptionTokens) -> set[int]:
    if options.distinct:
        return {t for own in options.first for t in own}
    return {c[0] for o in asked.options for c in _continuations(tokenizer, o, str(asked.prompt))}


# ----------------------------------------------------------------------------------------- generated answers

Generate = Callable[[Sequence[str]], list[str]]
"""Prompts to replies: a model that only chats, here or behind somebody's interface."""


def generated_answer(generate: Generate, asked: Sequence[Asked]) -> Answered:
    """Answers read from generated text: probability 1 for the option found, 0 for all where none or several are."""
    replies = generate([str(a.prompt) for a in asked])
    if len(replies) != len(asked):
        raise UserError(f"{len(asked)} prompts got {len(replies)} replies; one reply per prompt is needed.")
    chosen = [parse_reply(reply, a.options) for reply, a in zip(replies, asked, strict=True)]
    rows = [torch.tensor([float(o == c) for o in a.options]) for c, a in zip(chosen, asked, strict=True)]
    n = len(asked)
    return Answered(rows, torch.tensor([c is not None for c in chosen]), ["generated"] * n, [0] * n)


def parse_reply(reply: str, options: Sequence[str]) -> str | None:
    """The one option that the reply names as a word of its own; None where it names none, or several.

    A reply that begins with an option counts as that option, whatever follows (`True. It is false that ...`).
    """
    words = re.sub(r"[*_`\"'“”‘’]", "", reply).strip().lower()
    found = [o for o in options if re.search(rf"(?<!\w){re.escape(o.lower())}(?!\w)", words)]
    begins = [o for o in found if re.match(rf"{re.escape(o.lower())}(?!\w)", words)]
    chosen = begins or found
    return chosen[0] if len(chosen) == 1 else None


def chat(model: LanguageModel, *, reply_tokens: int = REPLY_TOKENS) -> Generate:
    """Greedy replies of a model, through its chat template where it has one."""

    def generate(prompts: Sequence[str]) -> list[str]:
        template = getattr(model.tokenizer, "chat_template", None)
        texts = [_as_chat(model, p) if template else p for p in prompts]
        encoded = model.encode(texts, room=reply_tokens)
        replies = [""] * len(prompts)
        for batch in batches([len(e.ids) for e in encoded], 8192):
            tokens = model.pad([encoded[i] for i in batch])
            written = model.hf.generate(
                input_ids=tokens.ids,
                attention_mask=tokens.mask.long(),
                max_new_tokens=reply_tokens,
                do_sample=False,
                pad_token_id=model.tokenizer.pad_token_id,
            )[:, tokens.ids.shape[1] :]
            for i, text in zip(batch, model.tokenizer.batch_decode(written, skip_special_tokens=True), strict=True):
                replies[i] = text
        return replies

    return generate


def _as_chat(model: LanguageModel, prompt: Prompt | str) -> str:
    message = [{"role": "user", "content": str(prompt)}]
    text = str(model.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True))
    # The template writes the first token itself, and so does the tokenizer.
    return text.removeprefix(model.tokenizer.bos_token or "")
