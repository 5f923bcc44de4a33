"""What SAEs are trained on, as pieces of token ids: the same pieces in the same order for the same seed."""

import gzip
import random
import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

from interp.errors import InterpWarning, UserError
from interp.models.language_model import LanguageModel
from interp.texts.examples import Example, load_corpus, stable_share
from interp.texts.plain_documents import END
from interp.texts.prompts import Prompt, build_prompts
from interp.training.config import PlainConfig, PromptsConfig, StreamConfig, TrainingConfig

SECTION = 20_000
"""Characters of a document that are read, tokenised and held out together, at most."""
POOL = 1024
"""Pieces of text that are shuffled among each other."""
FROM_EACH = 2
"""Windows of a held-out section that are measured: many sections rather than much of one."""
GROUP = 64
"""Prompts that are ordered by length among each other, so that little is spent on padding."""


class Piece(NamedTuple):
    """Token ids that the model reads together."""

    ids: list[int]
    answer: bool = False
    """Whether the last one is an answer position."""
    shared: int = 0
    """How many tokens at its beginning all pieces of this source have."""


class Drawn(NamedTuple):
    """A piece, and how often its source was read from beginning to end before."""

    piece: Piece
    round: int


@dataclass
class Source:
    """An endless stream of pieces.

    Attributes:
        taken: pieces drawn so far.
        positions: positions drawn so far.
    """

    name: str
    weight: float
    drawing: Iterator[Drawn]
    taken: int = 0
    positions: int = 0
    round: int = 0

    def draw(self) -> Piece:
        piece, self.round = next(self.drawing)
        self.taken += 1
        self.positions += len(piece.ids) - piece.shared
        return piece

    def skip(self, taken: int, positions: int) -> None:
        """Goes on where another stream of the same source was."""
        for drawn in islice(self.drawing, taken):
            self.round = drawn.round
        self.taken, self.positions = taken, positions


def sources(config: TrainingConfig, model: LanguageModel, held_out: Collection[str]) -> list[Source]:
    """All sources of a training, at their beginning.

    Args:
        held_out: texts of corpora that are not trained on.

    Raises:
        UserError: a file, data set or corpus that is not there, or holds no text.
    """
    text, out = config.text, []
    kept = 0.0 if config.held_out.plain else config.held_out.share
    for plain in text.plain:
        _readable(plain)
        whole = _plain_stream(_sections_of(plain, kept, held_out=False), model, config, plain.path)
        out.append(Source(plain.path, plain.weight, whole))
    for stream in text.streams:
        whole = _plain_stream(_sections_of(stream, kept, held_out=False), model, config, stream.name)
        out.append(Source(stream.name, stream.weight, whole))
    for corpus in text.prompts:
        pieces = prompt_pieces(config, model, corpus, held_out)
        out.append(Source(f"{corpus.name}/{corpus.split}", corpus.weight, _rounds(pieces, config.seed, corpus.name)))
    return out


def held_out_examples(config: TrainingConfig) -> list[Example]:
    """Labelled examples of the quality card."""
    return [
        e for c in config.held_out.prompts for e in load_corpus(labels=config.labels, seed=config.seed, **asdict(c))
    ]


def held_out_pieces(config: TrainingConfig, model: LanguageModel) -> list[Piece]:
    """Plain text of the quality card: `held_out.tokens` tokens, an equal part from each source.

    Raises:
        UserError: nothing is held out.
    """
    own = config.held_out.plain
    parts: list[PlainConfig | StreamConfig] = [*own] or [*config.text.plain, *config.text.streams]
    if not parts:
        return []
    wanted, pieces = config.held_out.tokens, []
    for part in parts:
        _readable(part)
        share = 1.0 if own else config.held_out.share
        size, found = 0, []
        for section in _sections_of(part, share, held_out=True)():
            for piece in islice(_cut(section, model, config.text.context), FROM_EACH):
                if size < wanted / len(parts):
                    found.append(piece)
                    size += len(piece.ids)
            if size >= wanted / len(parts):
                break
        pieces += found
    if not pieces:
        raise UserError(
            "held_out: no plain text is left for the quality card; raise held_out.share or name held_out.plain."
        )
    return pieces


def prompt_pieces(
    config: TrainingConfig, model: LanguageModel, corpus: PromptsConfig, held_out: Collection[str]
) -> list[Piece]:
    """A corpus' texts as framed prompts."""
    options = {key: value for key, value in asdict(corpus).items() if key != "weight"}
    examples = load_corpus(labels=config.labels, seed=config.seed, **options)
    texts = [e.text for e in examples if e.text not in held_out]
    if not texts:
        raise UserError(f"text.prompts: all texts of {corpus.name}/{corpus.split} are held out; choose another split.")
    return _as_pieces(model, build_prompts(texts, config.labels, template=config.prompt.template))


def _as_pieces(model: LanguageModel, prompts: Sequence[Prompt]) -> list[Piece]:
    encoded = [e.ids for e in model.encode(prompts)]
    low, high = min(encoded), max(encoded)
    shared = next((i for i, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high)) - 1)
    return [Piece(ids, answer=True, shared=min(shared, len(ids) - 1)) for ids in encoded]


# ---------------------------------------------------------------------------------- plain text


