"""From examples to prompts: templates, few-shot examples, and truncation that never cuts the question."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from interp.errors import UserError, nearest
from interp.texts.examples import Example

TEMPLATES = {
    "default": "Text: {text}\nEmotion:",
    "question": "What does the writer feel?\n{text}\nAnswer:",
    "options": "Text: {text}\nOptions: {labels}\nEmotion:",
    "context": "Which of these emotions is inferred in each context: {labels}?\n\n{shots}Context: {text}\nAnswer:",
}
"""Named templates.

`{text}` is the example; `{labels}` (optional) the label set, comma-separated; `{shots}` (optional) where the solved
examples go, each like what follows it; without it they stand first, each like the whole template.
"""


BLANKS = " \t\u00a0\u3000"
"""What a tokenizer joins with the word behind it; a line feed stays a token of its own."""


class Turn(NamedTuple):
    """What somebody said earlier in a conversation."""

    role: Literal["system", "user", "assistant"]
    content: str


@dataclass(frozen=True)
class Prompt:
    """What is put to a model: a text with what stands around it, so that a long text can be cut from its left.

    A model that chats sees it as a user's turn (`LanguageModel.framed`), after earlier `turns` if there are any;
    another model sees the words alone, earlier turns as paragraphs before them.
    """

    before: str
    text: str
    after: str
    turns: tuple[Turn, ...] = ()

    def __str__(self) -> str:
        return "".join(f"{turn.content}\n\n" for turn in self.turns) + self.words

    @property
    def words(self) -> str:
        """The last turn."""
        return self.before + self.text + self.after

    @property
    def stripped(self) -> "Prompt":
        """Without white space around the whole, as templates with `| trim` leave it."""
        before, text, after = self.before.lstrip(), self.text, self.after.rstrip()
        if not before:
            text = text.lstrip()
        if not after:
            text = text.rstrip()
        return Prompt(before, text, after, self.turns)

    @property
    def unblanked(self) -> "Prompt":
        """Without blanks at its end."""
        after = self.after.rstrip(BLANKS)
        return Prompt(self.before, self.text if after else self.text.rstrip(BLANKS), after, self.turns)


def resolve_template(template: str) -> str:
    """The template of that name, or `template` itself where it holds `{text}`.

    Raises:
        UserError: neither a known name nor a text with exactly one `{text}`, and `{shots}`, if any, before it.
    """
    body = TEMPLATES.get(template, template)
    if body.count("{shots}") > 1 or "{shots}" in body.partition("{text}")[2]:
        raise UserError(f"prompt.template may hold {{shots}} once, before {{text}}; got {template!r}.")
    if body.count("{text}") == 1:
        return body
    if "{" in template or "\n" in template:
        raise UserError(f"prompt.template must hold {{text}} exactly once; got {template!r}.")
    raise UserError(f"Unknown prompt template {template!r}{nearest(template, TEMPLATES)} Or give a text with {{text}}.")


def build_prompts(
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    template: str = "default",
    shots: Sequence[Example] = (),
) -> list[Prompt]:
    """One prompt per text, each preceded by the same solved examples.

    Args:
        template: a key of `TEMPLATES` or a text with `{text}` and, if wanted, `{labels}` and `{shots}`.
        shots: solved examples put before every prompt, in this order, separated by a blank line.
    """
    before, after = resolve_template(template).replace("{labels}", ", ".join(labels)).split("{text}")
    head, _, before = before.rpartition("{shots}")
    solved = "".join(f"{before}{s.text}{after}{answer_text(s.gold, after)}\n\n" for s in shots)
    return [Prompt(head + solved + before, text, after) for text in texts]


def answer_text(label: str, after: str) -> str:
    """The answer as it continues a prompt: with a leading space unless the template ends in white space."""
    return label if after[-1:].isspace() else f" {label}"


def choose_shots(examples: Sequence[Example], labels: Sequence[str], per_label: int, seed: int) -> list[Example]:
    """`per_label` solved examples of every label, drawn and ordered with `seed`.

    Raises:
        UserError: a label has fewer examples than asked for.
    """
    rng = random.Random(seed)
    chosen = []
    for label in labels:
        members = [e for e in examples if e.gold == label]
        if len(members) < per_label:
            raise UserError(f"prompt.shots: {per_label} examples of {label!r} asked for, {len(members)} available.")
        chosen += rng.sample(members, per_label)
    return rng.sample(chosen, len(chosen))
