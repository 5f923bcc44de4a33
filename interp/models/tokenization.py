"""The one way from words to token ids: what a tokenizer adds to every text, the chat template, and continuations."""

import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from interp.errors import InterpWarning, UserError
from interp.texts.prompts import BLANKS, Prompt, Turn

MARK = "[[words]]"
THOUGHTS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
"""What opens a model's reasoning in a chat template, and what closes it."""
END_CHARACTERS = 96
"""Of a prompt, as much as decides the tokens of what follows, at least."""
WAY_ROUND = (
    "ask without it: --prompt.chat false (interp run), --chat false (reliability) or --no-chat (express, generate)"
)


class Frame(NamedTuple):
    """What a chat template puts around a user's words, up to where the assistant begins to speak."""

    before: str
    after: str
    trims: bool
    """Whether the template takes white space off the words' ends."""

    @property
    def shown(self) -> str:
        """The frame in one line of text, with a mark for the words."""
        return self.before + MARK + self.after


class Continued(NamedTuple):
    """A word's tokens behind a prompt.

    Attributes:
        joined: whether the prompt's own last token changes once the word follows. Then `ids` are those of the word
            begun afresh, behind the prompt's tokens as they are.
    """

    ids: tuple[int, ...]
    joined: bool


class Tokenization:
    """A tokenizer as prompts need it.

    Attributes:
        prepended: tokens that the tokenizer puts before every text (BOS).
        appended: those that it puts behind every text (an end of text, say). They are cut off, since the answer
            position is the last token of the words themselves.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, name: str) -> None:
        self.tokenizer, self.name = tokenizer, name
        self.prepended, self.appended = _added(tokenizer)
        self._frames: dict[tuple[Turn, ...], Frame] = {}

    # ------------------------------------------------------------------------------------ words to ids

    def text_ids(self, text: str) -> list[int]:
        """Ids of plain text, with what the tokenizer puts before it (BOS) and without what it puts behind it."""
        ids = list(self.tokenizer(text)["input_ids"])
        n = len(self.appended)
        return ids[:-n] if n and ids[-n:] == self.appended else ids

    def bare_ids(self, text: str) -> list[int]:
        """Ids of words inside a text: nothing is added."""
        return list(self.tokenizer(text, add_special_tokens=False)["input_ids"])

    def ids(self, framed: Prompt, *, chat: bool) -> list[int]:
        """Ids of a prompt that `framed` made. A chat template writes all special tokens itself, BOS included."""
        return self.bare_ids(str(framed)) if chat else self.text_ids(str(framed))

    def framed(self, prompt: Prompt | str, *, chat: bool, as_is: bool = False) -> Prompt:
        """The prompt as the model sees it: as a user's turn in the chat template, or as it is.

        A blank at the end would be a token of its own, which models hardly ever saw before a word (the word's token
        begins with the blank): it is left to the word that follows, with a warning.

        Args:
            as_is: keep blanks at the end.

        Raises:
            UserError: a chat template that fails, or that changes the words.
        """
        asked = Prompt("", prompt, "") if isinstance(prompt, str) else prompt
        shown = asked if as_is else self._without_last_blanks(asked)
        if not chat:
            return shown
        frame = self.frame(shown.turns)
        if frame.trims:
            shown = shown.stripped
        if shown.words not in self._render((*shown.turns, Turn("user", shown.words))):
            raise UserError(f"The chat template of {self.name} changes the words it is given; {WAY_ROUND}.")
        return Prompt(frame.before + shown.before, shown.text, shown.after + frame.after)

    def _without_last_blanks(self, prompt: Prompt) -> Prompt:
        words = str(prompt)
        return prompt if self._unblanked(words, "prompt") == words else prompt.unblanked

    def _unblanked(self, words: str, what: str) -> str:
        """Words without the blanks at their end, and a warning that names the token."""
        without = words.rstrip(BLANKS)
        if without != words:
            token = self.tokenizer.convert_ids_to_tokens(self.bare_ids(words)[-1:])
            warnings.warn(
                f"The {what} ends in a blank, for {self.name} the token {''.join(token)!r}, behind which models answer"
                f" at random: it is left out, and the answer begins with it. End the {what} without a blank.",
                InterpWarning,
                stacklevel=1,
            )
        return without

    # ------------------------------------------------------------------------------------ the chat template

    def frame(self, turns: tuple[Turn, ...] = ()) -> Frame:
        """What the chat template puts around a user's words that come after `turns`; the same for a whole process.

        Raises:
            UserError: no template, one that fails, or one that leaves the words out.
        """
        if turns not in self._frames:
            self._frames[turns] = self._frame(turns)
        return self._frames[turns]

    def _frame(self, turns: tuple[Turn, ...]) -> Frame:
        if not getattr(self.tokenizer, "chat_template", None):
            raise UserError(f"The tokenizer of {self.name} has no chat template; {WAY_ROUND}.")
        rendered = self._render((*turns, Turn("user", MARK)))
        if rendered.count(MARK) != 1:
            raise UserError(
                f"The chat template of {self.name} shows a user's words {rendered.count(MARK)} times; {WAY_ROUND}."
            )
        before, _, after = rendered.partition(MARK)
        spaced = f" {MARK}\n "
        trims = spaced not in self._render((*turns, Turn("user", spaced)))
        return Frame(before, self._unblanked(self._closed(after), "chat template"), trims)

    def _closed(self, after: str) -> str:
        """A template that opens the model's reasoning gets it closed at once: the answer is wanted, not thoughts."""
        for opening, closing in THOUGHTS.items():
            if after.rstrip().endswith(opening):
                warnings.warn(
                    f"The chat template of {self.name} opens {opening}; it is closed at once ({closing}), so that the"
                    f" model answers instead of reasoning. To do without the template, {WAY_ROUND}.",
                    InterpWarning,
                    stacklevel=1,
                )
                return f"{after.rstrip()}\n\n{closing}\n\n"
        return after

    def _render(self, turns: Sequence[Turn]) -> str:
        messages: list[Any] = [turn._asdict() for turn in turns]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    messages,
                    tokenize=False,
                    add_generation_prompt=True,
                    enable_thinking=False,  # templates of reasoning models (Qwen3) answer at once; others ignore it
                )
            )
        except Exception as error:  # a template is a program that came with the model: it may fail in any way
            words = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"The chat template of {self.name} refuses a question ({words}); {WAY_ROUND}.") from None

    # ------------------------------------------------------------------------------------ continuations

    def continuations(self, prompt: str, words: Sequence[str]) -> list[Continued]:
        """Tokens of words as they continue a prompt: those of prompt + word less those of the prompt.

        Words tokenised alone may be other tokens: SentencePiece puts a blank before every text.

        Args:
            prompt: as the model sees it (`framed`); empty: some text that ends in a line.
            words: with their leading space, if any.
        """
        if not words:
            return []
        end = self._end(prompt) if prompt else "\n"
        start, afresh = self.bare_ids(end), self.bare_ids("\n")
        wholes = self.tokenizer([end + word for word in words], add_special_tokens=False)["input_ids"]
        found = []
        for word, whole in zip(words, wholes, strict=True):
            if list(whole[: len(start)]) == start:
                found.append(Continued(tuple(whole[len(start) :]), joined=False))
                continue
            begun = self.bare_ids(f"\n{word}")
            ids = begun[len(afresh) :] if begun[: len(afresh)] == afresh else self.bare_ids(word)
            found.append(Continued(tuple(ids), joined=bool(prompt)))
        return found

    def _end(self, prompt: str) -> str:
        """The last part of a prompt, if its last tokens are those of the whole prompt."""
        if len(prompt) <= 2 * END_CHARACTERS:
            return prompt
        begin = max(prompt.rfind(blank, 0, len(prompt) - END_CHARACTERS) for blank in " \n")
        end = prompt[max(begin, 0) :]
        return end if self.bare_ids(end)[-4:] == self.bare_ids(prompt)[-4:] else prompt


def _added(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind a text, seen on one."""
    whole = list(tokenizer("a")["input_ids"])
    bare = list(tokenizer("a", add_special_tokens=False)["input_ids"])
    for start in range(len(whole) - len(bare) + 1):
        if bare and whole[start : start + len(bare)] == bare:
            return whole[:start], whole[start + len(bare) :]
    return [], []
