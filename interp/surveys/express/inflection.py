"""Other forms of an English word: inflections that share its meaning, and a light stem for its word family."""

import re
from collections.abc import Iterator

IRREGULAR = {
    "broke": "break",
    "broken": "break",
    "felt": "feel",
    "heartbroken": "heartbreak",
    "lost": "lose",
    "shaken": "shake",
    "stung": "sting",
    "stricken": "strike",
    "stuck": "stick",
    "torn": "tear",
    "worn": "wear",
}
"""Participles that writers use for feelings and no rule finds."""

FAMILY_SUFFIXES = (
    *("fulness", "iveness", "ousness", "iness", "ness", "fully", "ously", "ively", "ingly", "edly", "ily", "ly"),
    *("ations", "ation", "itions", "ition", "ments", "ment", "ions", "ion", "ities", "ity", "ances", "ance"),
    *("ences", "ence", "ful", "ous", "ive", "able", "ible", "ant", "ent", "al", "ied", "ies", "ed", "ing"),
    *("es", "s", "er", "est", "ic", "or"),
)
"""Endings that leave a word in its family. `-less` is not among them: it turns a word into its opposite."""
SHORTEST_STEM = 4


def inflections(word: str) -> Iterator[str]:
    """Forms of the same word, base forms first, most likely first; `word` itself is not among them."""
    seen = {word}
    for form in (*_spellings(word), *_bases(word), *_siblings(word)):
        if form not in seen and len(form) > 2:
            seen.add(form)
            yield form


def stem(word: str) -> str:
    """What the words of a family have in common (`happiness`, `happily` -> `hap`); `-less` words keep their ending.

    A light stemmer: one suffix goes, the final e, y or i with it, a doubled last consonant is made single.
    """
    word = word.lower()
    if word.endswith(("less", "lessly", "lessness")):
        return word.removesuffix("ness").removesuffix("ly")
    for suffix in FAMILY_SUFFIXES:
        root = word.removesuffix(suffix)
        if root != word and len(root) >= SHORTEST_STEM - 1:
            word = root
            break
    if len(word) >= SHORTEST_STEM:
        word = re.sub(r"[eyi]$", "", word)
    return re.sub(r"([bdgklmnprt])\1$", r"\1", word)


def _spellings(word: str) -> Iterator[str]:
    """`heart-broken`, `heart broken`, `heartbroken`."""
    if re.search(r"[-_ ]", word):
        yield re.sub(r"[-_ ]+", " ", word)
        yield re.sub(r"[-_ ]+", "-", word)
        yield re.sub(r"[-_ ]+", "", word)
    if "our" in word:
        yield word.replace("our", "or")


def _bases(word: str) -> Iterator[str]:
    if word in IRREGULAR:
        yield IRREGULAR[word]
    for ending, y in (("ied", "y"), ("ies", "y")):
        if word.endswith(ending):
            yield word.removesuffix(ending) + y
    for ending in ("ed", "ing", "es", "s"):
        root = word.removesuffix(ending)
        if root == word or len(root) < 3 or (ending == "s" and root.endswith("s")):
            continue
        yield root
        if ending != "s":
            yield root + "e"
        if len(root) > 3 and root[-1] == root[-2]:
            yield root[:-1]


def _siblings(word: str) -> Iterator[str]:
    """Inflected forms of the bases, for lexicons that list `frustrated` but not `frustrate`."""
    for base in dict.fromkeys((word, *_bases(word))):
        if len(base) < 3 or base.endswith(("ed", "ing")):
            continue
        root = base.removesuffix("e")
        yield from (root + "ed", root + "ing", base + "s")
        if base.endswith("y"):
            yield from (base[:-1] + "ied", base[:-1] + "ies")
        if re.search(r"[^aeiou][aeiou][bdgmnprt]$", base):
            yield from (base + base[-1] + "ed", base + base[-1] + "ing")