def sections(documents: Iterable[str]) -> Iterator[str]:
    """Documents in parts of at most `SECTION` characters, cut at white space where there is some."""
    for document in documents:
        rest = document.strip()
        while rest:
            cut = len(rest) if len(rest) <= SECTION else max(rest.rfind(" ", SECTION // 2, SECTION), 0) or SECTION
            yield rest[:cut]
            rest = rest[cut:].lstrip()


def documents(path: Path) -> Iterator[str]:
    """Documents of a plain-text file, read as they are needed.

    Raises:
        UserError: not UTF-8, or a damaged `.gz`.
    """
    lines: list[str] = []
    size = 0
    try:
        with _opened(path) as file:
            while line := file.readline(SECTION):
                end = line.strip() == END
                if not end:
                    lines.append(line)
                    size += len(line)
                if lines and (end or size > 50 * SECTION):
                    yield "".join(lines)
                    lines, size = [], 0
    except (UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        what = "is not UTF-8 text" if isinstance(error, UnicodeDecodeError) else "is a damaged .gz file"
        raise UserError(f"{path} {what}; convert it, or leave it out of text.plain.") from None
    if lines:
        yield "".join(lines)


def _opened(path: Path) -> Any:
    return gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8")


def _stream(config: StreamConfig) -> Iterator[str]:
    import datasets  # slow to import, and only needed here

    try:
        if Path(config.name).is_dir():
            table = datasets.load_from_disk(config.name)
            rows = table[config.split] if isinstance(table, datasets.DatasetDict) else table
        else:
            rows = datasets.load_dataset(config.name, config.subset, split=config.split, streaming=True)
        first = next(iter(rows), None)
    except (OSError, datasets.exceptions.DatasetsError, ValueError, KeyError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UserError(f"text.streams: {config.name!r} could not be read: {reason}.") from None
    if first is None or config.column not in first:
        has = ", ".join(first) if first else "no rows"
        raise UserError(f"text.streams: {config.name!r} has no column {config.column!r} (it has: {has}).")
    yield from (str(row[config.column] or "") for row in rows)


def _readable(config: PlainConfig | StreamConfig) -> None:
    if isinstance(config, PlainConfig) and not Path(config.path).is_file():
        raise UserError(f"No plain-text file {config.path!r} (text.plain); give a .txt or .txt.gz file.")


def _sections_of(config: PlainConfig | StreamConfig, kept: float, *, held_out: bool) -> Callable[[], Iterator[str]]:
    """A source's sections for training, or those that are held out, which the same text always is."""

    def read() -> Iterator[str]:
        texts = documents(Path(config.path)) if isinstance(config, PlainConfig) else _stream(config)
        for section in sections(texts):
            place = stable_share(section)
            if (held_out and place < kept) or (not held_out and kept <= place < kept + config.share * (1 - kept)):
                yield section

    return read


def _cut(section: str, model: LanguageModel, context: int) -> Iterator[Piece]:
    """Windows of the section's tokens, each after the beginning-of-sequence token where the tokenizer adds one."""
    first = first_tokens(model)
    ids = model.tokenizer(section, add_special_tokens=False)["input_ids"]
    size = context - len(first)
    for start in range(0, len(ids), size):
        if len(ids[start : start + size]) > 1:
            yield Piece(first + ids[start : start + size])


def first_tokens(model: LanguageModel) -> list[int]:
    """The beginning-of-sequence token, where the tokenizer puts one before every text."""
    bos = model.tokenizer.bos_token_id
    return [bos] if bos is not None and model.tokenizer("a")["input_ids"][:1] == [bos] else []


def _plain_stream(
    read: Callable[[], Iterator[str]], model: LanguageModel, config: TrainingConfig, name: str
) -> Iterator[Drawn]:
    """Pieces of plain text, shuffled within a pool, from the beginning again when all have been seen.

    Raises:
        UserError: the text is shorter than one batch.
    """
    for turn in count():
        rng = random.Random(f"{config.seed}/{name}/{turn}")
        pool: list[Piece] = []
        size = 0
        for section in read():
            for piece in _cut(section, model, config.text.context):
                size += len(piece.ids)
                pool.append(piece)
                if len(pool) > POOL:
                    place = rng.randrange(len(pool))
                    pool[place], pool[-1] = pool[-1], pool[place]
                    yield Drawn(pool.pop(), turn)
        if turn == 0 and size < config.batch:
            raise UserError(
                f"text: {name} holds {size:,} tokens for training, less than one batch ({config.batch:,});"
                " give more text, or a smaller batch."
            )
        rng.shuffle(pool)
        yield from (Drawn(piece, turn) for piece in pool)


def _rounds(pieces: Sequence[Piece], seed: int, name: str) -> Iterator[Drawn]:
    """Prompts in another order in every round, those that are read together of similar length."""
    for turn in count():
        order = list(pieces)
        random.Random(f"{seed}/{name}/{turn}").shuffle(order)
        for start in range(0, len(order), GROUP):
            group = sorted(order[start : start + GROUP], key=lambda p: len(p.ids))
            yield from (Drawn(piece, turn) for piece in group)


def next_pieces(streams: Sequence[Source], tokens_per_pass: int) -> list[Piece]:
    """Pieces for one pass, all from the source that is furthest behind its weight."""
    source = min(streams, key=lambda s: (s.positions / s.weight, s.name))
    pieces = [source.draw()]
    width = len(pieces[0].ids) - pieces[0].shared  # their common beginning is computed once
    while width * (len(pieces) + 1) <= tokens_per_pass:
        pieces.append(source.draw())
        width = max(width, len(pieces[-1].ids) - pieces[-1].shared)
    return pieces


def warn_rounds(streams: Sequence[Source]) -> None:
    """A word where a text was read more than once."""
    for source in streams:
        if source.round:
            text = f"{source.name} was read {source.round + 1} times: more text, or a larger share of it, would serve."
            warnings.warn(text, InterpWarning, stacklevel=3)
