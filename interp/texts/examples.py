"""Labelled emotion corpora as lists of `Example`: splits that never depend on file order, seeded draws."""

import hashlib
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from interp.errors import InterpWarning, UserError, nearest
from interp.resources import data_file
from interp.texts import emotions
from interp.texts.corpora import BUNDLED_TEXTS, CORPORA
from interp.texts.corpora.any_dataset import PREFIX, hub_corpus, python_corpus
from interp.texts.corpora.base import SPLIT_ALIASES, Corpus, Row
from interp.texts.corpora.local import local_corpus
from interp.texts.mending import is_whole, mend, printable
from interp.texts.problems import Problems, count
from interp.texts.records import class_names

SHOWN_LABELS = 12


@dataclass(frozen=True)
class Example:
    """One text with its gold emotion, or with several."""

    id: str
    corpus: str
    split: str
    text: str
    gold: str
    """Its emotion; of several, all of them, joined by `emotions.TOGETHER`."""
    group: str
    """Examples of one source (a dialogue, a writer) share a group; intervals are clustered by it."""
    keyword_free: bool | None = None
    """True where the text is known to hold no emotion word, False where it holds one, None where unknown."""
    several: tuple[str, ...] = ()
    """Its emotions where it has more than one."""
    ratings: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What it is rated for, by name of the scale, where the corpus has ratings."""


def load_corpus(
    name: Any,
    *,
    split: str = "all",
    path: str | Path | None = None,
    labels: Sequence[str] = emotions.EKMAN,
    limit: int | None = None,
    seed: int = 0,
    text_column: str = "text",
    label_column: str = "label",
    mapping: Mapping[str, str] | Mapping[int, str] | None = None,
    several: bool = False,
    balanced: bool = False,
) -> list[Example]:
    """Examples of one split whose gold emotion is exactly one of `labels`.

    Splits `discover` (features are found), `fit` (steering is chosen), `test` (scored once) and `all` exist for
    every corpus, `train` and `validation` where its authors released them or, for corpora without official
    splits, `train` is discover + fit. Rows are assigned by a stable hash, so a split never depends on file order.

    Labels are compared without regard to case and surrounding blanks. An `InterpWarning` says how many rows of the
    split were left out and why (for corpora that ship, whose other labels are known, only where a row is damaged).

    Args:
        name: a key of `CORPORA`; `local` for any table (CSV, TSV, JSONL, JSON, Parquet, a saved dataset);
            `hub:OWNER/NAME` (`hub:OWNER/NAME:CONFIG`) for any data set of the hub; or a table that is in memory: a
            `pandas.DataFrame`, a `datasets.Dataset` or `DatasetDict`, a list of records.
        path: the released file or folder; without it the corpus comes from the Hugging Face hub.
        labels: the run's label set; rows with none of them, or more than one, do not count.
        limit: at most this many examples, drawn with `seed` and stratified by gold emotion; those with several emotions
            are one stratum.
        text_column: for `local`, the hub and tables in memory; a dotted name reaches into an object. Of the last two
            it is found where there is no column of that name.
        label_column: the same of the label.
        mapping: the corpus' own labels (words or numbers) to names of `labels`; None uses the corpus' published one,
            where a label is not itself one of `labels`.
        several: whether rows with more than one of `labels` are kept, as examples with several emotions.
        balanced: whether the limit draws as many of every emotion, as far as there are, and not by their shares.

    Raises:
        UserError: unknown corpus or split, missing or broken file, missing column, no usable rows.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1; got {limit}.")
    if not isinstance(name, str):
        name, corpus = "table", python_corpus(name, text_column, label_column)
    elif name.startswith(PREFIX) and path is None:
        corpus = hub_corpus(name, text_column, label_column)
    elif name.startswith(PREFIX):
        raise UserError(f"{name!r} is read from the hub; leave out its path, or name the corpus local.")
    elif name == "local":
        if path is None:
            raise UserError("Corpus 'local' needs a path to a CSV, TSV, JSONL, JSON or Parquet file; none was given.")
        corpus = local_corpus(text_column, label_column)
    elif name in CORPORA:
        corpus = CORPORA[name]
    else:
        of_hub = f" For one of the hub, write hub:{name}." if name.count("/") == 1 else ""
        raise UserError(f"Unknown corpus {name!r}{nearest(name, [*CORPORA, 'local'])}{of_hub}")
    if corpus.scales and not corpus.labels:
        rated = ", ".join(scale.name for scale in corpus.scales)
        raise UserError(f"Corpus {name!r} holds ratings ({rated}) and no emotions; name it under corpora.ratings.")
    rows, problems = read_rows(name, corpus, path)
    names = LabelNames(labels, _beside(corpus.mapping, labels) if mapping is None else mapping)
    wanted = split_test(name, corpus, split, rows)
    examples: list[Example] = []
    left_out: Counter[str] = Counter()
    others: Counter[str] = Counter()
    for row in filter(wanted, rows):
        own = names.of(row.labels)
        if not row.text.strip():
            left_out["without text"] += 1
        elif not row.labels:
            left_out["without a label"] += 1
        elif several and len(own) > 1:
            examples.append(example_of(name, split, row, [label for label in labels if label in own]))
        elif len(own) > 1 or (corpus.single and len(row.labels) > 1):
            left_out["with several labels"] += 1
        elif own:
            examples.append(example_of(name, split, row, [*own]))
        else:
            others.update(row.labels)
            left_out["with other labels"] += 1
    if not examples:
        shown = ", ".join(printable(label) for label, _ in others.most_common(SHOWN_LABELS))
        broken = f"; left out: {'; '.join(problems.lines())}" if problems else ""
        raise UserError(
            f"Corpus {name!r} has no usable rows in split {split!r}: {len(rows)} rows read, none with text and exactly"
            f" one of the labels {', '.join(labels)} (its labels: {shown or 'none'}){broken}."
        )
    if name not in BUNDLED_TEXTS or problems or left_out["without text"]:
        _tell(name, split, left_out, others, problems)
    if names.folded:
        forms = ", ".join(repr(printable(form)) for form in sorted(names.folded)[:SHOWN_LABELS])
        text = f"Corpus {name!r}: {count(names.folded.total())} with a label in other case or blanks ({forms}) kept."
        warnings.warn(text, InterpWarning, stacklevel=2)
    return draw(examples, limit, seed, balanced) if limit is not None else examples


