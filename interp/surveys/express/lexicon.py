"""A lexicon that decomposes emotion words into Plutchik's eight basic emotions and two sentiments."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from interp.errors import UserError
from interp.files.folder import fingerprint
from interp.resources import data_file
from interp.surveys.express.inflection import inflections, stem
from interp.surveys.express.plutchik import BASIC as BASIC
from interp.surveys.express.plutchik import DIMENSIONS, vector, wheel_words
from interp.texts.problems import Problems
from interp.texts.records import read

if TYPE_CHECKING:
    from torch import Tensor

    from interp.models.language_model import LanguageModel

BUNDLED_LEXICON = "emotion_words"
LEAST_COSINE = 0.5
EXACT, INFLECTION, FAMILY, NEIGHBOUR, UNKNOWN = "exact", "inflection", "family", "neighbour", "unknown"

Neighbours = Callable[[Sequence[str]], Sequence[str | None]]
"""Words that the lexicon lacks -> for each the lexicon word that stands for it, or None."""


@dataclass(frozen=True)
class Lookup:
    """What a lexicon knows of some words.

    Attributes:
        vectors: zero for words it does not know.
        found: how each was found: exact, inflection, family, neighbour or unknown.
    """

    vectors: Float[np.ndarray, "word dimension"]
    found: np.ndarray


@dataclass(frozen=True)
class Lexicon:
    """Words and their decomposition, values in 0-1, columns in the order of `DIMENSIONS`."""

    words: tuple[str, ...]
    vectors: Float[np.ndarray, "word dimension"]
    name: str
    identity: str

    @cached_property
    def index(self) -> dict[str, int]:
        return {word: i for i, word in enumerate(self.words)}

    @cached_property
    def _families(self) -> dict[str, list[str]]:
        families: dict[str, list[str]] = {}
        for word in self.words:
            families.setdefault(stem(word), []).append(word)
        return families

    def lookup(self, words: Sequence[str], *, fallbacks: bool = False, neighbours: Neighbours | None = None) -> Lookup:
        """Vectors of `words`, lower-case.

        Args:
            fallbacks: words that the lexicon lacks are looked up by their inflections, then by their word family.
            neighbours: what to try for words still unknown.
        """
        places = np.array([self.index.get(word, -1) for word in words], dtype=int)
        found = np.where(places >= 0, EXACT, UNKNOWN).astype(object)
        for i in np.flatnonzero(places < 0).tolist() if fallbacks else ():
            places[i], found[i] = self._fall_back(words[i])
        missing = np.flatnonzero(places < 0).tolist()
        if neighbours is not None and missing:
            for i, near in zip(missing, neighbours([words[i] for i in missing]), strict=True):
                if near is not None:
                    places[i], found[i] = self.index[near], NEIGHBOUR
        vectors = np.where((places >= 0)[:, None], self.vectors[places], 0.0)
        return Lookup(vectors, found)

    def _fall_back(self, word: str) -> tuple[int, str]:
        for form in inflections(word):
            if form in self.index:
                return self.index[form], INFLECTION
        family = self._families.get(stem(word), [])
        if not family:
            return -1, UNKNOWN
        return self.index[min(family, key=lambda other: (-_common(word, other), len(other), other))], FAMILY


def load_lexicon(path: str | Path | None = None) -> Lexicon:
    """A decomposition table: `word` and one column per dimension, as the paper's `lexicon-decomposition.csv`.

    Args:
        path: the CSV file; None takes the one that ships; `plutchik` takes the words of Plutchik's wheel.

    Raises:
        UserError: no such file, a missing dimension, a value outside 0-1, a word listed twice with different values.
    """
    if path is None:
        path = data_file(f"{BUNDLED_LEXICON}.csv")
    elif str(path) == "plutchik":
        parts = wheel_words()
        return Lexicon(tuple(parts), np.array([*map(vector, parts.values())]), "plutchik", fingerprint(parts))
    path = Path(path)
    problems = Problems()
    table: dict[str, tuple[float, ...]] = {}
    for record in read(path, ("word", *DIMENSIONS), problems):
        row, cells = record.row, record.cells
        word = cells["word"].strip().lower()
        values = tuple(_value(path, row, dimension, cells[dimension]) for dimension in DIMENSIONS)
        if not word:
            raise UserError(f"{path}, row {row}: no word; every row needs a word and {len(DIMENSIONS)} values in 0-1.")
        if table.setdefault(word, values) != values:
            raise UserError(f"{path}, row {row}: {word!r} is listed before with other values; keep one of the two.")
    if problems:
        raise UserError(f"{path} is no usable lexicon: {'; '.join(problems.lines())}.")
    if not table:
        raise UserError(f"{path} lists no words.")
    return Lexicon(tuple(table), np.array([*table.values()], dtype=float), path.stem, fingerprint(table))


def _value(path: Path, row: int, dimension: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UserError(f"{path}, row {row}: {dimension} is {text!r}; expected a number from 0 to 1.")
    return value


def _common(a: str, b: str) -> int:
    """Length of the common beginning."""
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def embedding_neighbours(model: "LanguageModel", lexicon: Lexicon, *, least: float = LEAST_COSINE) -> Neighbours:
    """A fall-back for `Lexicon.lookup`: the lexicon word of largest cosine, or None below `least`.

    A word is the mean of its tokens' input embeddings, as it stands after a space, centred on the lexicon's mean.
    """
    import torch  # scoring needs none of it

    table = model.hf.get_input_embeddings().weight.detach()

    def embedded(words: Sequence[str]) -> "Float[Tensor, 'word d_model']":
        tokenised = model.tokenization.continuations("", [f" {word}" for word in words])
        return torch.stack([table[torch.tensor(w.ids, device=table.device)].float().mean(0) for w in tokenised])

    raw = embedded(lexicon.words)
    centre = raw.mean(0)
    known = torch.nn.functional.normalize(raw - centre, dim=-1)

    def neighbours(words: Sequence[str]) -> list[str | None]:
        cosines = torch.nn.functional.normalize(embedded(words) - centre, dim=-1) @ known.T
        best, place = cosines.max(-1)
        return [lexicon.words[p] if b >= least else None for b, p in zip(best.tolist(), place.tolist(), strict=True)]

    return neighbours


def bits(vectors: Float[np.ndarray, "*word dimension"]) -> np.ndarray:
    """Which dimensions a word has at all: for the paper's 0/1 table the values themselves."""
    return vectors > 0


def names(words: Iterable[str]) -> list[str]:
    """Words as lexicons list them: lower case, single spaces."""
    return [" ".join(word.lower().split()) for word in words]
