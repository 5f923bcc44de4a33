"""Which option a model answers: from first-token probabilities, whole-answer probabilities, or generated text."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from interp.engine.capture import batches
from interp.engine.prefixes import next_tokens
from interp.engine.suffix import ResidualEdit
from interp.errors import UserError
from interp.models.language_model import LanguageModel
from interp.steering.positions import Positions
from interp.surveys.generating import replies
from interp.surveys.reliability.variations import VariedPrompt
from interp.texts.prompts import answer_text

CASINGS: tuple[Callable[[str], str], ...] = (str.lower, str.capitalize, str.upper)
REPLY_TOKENS, TOKENS_PER_BATCH = 24, 8192
END = 64
"""Characters of a prompt's end that decide which tokens its options have."""


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
    """How a set of options begins behind a prompt.

    Attributes:
        first: per option, the first tokens of all its spellings that no other option shares.
        distinct: False where the natural spellings of two options begin with the same token.
    """

    options: tuple[str, ...]
    first: tuple[tuple[int, ...], ...]
    distinct: bool


def option_tokens(model: LanguageModel, options: Sequence[str], prompt: str = "") -> OptionTokens:
    """The first token of every spelling that the tokenizer knows: a casing, with or without a blank, of one token.

    An option without such a spelling is known by the first tokens of its natural ones: with a blank before, in lower
    or capital case. Options count as distinct where no two natural spellings begin alike; a rarer spelling that begins
    like another option's, or with a token that is a blank alone, is left out.

    Args:
        prompt: as the model sees it; which tokens a spelling has depends on its end.
    """
    starts = [{ids[0] for ids in _spelled(model, prompt, [f" {casing(o)}" for casing in CASINGS[:2]])} for o in options]
    natural = [{t for t in own if str(model.tokenizer.decode([t])).strip()} for own in starts]
    spelled = [_spelled(model, prompt, [blank + c(o) for c in CASINGS for blank in ("", " ")]) for o in options]
    known = [{ids[0] for ids in own if len(ids) == 1} or first for own, first in zip(spelled, natural, strict=True)]
    shared = {t for i, own in enumerate(known) for j, other in enumerate(known) if i != j for t in own & other}
    clash = any(a & b for i, a in enumerate(natural) for b in natural[:i])
    first = tuple(tuple(sorted(own - shared)) for own in known)
    return OptionTokens(tuple(options), first, not clash and all(first))


def _spelled(model: LanguageModel, prompt: str, spellings: Sequence[str]) -> list[tuple[int, ...]]:
    return [found.ids for found in model.tokenization.continuations(prompt, list(dict.fromkeys(spellings)))]


def answer(
    model: LanguageModel,
    asked: Sequence[VariedPrompt],
    *,
    share_prefixes: bool = True,
    edits: Mapping[int, ResidualEdit] | None = None,
    positions: Positions = "answer",
) -> Answered:
    """Probabilities of every prompt's options, from one pass per prompt.

    An option's probability is that of its likeliest spelling's first token. Options that the tokenizer begins with the
    same token are scored by the probability of the whole word instead (longer words are then less likely; `method` says
    which prompts that was done for).

    Args:
        share_prefixes: pass what prompts have in common only once; the result is the same up to rounding.
        edits: by layer, what replaces residuals (a steering).
        positions: where: at the answer position alone, also at the answer's tokens (`generated`), or everywhere.

    Raises:
        UserError: a prompt too long for the context.
    """
    shown = [str(model.framed(a.prompt, as_is=True)) for a in asked]
    known: dict[tuple[tuple[str, ...], str], Spellings] = {}
    spellings: list[Spellings] = []
    for a, prompt in zip(asked, shown, strict=True):
        key = (a.options, prompt[-END:])
        if key not in known:
            known[key] = _spellings(model, a.options, prompt)
        spellings.append(known[key])
    room = max((s.room for s in spellings), default=0)
    encoded = model.encode([a.prompt for a in asked], room=room, as_is=True)
    sequences: list[list[int]] = []
    wanted: list[Tensor] = []
    edited: list[range] = []
    for e, spelled in zip(encoded, spellings, strict=True):
        for written, tokens in spelled.steps:
            sequences.append(e.ids + list(written))
            wanted.append(torch.tensor(tokens))
            answer_at, end = len(e.ids) - 1, len(sequences[-1])
            first = 0 if positions == "all" else answer_at
            edited.append(range(first, answer_at + 1 if positions == "answer" else end))
    log_probabilities, likeliest = next_tokens(
        model, sequences, wanted, share_prefixes=share_prefixes, edits=edits, edited=edited
    )
    at = 0
    probabilities, top = [], []
    for spelled in spellings:
        probabilities.append(spelled.combine(log_probabilities[at : at + len(spelled.steps)]))
        top.append(int(likeliest[at]) in spelled.beginnings)
        at += len(spelled.steps)
    method = ["first token" if spelled.tokens.distinct else "whole answer" for spelled in spellings]
    return Answered(probabilities, torch.tensor(top), method, [e.cut for e in encoded])