def stable_share(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone: the same on every machine, in every order."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _beside(published: Mapping[str, str], labels: Sequence[str]) -> Mapping[str, str]:
    """A published map to other names, but for labels that are asked for by their own."""
    return {own: name for own, name in published.items() if own not in labels}


class LabelNames:
    """From a corpus' own labels to the run's, without regard to case and blanks where that is unambiguous."""

    def __init__(self, labels: Sequence[str], mapping: Mapping[Any, str]) -> None:
        # Keys from Python or YAML may be numbers.
        self._exact = {_plain(key): str(value) for key, value in mapping.items()}
        self._mapped = {_fold(key): value for key, value in self._exact.items()}
        self._labels = set(labels)
        folds = Counter(map(_fold, labels))
        self._folds = {_fold(label): label for label in labels if folds[_fold(label)] == 1}
        self.folded: Counter[str] = Counter()
        """Spellings that were taken for another one."""

    def of(self, own: Sequence[str]) -> set[str]:
        """Those of the run's labels that a row's labels stand for."""
        found = set()
        for label in own:
            plain = _plain(label)
            name = self._exact.get(plain, plain)
            if name not in self._labels:
                mapped = self._exact.get(plain, self._mapped.get(_fold(plain), plain))
                name = mapped if mapped in self._labels else self._folds.get(_fold(mapped), "")
                if name and plain not in self._exact:
                    self.folded[label] += 1
            if name in self._labels:
                found.add(name)
        return found


def _plain(label: object) -> str:
    """A label as text; 0.0 is what a missing value elsewhere in the column makes of 0."""
    text = str(label)
    return text.strip()[:-2] if re.fullmatch(r"\s*-?\d+\.0\s*", text) else text


def _fold(label: str) -> str:
    return " ".join(label.split()).casefold()


def read_rows(name: str, corpus: Corpus, path: str | Path | None) -> tuple[list[Row], Problems]:
    """All rows of a corpus, and what is wrong with those that are left out.

    Where an id does not identify its row, all go by their number, as without ids.

    Raises:
        UserError: missing or broken file, missing column, no network.
    """
    problems = Problems()
    rows = list(_from_files(name, corpus, Path(path), problems) if path is not None else _from_hub(name, corpus))
    seen = Counter(row.id for row in rows)
    odd = sum(1 for row in rows if not row.id or seen[row.id] > 1)
    if odd:
        rows = [row._replace(id=str(i)) for i, row in enumerate(rows)]
        text = f"Corpus {name!r}: {count(odd)} with an id that is blank or repeated: rows go by their number."
        warnings.warn(text, InterpWarning, stacklevel=3)
    return rows, problems


def _tell(name: str, split: str, left_out: Counter[str], others: Counter[str], problems: Problems) -> None:
    shown = ", ".join(f"{printable(label)} {n}" for label, n in others.most_common(SHOWN_LABELS))
    rest = f", and {len(others) - SHOWN_LABELS} more" if len(others) > SHOWN_LABELS else ""
    parts = [
        f"{count(n)} {reason}" + (f" ({shown}{rest})" if reason == "with other labels" else "")
        for reason, n in sorted(left_out.items())
        if n
    ]
    if parts:
        text = f"Corpus {name!r}, split {split!r}: {'; '.join(parts)}: left out."
        warnings.warn(text, InterpWarning, stacklevel=3)
    if problems:
        warnings.warn(f"Corpus {name!r}: left out {'; '.join(problems.lines())}.", InterpWarning, stacklevel=3)


def example_of(name: str, split: str, row: Row, gold: Sequence[str]) -> Example:
    return Example(
        id=f"{name}/{row.id}",
        corpus=name,
        split=split,
        text=row.text.strip(),
        gold=emotions.TOGETHER.join(gold),
        group=f"{name}/{row.group or row.id}",
        keyword_free=row.keyword_free,
        several=tuple(gold) if len(gold) > 1 else (),
        ratings=row.ratings,
    )


def _official(split: str) -> str:
    return SPLIT_ALIASES.get(split.lower(), split.lower())


def split_test(name: str, corpus: Corpus, split: str, rows: list[Row]) -> Callable[[Row], bool]:
    """The predicate that says whether a row belongs to `split`."""
    released = {row.split for row in rows if row.split}
    if split == "all":
        return lambda row: True
    same = {split} if split in released else {s for s in released if _official(s) == _official(split)}
    if same:
        return lambda row: row.split in same
    if split in corpus.official and corpus.official[split] in released:
        source = corpus.official[split]
        if split == "test":
            return lambda row: row.split == source
        low, high = (0.0, 0.6) if split == "discover" else (0.6, 1.0)
        return lambda row: row.split == source and low <= stable_share(row.group or row.key or row.text) < high
    if not released:
        edges, start = {}, 0.0
        for part, share in corpus.shares.items():
            edges[part] = (start, start + share)
            start += share
        edges["train"] = (0.0, edges["test"][0])
        if split in edges:
            low, high = edges[split]
            return lambda row: low <= stable_share(row.group or row.key or row.text) < high
    cut = {part for part, source in corpus.official.items() if source in released}
    known = sorted({"all"} | released | (cut if released else {*corpus.shares, "train"}))
    raise UserError(f"Corpus {name!r} has no split {split!r}{nearest(split, map(printable, known))}")


def draw(examples: list[Example], limit: int, seed: int, balanced: bool = False) -> list[Example]:
    """At most `limit` examples, in file order, keeping each emotion's share as far as whole numbers allow.

    Balanced: as many of every emotion as of the others, or all that there are.

    Within an emotion, seed and text alone say who comes first, not the file's order or the other emotions.
    """
    if limit >= len(examples):
        return examples
    by_gold: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        by_gold.setdefault(emotions.TOGETHER if example.several else example.gold, []).append(i)
    ranked = []
    for members in by_gold.values():
        drawn = sorted((stable_share(f"{seed}/{examples[i].text}"), i) for i in members)
        size = 1 if balanced else len(drawn)
        ranked += [((rank + 0.5) / size, share, i) for rank, (share, i) in enumerate(drawn)]
    return [examples[i] for i in sorted(i for *_, i in sorted(ranked)[:limit])]


# ------------------------------------------------------------------------------------------- sources


def _from_files(name: str, corpus: Corpus, path: Path, problems: Problems) -> Iterator[Row]:
    if not path.exists():
        raise UserError(
            f"No file or folder {str(path)!r} for corpus {name!r}; check `path` or leave it out for the hub."
        )
    yield from corpus.read(path, problems)


def _from_hub(name: str, corpus: Corpus) -> Iterator[Row]:
    if corpus.rows_of is not None:
        yield from corpus.rows_of()
        return
    if name in BUNDLED_TEXTS:
        yield from corpus.read(data_file(BUNDLED_TEXTS[name]), Problems())
        return
    if corpus.hub is None:
        raise UserError(
            f"Corpus {name!r} is not on the Hugging Face hub in its released form; give `path:` to its files."
        )
    import datasets  # slow to import, and only needed here

    try:
        loaded = datasets.load_dataset(corpus.hub.repository, corpus.hub.config)
    except (OSError, datasets.exceptions.DatasetsError, ValueError, RuntimeError) as error:
        raise UserError(
            f"Could not fetch {corpus.hub.repository!r} from the Hugging Face hub ({type(error).__name__});"
            f" check the network, or give `path:` to the released files of {name!r}."
        ) from None
    parts = corpus.hub.parts
    for split, table in loaded.items():
        if parts and split not in parts:
            continue
        names = class_names(table.features)
        seen = set()  # EmpatheticDialogues: a record per utterance, one situation per dialogue
        for i, record in enumerate(table):
            row = corpus.hub.to_row(record, names)
            text = row.text if is_whole(row.text) else mend(row.text)
            row = row._replace(id=row.id or f"{split}-{i}", text=text, split=None if parts else split)
            if row.id not in seen:
                seen.add(row.id)
                yield row
