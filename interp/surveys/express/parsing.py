"""Answers to words: what a model wrote, read strictly (as the paper does) or leniently."""

import ast
import re
from typing import NamedTuple

QUOTES = "'\"`´‘’“”"
LONGEST_WORD = 40
INVALID = "INVALID OUTPUT"
"""What the authors write in `output_formatted` where an answer could not be used."""


class Parsed(NamedTuple):
    """The words of an answer, and why it is not valid; `reason` is None for a valid one."""

    words: tuple[str, ...]
    reason: str | None


def parse_answer(answer: str, n_words: int, *, strict: bool = True) -> Parsed:
    """The predicted words, lower-case.

    Strictly, an answer is valid if its first bracketed list has as many words as the segment has masks; quotation marks
    may be missing, and a single word may stand bare. Leniently, the last list counts (reasoning may come before it),
    lists without brackets, numbered or by line are read, and surplus words are dropped.

    Args:
        answer: what the model wrote; empty where there is none.
        n_words: masks in the segment.
    """
    text = answer.strip()
    if not text:
        return Parsed((), "no answer")
    if text.strip(QUOTES + ".").upper() == INVALID:
        return Parsed((), "marked INVALID OUTPUT")
    words, reason = _strict(text) if strict else _lenient(text, n_words)
    if reason is None and len(words) != n_words:
        reason = "no words" if not words else "too many words" if len(words) > n_words else "too few words"
    return Parsed(words, reason)


def parse_labels(text: str) -> tuple[str, ...] | None:
    """Gold labels as the authors release them, a Python list of strings; None where it is not one."""
    try:
        labels = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None
    if not isinstance(labels, list) or not all(isinstance(label, str) and label.strip() for label in labels):
        return None
    return tuple(" ".join(label.lower().split()) for label in labels)


def format_answer(words: tuple[str, ...] | list[str]) -> str:
    """Words in the answer format, a bracketed list of quoted words."""
    return "[" + ", ".join(repr(word) for word in words) + "]"


def _strict(text: str) -> tuple[tuple[str, ...], str | None]:
    match = re.search(r"\[(.*?)\]", text, flags=re.DOTALL)
    if match:
        return _checked(_items(match.group(1)))
    if "[" in text or "]" in text:
        return (), "bracket not closed"
    if "," in text or "\n" in text or len(text.split()) > 2:
        return (), "no bracketed list"
    word = _clean(text)
    return _checked([word] if word else [])


def _lenient(text: str, n_words: int) -> tuple[tuple[str, ...], str | None]:
    lists = re.findall(r"\[([^\[\]]*)\]", text)
    if lists:
        items = _items(lists[-1])
    elif "[" in text:
        items = _items(text.rsplit("[", 1)[1])
    else:
        tail = re.split(r"(?:answers?|emotions?|words?|feelings?)\s*(?:is|are)?\s*:", text, flags=re.IGNORECASE)[-1]
        items = _items(re.sub(r"(?m)^\s*(?:\d+[.):]|[-*•])\s*|\s\d+[.)]\s", ",", tail).replace("\n", ","))
    words = tuple(word for item in items for word in [re.sub(r"[^\w' -]", "", item).strip()] if word)
    if any(len(word.split()) > 3 or len(word) > LONGEST_WORD for word in words[:n_words]):
        return (), "no list of words"
    return words[:n_words], None


def _items(inside: str) -> list[str]:
    return [item for item in (_clean(part) for part in re.split(r"[,;]", inside)) if item]


def _clean(part: str) -> str:
    return " ".join(part.strip().strip(QUOTES).strip().lower().split())


def _checked(words: list[str]) -> tuple[tuple[str, ...], str | None]:
    if any(re.search(r"[\[\]\"“”]", word) for word in words):
        return (), "brackets or quotation marks inside a word"
    return tuple(words), None
