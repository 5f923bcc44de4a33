"""Emotion words that a writer says of themselves, found and masked; negated and hypothetical ones are left alone."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from interp.errors import UserError
from interp.surveys.express.lexicon import load_lexicon, names
from interp.texts.corpora.express import MASK
from interp.texts.problems import Problems
from interp.texts.records import read, read_json, read_lines

DEGREE = (
    "so very really just quite pretty too extremely incredibly absolutely completely totally utterly deeply truly"
    " rather fairly somewhat slightly almost kinda sorta still also always often sometimes suddenly already even more"
    " most increasingly genuinely terribly awfully super all kind sort of a bit little lot sense feeling mixture the"
)
"""Words that may stand between the verb and the emotion word."""
SUBJECT = r"(?:I|we)"
FEEL = (
    rf"\b{SUBJECT}(?:'m|'ve|'d|’m|’ve|’d| am| was| were| are| have| had| do| did)?(?: been)?(?: \w+ly| just| still"
    r"| also| often| sometimes| always)?(?: (?:feel|felt|feeling))(?: like)?"
)
BE = (
    rf"\b{SUBJECT}(?:'m|’m|'ve been|’ve been| am| was| were| have been| had been| became| got| get| grew| remain"
    r"| remained)"
)
MADE = r"\b(?:made|makes|make|making|left|leaves|leaving|left) (?:me|us)(?: (?:feel|feeling))?"
AND_FELT = rf"\b{SUBJECT} [^.!?;:,]{{2,80}}? and (?:then )?(?:feel|felt)"
"""The subject said once: "I sat down and felt ..."."""
NEGATION = re.compile(
    r"\b(?:not|never|no|nor|neither|without|hardly|barely|nothing|nobody|cannot|stopped|stop|anything but)\b|n['’]t\b",
    re.IGNORECASE,
)
HYPOTHETICAL = re.compile(
    r"\b(?:if|unless|whether|would|could|should|might|may|wish|wished|pretend\w*|suppose|supposed|imagine|"
    r"want to|wanted to|hope to|will|going to|as though|used to)\b|\w['’](?:d|ll) (?:feel|be)\b",
    re.IGNORECASE,
)
SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)]*\s+|\n+")
CLAUSE_START = re.compile(r"[,;:()–—]|\bbut\b|\band\b(?= (?:I|we)\b)")


@dataclass(frozen=True)
class Disclosure:
    """An emotion word that somebody says of themselves, by its place in the text."""

    start: int
    end: int
    word: str


class Masker:
    """Finds self-disclosed emotion words from a list.

    Args:
        words: emotion words, in any inflection that is to be found; several-word terms are allowed.
    """

    def __init__(self, words: Iterable[str]) -> None:
        listed = sorted({re.escape(w) for w in names(words) if w}, key=lambda w: (-len(w), w))
        if not listed:
            raise UserError("The list of emotion words is empty.")
        word = rf"(?:{'|'.join(listed)})(?!['’\w-])"
        degree = rf"(?:(?:{'|'.join(DEGREE.split())}|\w+ly) ){{0,4}}"
        lead = rf"(?:{FEEL}|{BE}|{MADE}|{AND_FELT})\s+{degree}"
        more = rf"(?:\s*(?:,|/|,? (?:and|but|yet|or|then))\s+{degree}{word})"
        self._disclosure = re.compile(rf"{lead}(?P<words>{word}{more}*)", re.IGNORECASE)
        self._word = re.compile(rf"(?<![\w-]){word}", re.IGNORECASE)

    def find(self, text: str) -> list[Disclosure]:
        """Disclosures in the order of the text."""
        found = []
        for start, end in sentences(text):
            sentence = text[start:end]
            if sentence.rstrip("\"'”’) ").endswith("?"):
                continue
            for match in self._disclosure.finditer(sentence):
                if _real(sentence, match):
                    offset = start + match.start("words")
                    found += [
                        Disclosure(offset + w.start(), offset + w.end(), " ".join(w.group().lower().split()))
                        for w in self._word.finditer(match.group("words"))
                    ]
        return found


def sentences(text: str) -> list[tuple[int, int]]:
    """Spans of sentences: up to a full stop, question or exclamation mark, or a line break."""
    edges = [0, *(m.end() for m in SENTENCE_END.finditer(text)), len(text)]
    return [(a, b) for a, b in pairwise(edges) if text[a:b].strip()]


def mask(text: str, found: Iterable[Disclosure]) -> str:
    """The text with `<mask>` for every disclosure."""
    out, at = [], 0
    for disclosure in found:
        out += [text[at : disclosure.start], MASK]
        at = disclosure.end
    return "".join([*out, text[at:]])


def load_words(path: str | Path | None) -> list[str]:
    """Emotion words to mask: a JSON list, a table with a `word` column, or one word a line; None: those that ship.

    Raises:
        UserError: no such file, or nothing of that kind in it.
    """
    if path is None:
        return list(load_lexicon().words)
    path = Path(path)
    if not path.is_file():
        raise UserError(f"No file {str(path)!r}; give a JSON list of words, a CSV with a word column, or a text file.")
    problems = Problems()
    suffix = path.suffix.lower()
    if suffix in (".csv", ".tsv", ".jsonl", ".parquet"):
        listed = [record.cells["word"] for record in read(path, ("word",), problems)]
    else:
        listed = read_json(path) if suffix == ".json" else [line for _, line in read_lines(path, problems)]
    if problems or not isinstance(listed, list) or not all(isinstance(word, str) for word in listed):
        raise UserError(f"{path} is no list of words; expected UTF-8, a JSON list of strings or one word a line.")
    return [word for word in listed if word.strip()]


def _real(sentence: str, match: re.Match[str]) -> bool:
    """Neither negated within its clause nor hypothetical anywhere before it in the sentence."""
    before = sentence[: match.start("words")]
    clause = CLAUSE_START.split(sentence[: match.start()])[-1] + before[match.start() :]
    return not NEGATION.search(clause) and not HYPOTHETICAL.search(before)
