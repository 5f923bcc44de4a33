"""Emotion prompts, varied in what must not change the recognised emotion: label order, names, template, spelling."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from interp.surveys.reliability.variations import VariedPrompt
from interp.texts.examples import Example
from interp.texts.prompts import Prompt

TEMPLATES: Mapping[str, str] = {
    "plain": "Text: {text}\nOptions: {labels}\nEmotion:",
    "question": "{text}\nWhich of these does the writer feel: {labels}?\nAnswer:",
    "task": "Name the emotion in the text.\nText: {text}\nChoose from: {labels}\nEmotion:",
    "sentence": "Someone wrote: {text}\nOf {labels}, the feeling that fits best is",
}
"""Paraphrases of one request; every one of them lists the labels."""
SYNONYMS: Mapping[str, str] = {
    "anger": "fury",
    "disgust": "revulsion",
    "fear": "terror",
    "joy": "happiness",
    "sadness": "sorrow",
    "surprise": "astonishment",
    "neutral": "indifference",
    "love": "affection",
    "guilt": "remorse",
    "shame": "embarrassment",
    "trust": "confidence",
    "anticipation": "expectation",
    "optimism": "hope",
    "pride": "dignity",
    "relief": "ease",
}
"""Another name for a label; labels without one keep theirs."""
EDITS: Mapping[str, Callable[[str], str]] = {
    "none": lambda text: text,
    "lower_case": str.lower,
    "upper_case": str.upper,
    "trailing_space": lambda text: text + " ",
    "quotation_marks": lambda text: f'"{text}"',
}
"""Changes of the text that change no word of it."""
PERMUTATIONS = 3


@dataclass(frozen=True)
class EmotionVariation:
    """One way of asking for the emotion; `order` names an entry of `label_orders`."""

    order: str = "given"
    names: str = "own"
    template: str = "plain"
    edit: str = "none"


EMOTION_REFERENCE = asdict(EmotionVariation())


def label_orders(n_labels: int, permutations: int = PERMUTATIONS, seed: int = 0) -> dict[str, tuple[int, ...]]:
    """The given order, all its rotations, and `permutations` others drawn with `seed`, as places of the labels."""
    given = tuple(range(n_labels))
    orders = {"given": given}
    orders |= {f"rotation_{k}": given[k:] + given[:k] for k in range(1, n_labels)}
    rng = np.random.default_rng(seed)
    number, tries = 1, 0
    while number <= permutations and tries < 100:  # three labels have three orders that are no rotation
        drawn = tuple(int(i) for i in rng.permutation(n_labels))
        tries += 1
        if drawn not in orders.values():
            orders[f"permutation_{number}"] = drawn
            number += 1
    return orders


def emotion_variations(orders: Mapping[str, tuple[int, ...]]) -> list[EmotionVariation]:
    """The reference, and every other level of each factor alone."""
    plain = EmotionVariation()
    return [
        *(replace(plain, order=name) for name in orders),
        replace(plain, names="synonyms"),
        *(replace(plain, template=name) for name in list(TEMPLATES)[1:]),
        *(replace(plain, edit=name) for name in list(EDITS)[1:]),
    ]


def expand_emotions(
    examples: Sequence[Example],
    labels: Sequence[str],
    variations: Sequence[EmotionVariation],
    orders: Mapping[str, tuple[int, ...]],
) -> Iterator[VariedPrompt]:
    """Every text under every variation. A prompt's options follow `labels`, in whatever order it lists them."""
    for example in examples:
        for variation in variations:
            named = [SYNONYMS.get(label, label) if variation.names == "synonyms" else label for label in labels]
            listed = ", ".join(named[i] for i in orders[variation.order])
            before, after = TEMPLATES[variation.template].replace("{labels}", listed).split("{text}")
            facts = {"question": example.id, "cluster": example.group, "gold": example.gold, **asdict(variation)}
            yield VariedPrompt(Prompt(before, EDITS[variation.edit](example.text), after), tuple(named), facts)
