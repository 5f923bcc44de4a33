"""Prompts that ask which words stood behind the masks, for base and for instruction models."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

from interp.errors import UserError
from interp.models.language_model import LanguageModel
from interp.surveys.express.options import Mode
from interp.surveys.express.parsing import format_answer
from interp.surveys.express.segments import Segment
from interp.texts.corpora.express import MASK
from interp.texts.prompts import Prompt, Turn

TASK = (
    "In each text somebody tells of something that happened to them. Every <mask> hides one word that they used for"
    " what they felt. Say which words they were, in the order of the masks."
)
LIST = (
    "Answer with a bracketed list of quoted words, as many words as there are masks, such as ['word'] for one mask"
    " or ['first', 'second'] for two. Write nothing else."
)
REASON = (
    "First think step by step: what happened, what it meant to the writer, what they felt at each mask. Then write"
    " 'Answer:' and a bracketed list of quoted words, as many as there are masks, such as ['first', 'second']."
)
PLAIN = "Answer with the words alone, separated by commas."


@dataclass(frozen=True)
class Style:
    """How a model is asked.

    Attributes:
        mode: `open`, the model writes words of its own; `choose`, every word of a list is scored.
        chat: through the tokenizer's chat template.
    """

    mode: Mode = "open"
    chain_of_thought: bool = False
    chat: bool = False

    @property
    def instruction(self) -> str:
        form = PLAIN if self.mode == "choose" else REASON if self.chain_of_thought else LIST
        return f"{TASK} {form}"

    @property
    def lead(self) -> str:
        """What stands between text and answer in a base model's prompt; `[` opens the list for it."""
        if self.mode == "choose":
            return "\nWords:"
        return "\nReasoning:" if self.chain_of_thought else "\nWords: ["

    @property
    def opening(self) -> str:
        """What of the answer the prompt holds already."""
        return "[" if self.mode == "open" and not self.chain_of_thought and not self.chat else ""

    def answer(self, segment: Segment) -> str:
        """A solved example's answer, as the model is to write it."""
        if self.mode == "choose":
            return ", ".join(segment.labels)
        return format_answer(segment.labels)


def build_prompt(segment: Segment, shots: Sequence[Segment], style: Style) -> Prompt:
    """The prompt of one segment, after solved examples: earlier turns for a model that chats, paragraphs for others."""
    if style.chat:
        asked = [f"Text: {shot.text}" for shot in (*shots, segment)]
        asked[0] = f"{style.instruction}\n\n{asked[0]}"
        solved = [(Turn("user", q), Turn("assistant", style.answer(s))) for q, s in zip(asked[:-1], shots, strict=True)]
        before = asked[-1].removesuffix(segment.text)
        return Prompt(before, segment.text, "", tuple(turn for pair in solved for turn in pair))
    marker = "Words:" if style.mode == "choose" or not style.chain_of_thought else "Answer:"
    examples = "".join(f"Text: {s.text}\n{marker} {style.answer(s)}\n\n" for s in shots)
    return Prompt(f"{style.instruction}\n\n{examples}Text: ", segment.text, style.lead)


def choose_shots(segments: Sequence[Segment], n: int, seed: int) -> list[Segment]:
    """`n` solved examples of different posts, drawn with `seed`.

    Raises:
        UserError: too few posts to draw from.
    """
    if n < 0:
        raise UserError(f"--shots must be at least 0; got {n}.")
    by_post: dict[str, Segment] = {}
    for segment in segments:
        by_post.setdefault(segment.post, segment)
    if n >= len(by_post):
        raise UserError(f"--shots {n} leaves nothing to ask about: there are segments of {len(by_post)} posts.")
    return random.Random(seed).sample(list(by_post.values()), n)


def fit(model: LanguageModel, prompt: Prompt, room: int, *, chat: bool = False) -> tuple[Prompt, int]:
    """The prompt cut to the context, the masks last: first before the first mask, then after the last one.

    Returns:
        the prompt and the number of tokens cut from its text.
    """
    excess = len(model.ids(prompt, chat=chat)) - (model.context - room)
    if excess <= 0:
        return prompt, 0
    before = len(model.tokenization.bare_ids(prompt.text))
    first, last = prompt.text.find(MASK), prompt.text.rfind(MASK) + len(MASK)
    head, middle, tail = prompt.text[:first], prompt.text[first:last], prompt.text[last:]
    head, cut = _without(model, head, excess + 8, from_left=True)
    tail, _ = _without(model, tail, excess + 8 - cut, from_left=False)
    shorter = replace(prompt, text=head + middle + tail)
    return shorter, before - len(model.tokenization.bare_ids(shorter.text))


def _without(model: LanguageModel, text: str, n: int, *, from_left: bool) -> tuple[str, int]:
    """The text without about its first or last `n` tokens, and how many went."""
    if n <= 0 or not text:
        return text, 0
    offsets = model.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    if n >= len(offsets):
        return "", len(offsets)
    return (text[offsets[n][0] :] if from_left else text[: offsets[-n][0]]), n
