"""Labelled emotion corpora as lists of `Example`: splits that never depend on file order, seeded draws."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from interp import emotions
from interp.corpus_formats import BUNDLED_TEXTS, CORPORA, SPLIT_ALIASES, Corpus, Row, read_table
from interp.errors import InterpWarning, UserError, nearest


@dataclass(frozen=True)
class Example:
    """One text with its gold emotion."""

    id: str
    corpus: str
    split: str
    text: str
    gold: str
    group: str
    """Examples of one source (a dialogue, a writer) share a group; intervals are clustered by it."""
    keyword_free: bool | None = None
    """True where the text is known to hold no emotion word, False where it holds one, None where unknown."""


def load_corpus(
    name: str,
    *,
    split: str = "all",
    path: str | Path | None = None,
    labels: Sequence[str] = emotions.EKMAN,
    limit: int | None = None,
    seed: int = 0,
    text_column: str = "text",
    label_column: str = "label",
    mapping: Mapping[str, str] | None = None,
) -> list[Example]:
    """Examples of one split whose gold emotion is exactly one of `labels`.

    Splits `discover` (features are found), `fit` (steering is chosen), `test` (scored once) and `all` exist for
    every corpus, `train` and `validation` where its authors released them or, for corpora without official
    splits, `train` is discover + fit. Rows are assigned by a stable hash, so a split never depends on file order.

    Args:
        name: a key of `CORPORA`, or `local` for any CSV / TSV / JSONL / Parquet table.
        path: the released file or folder; without it the corpus comes from the Hugging Face hub.
        labels: the run's label set; rows with none of them, or more than one, do not count.
        limit: at most this many examples, drawn with `seed` and stratified by gold emotion.
        text_column: for `local` only.
        label_column: for `local` only.
        mapping: the corpus' own labels to names of `labels`; None uses the corpus' published one.

    Raises:
        UserError: unknown corpus or split, missing or broken file, missing column, no usable rows.
    """
    if limit is not None and limit < 1:
        raise UserError(f"limit must be at least 1; got {limit}.")
    if name == "local":
        if path is None:
            raise UserError("Corpus 'local' needs a path to a CSV, TSV, JSONL or Parquet file; none was given.")
        corpus = Corpus(lambda p: read_table(p, text_column, label_column), "a table of your own", "yours", mapping={})
    elif name in CORPORA:
        corpus = CORPORA[name]
    else:
        raise UserError(f"Unknown corpus {name!r}{nearest(name, [*CORPORA, 'local'])}")
    rows = list(_from_files(name, corpus, Path(path)) if path is not None else _from_hub(name, corpus))
    rename = corpus.mapping if mapping is None else mapping
    wanted = _split_test(name, corpus, SPLIT_ALIASES.get(split, split), rows)
    examples: list[Example] = []
    other_labels: set[str] = set()
    empty = 0
    for row in rows:
        if not row.text.strip():
            empty += 1
            continue
        own = {rename.get(label, label) for label in row.labels} & set(labels)
        if len(own) == 1 and wanted(row):
            examples.append(_example(name, split, row, own.pop()))
        else:
            other_labels.update(row.labels)
    if not examples:
        raise UserError(
            f"Corpus {name!r} has no usable rows in split {split!r}: {len(rows)} rows read, none with text and exactly"
            f" one of the labels {', '.join(labels)} (its labels: {', '.join(sorted(other_labels)[:12]) or 'none'})."
        )
    if empty:
        warnings.warn(f"Corpus {name!r}: {empty} rows without text were left out.", InterpWarning, stacklevel=2)
    return _draw(examples, limit, seed) if limit is not None else examples


def stable_share(key: str) -> float:
    """A number in [0, 1) that depends on `key` alone: the same on every machine, in every order."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64


def _example(name: str, split: str, row: Row, gold: str) -> Example:
    return Example(
        id=f"{name}/{row.id}",
        corpus=name,
        split=split,
        text=row.text.strip(),
        gold=gold,
        group=f"{name}/{row.group or row.id}",
        keyword_free=row.keyword_free,
    )


def _split_test(name: str, corpus: Corpus, split: str, rows: list[Row]) -> Callable[[Row], bool]:
    """The predicate that says whether a row belongs to `split`."""
    released = {row.split for row in rows if row.split}
    if split == "all":
        return lambda row: True
    if split in released:
        return lambda row: row.split == split
    if split in corpus.official and corpus.official[split] in released:
        source = corpus.official[split]
        if split == "test":
            return lambda row: row.split == source
        low, high = (0.0, 0.6) if split == "discover" else (0.6, 1.0)
        return lambda row: row.split == source and low <= stable_share(row.group or row.text) < high
    if not released:
        edges, start = {}, 0.0
        for part, share in corpus.shares.items():
            edges[part] = (start, start + share)
            start += share
        edges["train"] = (0.0, edges["test"][0])
        if split in edges:
            low, high = edges[split]
            return lambda row: low <= stable_share(row.group or row.text) < high
    cut = {part for part, source in corpus.official.items() if source in released}
    known = sorted({"all"} | released | (cut if released else {*corpus.shares, "train"}))
    raise UserError(f"Corpus {name!r} has no split {split!r}{nearest(split, known)}")


def _draw(examples: list[Example], limit: int, seed: int) -> list[Example]:
    """At most `limit` examples, in file order, keeping each emotion's share as far as whole numbers allow.

    Within an emotion, seed and text alone say who comes first, not the file's order or the other emotions.
    """
    if limit >= len(examples):
        return examples
    by_gold: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        by_gold.setdefault(example.gold, []).append(i)
    ranked = []
    for members in by_gold.values():
        drawn = sorted((stable_share(f"{seed}/{examples[i].text}"), i) for i in members)
        ranked += [((rank + 0.5) / len(drawn), share, i) for rank, (share, i) in enumerate(drawn)]
    return [examples[i] for i in sorted(i for *_, i in sorted(ranked)[:limit])]


# ------------------------------------------------------------------------------------------- sources


def _from_files(name: str, corpus: Corpus, path: Path) -> Iterator[Row]:
    if not path.exists():
        raise UserError(
            f"No file or folder {str(path)!r} for corpus {name!r}; check `path` or leave it out for the hub."
        )
    yield from corpus.read(path)


def _from_hub(name: str, corpus: Corpus) -> Iterator[Row]:
    if name in BUNDLED_TEXTS:
        yield from corpus.read(Path(str(files("interp") / "data" / BUNDLED_TEXTS[name])))
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
        names = {
            column: getattr(feature, "feature", feature).names
            for column, feature in table.features.items()
            if hasattr(getattr(feature, "feature", feature), "names")
        }
        seen = set()  # EmpatheticDialogues: a record per utterance, one situation per dialogue
        for i, record in enumerate(table):
            row = corpus.hub.to_row(record, names)
            row = row._replace(id=row.id or f"{split}-{i}", split=None if parts else split)
            if row.id not in seen:
                seen.add(row.id)
                yield row