# ----------------------------------------------------------------------------------------- spellings


class Step(NamedTuple):
    """Tokens written behind the prompt, and next tokens whose probabilities are wanted there."""

    written: tuple[int, ...]
    wanted: tuple[int, ...]


@dataclass(frozen=True)
class Spellings:
    """The options of a prompt as tokens behind it.

    Attributes:
        whole: per option, the token ids of its casings, where first tokens do not tell options apart.
    """

    tokens: OptionTokens
    whole: tuple[tuple[tuple[int, ...], ...], ...]

    @property
    def room(self) -> int:
        """Tokens that are written behind the prompt at most."""
        return max((len(ids) for option in self.whole for ids in option), default=0)

    @cached_property
    def steps(self) -> list[Step]:
        """One for each distribution that the options need; the prompt's own first."""
        if self.tokens.distinct:
            return [Step((), tuple(t for own in self.tokens.first for t in own))]
        every = [ids for option in self.whole for ids in option]
        further = [Step(ids[:n], (ids[n],)) for ids in every for n in range(1, len(ids))]
        return [Step((), tuple(ids[0] for ids in every)), *further]

    @property
    def beginnings(self) -> set[int]:
        return set(self.steps[0].wanted)

    def combine(self, found: Sequence[Float[Tensor, " token"]]) -> Float[Tensor, " option"]:
        """Probabilities of the options from the log-probabilities of each step's wanted tokens."""
        if self.tokens.distinct:
            own = found[0].split([len(tokens) for tokens in self.tokens.first])
            return torch.stack([part.max() for part in own]).exp()
        first, rest = iter(found[0]), iter(found[1:])
        totals = [
            max(float(next(first) + sum(next(rest)[0] for _ in ids[1:])) for ids in option) for option in self.whole
        ]
        return torch.tensor(totals).exp()


def _spellings(model: LanguageModel, options: tuple[str, ...], prompt: str) -> Spellings:
    tokens = option_tokens(model, options, prompt)
    if tokens.distinct:
        return Spellings(tokens, ())
    cased = [[answer_text(casing(option), prompt) for casing in CASINGS] for option in options]
    return Spellings(tokens, tuple(tuple(_spelled(model, prompt, words)) for words in cased))


# ----------------------------------------------------------------------------------------- generated answers

Generate = Callable[[Sequence[str]], list[str]]
"""Prompts to replies: a model that only chats, here or behind somebody's interface."""


def generated_answer(generate: Generate, asked: Sequence[VariedPrompt]) -> Answered:
    """Answers read from generated text: probability 1 for the option found, 0 for all where none or several are."""
    written = generate([str(a.prompt) for a in asked])
    if len(written) != len(asked):
        raise UserError(f"{len(asked)} prompts got {len(written)} replies; one reply per prompt is needed.")
    chosen = [parse_reply(reply, a.options) for reply, a in zip(written, asked, strict=True)]
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
    """Greedy replies of a model, asked as everywhere else: through its chat template where it chats."""

    def generate(prompts: Sequence[str]) -> list[str]:
        encoded = model.encode(prompts, room=reply_tokens, as_is=True)
        written = [""] * len(prompts)
        for batch in batches([len(e.ids) for e in encoded], TOKENS_PER_BATCH):
            tokens = model.pad([encoded[i] for i in batch])
            for i, reply in zip(batch, replies(model, tokens, most_tokens=reply_tokens), strict=True):
                written[i] = reply
        return written

    return generate
