"""The words a model chooses from, as tokens: told apart by their first token, or scored whole."""

import warnings
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from interp.errors import InterpWarning, UserError
from interp.models.language_model import Encoded, LanguageModel
from interp.texts.prompts import Prompt, answer_text

LOGITS_AT_ONCE = 2**25
"""Logits over the vocabulary that are held together where whole words are scored."""


class Path(NamedTuple):
    """Continuation tokens from the first to one that none follows, and where they stand among all (the first is 1)."""

    ids: tuple[int, ...]
    columns: tuple[int, ...]


@dataclass(frozen=True)
class LabelTokens:
    """The label words as they continue a prompt.

    Where first tokens differ, a word's score is the logit of its first token. Otherwise every word is scored whole: the
    logit of its first token plus the log-probabilities of the others, each given those before it. The tokens that
    have to be read for that (all of a word but its last) are its *continuation*; the continuations of all words stand
    as a trie behind the answer position: tokens with which several of them begin stand there once, and each token sees
    those before it in its own words. Either way a softmax over the scores is a distribution over the words, and scores
    are defined up to a constant of the example.
    """

    words: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...]
    device: torch.device
    last: int | None = None
    """Last token of the prompt that the words were taken behind; None where no prompt was given."""

    @classmethod
    def of(cls, model: LanguageModel, words: Sequence[str], *, prompt: Prompt | None = None) -> "LabelTokens":
        """Token ids of each word as it continues a prompt.

        Args:
            words: with their leading space, if any (`after` puts it there).
            prompt: one of the run's prompts as the model sees it (`LanguageModel.framed`): which tokens a word has
                depends on what stands before it. None: the end of some line.

        Raises:
            UserError: no words, a word without tokens, or two words with the same tokens.
        """
        end = "" if prompt is None else str(prompt)
        continued = model.tokenization.continuations(end, words)
        ids = tuple(word.ids for word in continued)
        for i, tokens in enumerate(ids):
            if not tokens:
                raise UserError(f"{words[i]!r} has no token for {model.name}; choose another label.")
            if tokens in ids[:i]:
                other = words[ids.index(tokens)]
                raise UserError(
                    f"{words[i]!r} and {other!r} have the same tokens for {model.name}: they cannot be told apart;"
                    " choose another label."
                )
        if not ids:
            raise UserError("There must be at least one answer word.")
        joined = [word for word, tokens in zip(words, continued, strict=True) if tokens.joined]
        if joined:
            warnings.warn(
                f"The last token of the prompt changes when {joined[0]!r} follows ({model.name}): the word is scored"
                " behind the prompt's tokens as they are. End the template in a blank line or a colon.",
                InterpWarning,
                stacklevel=1,
            )
        last = model.tokenization.bare_ids(end)[-1:]
        return cls(tuple(words), ids, model.device, last[0] if last else None)

    @classmethod
    def after(cls, model: LanguageModel, prompt: Prompt | str, words: Sequence[str]) -> "LabelTokens":
        """Words, with a leading space where the prompt does not end in white space, behind a prompt of the run."""
        shown = model.framed(prompt)
        spelled = [word if word[:1].isspace() else answer_text(word, str(shown)) for word in words]
        return cls.of(model, spelled, prompt=shown)

    def check_ends(self, model: LanguageModel, prompts: Sequence[Prompt | str], encoded: Sequence[Encoded]) -> None:
        """Warns where prompts end otherwise than the one that the words were taken behind, and the words change."""
        others = {e.ids[-1]: i for i, e in enumerate(encoded) if e.ids[-1] != self.last}
        for i in others.values() if self.last is not None else ():
            continued = model.tokenization.continuations(str(model.framed(prompts[i])), self.words)
            if tuple(word.ids for word in continued) != self.tokens:
                warnings.warn(
                    f"Prompts do not end alike, and behind {str(prompts[i])[-20:]!r} the labels have other tokens than"
                    " behind the first prompt, whose tokens are scored. End the template in words of its own.",
                    InterpWarning,
                    stacklevel=1,
                )
                return

    def __len__(self) -> int:
        return len(self.words)

    @property
    def whole(self) -> bool:
        """Whether words are scored whole, because first tokens do not tell them apart."""
        return len({t[0] for t in self.tokens}) < len(self.tokens)

    @cached_property
    def first(self) -> Int[Tensor, " answer"]:
        """First token of every word."""
        return torch.tensor([t[0] for t in self.tokens], device=self.device)

    @cached_property
    def continuations(self) -> dict[int, tuple[int, ...]]:
        """Per word of several tokens, all but its last token; empty where first tokens suffice."""
        return {i: t[:-1] for i, t in enumerate(self.tokens) if self.whole and len(t) > 1}

    @cached_property
    def nodes(self) -> dict[tuple[int, ...], int]:
        """The trie: every beginning of a continuation, behind its own beginnings, and where its last token stands."""
        beginnings = (chain[: k + 1] for chain in self.continuations.values() for k in range(len(chain)))
        return {beginning: i for i, beginning in enumerate(dict.fromkeys(beginnings), start=1)}

    @cached_property
    def paths(self) -> list[Path]:
        """Sequences that hold every continuation token: one for every token that none follows."""
        inner = {beginning[:-1] for beginning in self.nodes}
        leaves = [beginning for beginning in self.nodes if beginning not in inner]
        return [Path(ids, tuple(self.nodes[ids[: k + 1]] for k in range(len(ids)))) for ids in leaves]

    @property
    def n_continued(self) -> int:
        """How many continuation tokens stand behind the answer position."""
        return len(self.nodes)

    @cached_property
    def ids(self) -> Int[Tensor, " continuation"]:
        """The continuation tokens."""
        return torch.tensor([beginning[-1] for beginning in self.nodes], dtype=torch.long, device=self.device)

    @cached_property
    def offsets(self) -> Int[Tensor, " tail"]:
        """How far behind the answer position the answer position itself (0) and every continuation token stand."""
        return torch.tensor([0, *map(len, self.nodes)], device=self.device)

    @cached_property
    def seen(self) -> Bool[Tensor, "tail tail"]:
        """Which of these tokens each of them attends to: the answer position, and its own words up to itself."""
        seen = torch.eye(1 + self.n_continued, dtype=torch.bool)
        seen[:, 0] = True
        for beginning, column in self.nodes.items():
            if len(beginning) > 1:
                seen[column] |= seen[self.nodes[beginning[:-1]]]
        return seen.to(self.device)

    @cached_property
    def _steps(self) -> "_Steps":
        steps: dict[tuple[int, int], int] = {}
        of_words: list[tuple[int, tuple[int, int]]] = []
        for answer, chain in self.continuations.items():
            for k, following in enumerate(self.tokens[answer][1:]):
                step = (self.nodes[chain[: k + 1]], following)
                steps.setdefault(step, len(steps))
                of_words.append((answer, step))
        ordered = sorted(steps)
        place = {step: i for i, step in enumerate(ordered)}
        return _Steps(
            node=[node for node, _ in ordered],
            following=torch.tensor([following for _, following in ordered], device=self.device),
            word=torch.tensor([word for word, _ in of_words], device=self.device),
            taken=torch.tensor([place[step] for _, step in of_words], device=self.device),
        )

    def score(
        self, model: LanguageModel, residuals: Float[Tensor, "*row tail d_model"]
    ) -> Float[Tensor, "*row answer"]:
        """Scores of the words from last-layer residuals of the answer position and the continuation tokens.

        At most `LOGITS_AT_ONCE` logits of the whole vocabulary are held together, under gradients as well.
        """
        scores = model.unembed(residuals[..., 0, :], self.first).float()
        if not self.continuations:
            return scores
        steps, rows = self._steps, residuals.flatten(0, -3)
        most = max(1, LOGITS_AT_ONCE // len(model.head_weight))  # positions
        n_nodes = max(1, most // max(1, len(rows)))
        read_out = []
        for start in range(1, 1 + self.n_continued, n_nodes):
            stop = min(start + n_nodes, 1 + self.n_continued)
            span = slice(bisect_left(steps.node, start), bisect_left(steps.node, stop))
            node = torch.tensor(steps.node[span], device=self.device) - start
            read = partial(_log_probabilities, model, node=node, following=steps.following[span])
            parts = rows[:, start:stop].split(max(1, most // (stop - start)))
            # Under gradients a part's logits are made anew on the way back rather than kept.
            anew = torch.is_grad_enabled() and residuals.requires_grad
            read_out.append(torch.cat([checkpoint(read, x, use_reentrant=False) if anew else read(x) for x in parts]))
        taken = torch.cat(read_out, dim=1)[:, steps.taken]
        return scores + torch.zeros_like(scores).flatten(0, -2).index_add(1, steps.word, taken).view_as(scores)


class _Steps(NamedTuple):
    """The tokens that follow continuation tokens in some word, each once, in the order of what they follow.

    Attributes:
        node: the continuation token (1 is the first).
        word, taken: which word takes which of these steps.
    """

    node: list[int]
    following: Int[Tensor, " step"]
    word: Int[Tensor, " pair"]
    taken: Int[Tensor, " pair"]


def _log_probabilities(
    model: LanguageModel,
    residuals: Float[Tensor, "row node d_model"],
    *,
    node: Int[Tensor, " step"],
    following: Int[Tensor, " step"],
) -> Float[Tensor, "row step"]:
    """Log-probabilities, over the vocabulary, of the tokens that follow some nodes."""
    return model.unembed(residuals).float().log_softmax(-1)[:, node, following]


Answers = LabelTokens
"""The name it had before."""
