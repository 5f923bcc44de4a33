"""Which tokens of a prompt make up each word of its text."""

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

WORD = re.compile(r"\S+")
EDGE = re.compile(r"^\W+|\W+$")


class WordSpan(NamedTuple):
    """A word without the punctuation around it, in lower case, and its tokens (0 is the prompt's first)."""

    word: str
    tokens: list[int]


def word_spans(pieces: Sequence[str], text: str) -> list[WordSpan]:
    """The words of a text within a prompt, in order; punctuation without a word is left out.

    A token that reaches over two words belongs to the first.

    Args:
        pieces: what each token of the prompt adds to it (`token_pieces`).
        text: without what stands around it in the prompt. Where the prompt does not hold it as it is (cut to fit,
            or written otherwise by the tokenizer), all words of the prompt are taken.
    """
    whole, wanted = "".join(pieces), text.strip()
    start = whole.find(wanted) if wanted else 0
    begin, end = (start, start + len(wanted)) if start >= 0 else (0, len(whole))
    bounds = [0, *accumulate(map(len, pieces))]
    token, found = 0, list[WordSpan]()
    for match in WORD.finditer(whole, begin, end):
        while token < len(pieces) and bounds[token + 1] <= match.start():
            token += 1
        own = []
        while token < len(pieces) and bounds[token] < match.end():
            own.append(token)
            token += 1
        word = EDGE.sub("", match.group()).lower()
        if own and word:
            found.append(WordSpan(word, own))
    return found
