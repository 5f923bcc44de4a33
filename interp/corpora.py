"""Labelled emotion corpora as lists of `Example`, read in the formats in which their authors released them."""

import csv
import hashlib
import io
import json
import random
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from interp import emotions
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


class Row(NamedTuple):
    """What a reader yields: a text with all labels its annotators gave it, in the corpus' own names."""

    id: str
    text: str
    labels: tuple[str, ...]
    split: str | None = None
    group: str | None = None
    keyword_free: bool | None = None


@dataclass(frozen=True)
class HubSource:
    """Where a corpus lives on the Hugging Face hub, and how one of its records becomes a `Row`."""

    repository: str
    config: str | None
    to_row: Callable[[Mapping, Mapping[str, list[str]]], Row]
    """(record, names of every class-label column) -> Row without split."""


@dataclass(frozen=True)
class Corpus:
    """A known corpus.

    `read` yields rows from the released files; `shares` cuts rows without an official split by a hash of
    their group; `official` says of which released split the project's discover / fit / test are made.
    """

    read: Callable[[Path], Iterator[Row]]
    description: str
    licence: str
    hub: HubSource | None = None
    mapping: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=lambda: {"discover": 0.3, "fit": 0.2, "test": 0.5})
    official: Mapping[str, str] = field(default_factory=dict)


SPLIT_ALIASES = {"dev": "validation", "val": "validation", "valid": "validation"}


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
        text_column, label_column: for `local` only.
        mapping: the corpus' own labels to names of `labels`; None uses the corpus' published one.

    Raises:
        UserError: unknown corpus or split, missing file or column, no usable rows, a label without any row.
    """
    if name == "local":
        if path is None:
            raise UserError("Corpus 'local' needs a path to a CSV, TSV, JSONL or Parquet file; none was given.")
        corpus = Corpus(lambda p: _read_table(p, text_column, label_column), "a table of your own", "yours", mapping={})
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
    known = sorted(released | set(corpus.official) | {"all", *(() if released else (*corpus.shares, "train"))})
    raise UserError(f"Corpus {name!r} has no split {split!r}{nearest(split, known)}")


def _draw(examples: list[Example], limit: int, seed: int) -> list[Example]:
    """At most `limit` examples, in file order, keeping each emotion's share as far as whole numbers allow."""
    if limit >= len(examples):
        return examples
    by_gold: dict[str, list[int]] = {}
    for i, example in enumerate(examples):
        by_gold.setdefault(example.gold, []).append(i)
    rng = random.Random(seed)
    ranked = []
    for members in by_gold.values():
        rng.shuffle(members)
        ranked += [((rank + 0.5) / len(members), i) for rank, i in enumerate(members)]
    return [examples[i] for i in sorted(i for _, i in sorted(ranked)[:limit])]


# ------------------------------------------------------------------------------------------- sources


def _from_files(name: str, corpus: Corpus, path: Path) -> Iterator[Row]:
    if not path.exists():
        raise UserError(
            f"No file or folder {str(path)!r} for corpus {name!r}; check `path` or leave it out for the hub."
        )
    try:
        yield from corpus.read(path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); convert it first.") from None


def _from_hub(name: str, corpus: Corpus) -> Iterator[Row]:
    if corpus.hub is None and name == "vignettes":
        yield from corpus.read(Path(str(files("interp") / "data" / "vignettes.jsonl")))
        return
    if corpus.hub is None:
        raise UserError(
            f"Corpus {name!r} is not on the Hugging Face hub in its released form; give `path:` to its files."
        )
    import datasets  # slow to import, and only needed here

    try:
        loaded = datasets.load_dataset(corpus.hub.repository, corpus.hub.config)
    except (OSError, datasets.exceptions.DatasetsError, ValueError) as error:
        raise UserError(
            f"Could not fetch {corpus.hub.repository!r} from the Hugging Face hub ({type(error).__name__});"
            f" check the network, or give `path:` to the released files of {name!r}."
        ) from None
    for split, table in loaded.items():
        names = {
            column: getattr(feature, "feature", feature).names
            for column, feature in table.features.items()
            if hasattr(getattr(feature, "feature", feature), "names")
        }
        for i, record in enumerate(table):
            row = corpus.hub.to_row(record, names)
            yield row._replace(id=row.id or f"{split}-{i}", split=split)


def _json_lines(path: Path) -> Iterator[dict]:
    for number, line in enumerate(_lines(path), 1):
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            raise UserError(f"{path}, line {number}: not a JSON object.") from None


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _records(path: Path, delimiter: str = ",", needs: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Rows of a delimited table as dicts, refusing a table that lacks a column."""
    text = path.read_text(encoding="utf-8-sig")
    lines = io.StringIO(text, newline="")
    if delimiter == "|":  # ISEAR: quotation marks are text
        reader = csv.DictReader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(lines, delimiter=delimiter)
    _need_columns(path, reader.fieldnames or [], needs)
    yield from reader


def _need_columns(path: Path, present: Iterable[str], needs: Sequence[str]) -> None:
    present = list(present)
    for column in needs:
        if column not in present:
            raise UserError(f"{path} has no column {column!r}{nearest(column, present)}")


def _released(path: Path, suffix: str) -> list[Path]:
    """The file itself, or the folder's files with that suffix."""
    found = [path] if path.is_file() else sorted(path.glob(f"*{suffix}"))
    if not found:
        raise UserError(f"{path} holds no {suffix} file; give the folder or file as its authors released it.")
    return found


# ------------------------------------------------------------------------------------------- readers


def _read_vignettes(path: Path) -> Iterator[Row]:
    for record in _json_lines(path):
        yield Row(record["id"], record["text"], (record["label"],), record["split"], None, record["keyword_free"])


def _read_goemotions(path: Path) -> Iterator[Row]:
    """TSV files train / dev / test of text, comma-separated label ids and comment id, beside labels.txt."""
    folder = path if path.is_dir() else path.parent
    label_file = next((folder / n for n in ("labels.txt", "emotions.txt") if (folder / n).exists()), None)
    if label_file is None:
        raise UserError(f"{folder} lacks labels.txt, GoEmotions' list of label names (one per line).")
    names = [line for line in _lines(label_file) if line]
    for file in _released(path, ".tsv"):
        split = SPLIT_ALIASES.get(file.stem, file.stem)
        for number, line in enumerate(_lines(file), 1):
            cells = line.split("\t")
            try:
                labels = tuple(names[int(k)] for k in cells[1].split(","))
            except (IndexError, ValueError):
                raise UserError(
                    f"{file}, line {number}: expected text, label ids below {len(names)} and an id,"
                    " separated by tabs, as GoEmotions was released."
                ) from None
            yield Row(cells[2] if len(cells) > 2 else f"{split}-{number}", cells[0], labels, split)


def _read_crowd_envent(path: Path) -> Iterator[Row]:
    """`crowd-enVent-generation.tsv`: `hidden_emo_text` is the event description with its emotion word masked."""
    for file in _released(path, "generation.tsv"):
        for r in _records(file, "\t", ("text_id", "emotion", "hidden_emo_text")):
            yield Row(r["text_id"], r["hidden_emo_text"], (r["emotion"],))


def _read_isear(path: Path) -> Iterator[Row]:
    """`|`-separated: Field1 = emotion, SIT = situation. Undoes the line-break sign, drops 'no response' rows."""
    for file in _released(path, ".csv"):
        for i, r in enumerate(_records(file, "|", ("Field1", "SIT"))):
            text = " ".join(r["SIT"].replace("á", " ").split())
            if "no response" not in text.lower():
                yield Row(str(i), text, (r["Field1"],))


def _read_meld(path: Path) -> Iterator[Row]:
    """`train|dev|test_sent_emo.csv`: one utterance a row; utterances of a dialogue form a group."""
    found = _released(path, "_sent_emo.csv")
    for file in found:
        split = SPLIT_ALIASES.get(file.stem.split("_")[0], file.stem.split("_")[0])
        for r in _records(file, ",", ("Utterance", "Emotion", "Dialogue_ID", "Utterance_ID")):
            dialogue = f"{split}-{r['Dialogue_ID']}"
            text = r["Utterance"].replace("\x92", "'").replace("’", "'")
            # Alone, the training file has no official counterpart: it is cut like a corpus without splits.
            yield Row(
                f"{dialogue}-{r['Utterance_ID']}", text, (r["Emotion"],), split if len(found) > 1 else None, dialogue
            )


def _read_tweeteval(path: Path) -> Iterator[Row]:
    """`mapping.txt` and pairs of `{train,val,test}_text.txt` / `_labels.txt`."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "mapping.txt").exists():
        raise UserError(f"{folder} lacks mapping.txt, TweetEval's list of label names.")
    names = dict(line.split(maxsplit=1) for line in _lines(folder / "mapping.txt") if line.strip())
    for file in _released(folder, "_text.txt"):
        split = SPLIT_ALIASES.get(file.stem.removesuffix("_text"), file.stem.removesuffix("_text"))
        texts, labels = _lines(file), _lines(file.with_name(file.name.replace("_text", "_labels")))
        if len(texts) != len(labels):
            raise UserError(f"{file} has {len(texts)} texts but {len(labels)} labels beside it.")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
            yield Row(f"{split}-{i}", text, (names[label.strip()],), split)


def _read_empathetic(path: Path) -> Iterator[Row]:
    """Situations with their emotion: a `text,emotion` table, or the release's dialogue lines (one situation each)."""
    for file in _released(path, ".csv"):
        split = SPLIT_ALIASES.get(file.stem, file.stem)
        table = list(_records(file))
        columns = table[0].keys() if table else ()
        if "prompt" in columns:  # the authors' own files, one row per utterance
            seen = {r["conv_id"]: r for r in table}
            rows = [(key, r["prompt"].replace("_comma_", ","), r["context"]) for key, r in seen.items()]
        else:
            _need_columns(file, columns, ("text", "emotion"))
            rows = [(str(i), r["text"], r["emotion"]) for i, r in enumerate(table)]
        for key, text, label in rows:
            # The corpus is here to be scored on, never to be fitted on: without a test file, all of it is test.
            yield Row(f"{split}-{key}", text, (label.strip(),), split if split in ("train", "test") else "test")


def _read_aipsy(path: Path) -> Iterator[Row]:
    """`stimuli.jsonl`: keyword-free vignettes and their matched neutral controls (the other sets are left out)."""
    file = path / "stimuli.jsonl" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{file} does not exist; AIPsy-Affect's vignettes are released as stimuli.jsonl.")
    for r in _json_lines(file):
        if r["stimulus_set"] in ("B_clinical", "neutral"):
            pair = r["id"] if r["stimulus_set"] == "B_clinical" else r["matched_control_id"]
            yield Row(r["id"], r["text"], (r["emotion"],), None, pair, True)


def _read_table(path: Path, text_column: str, label_column: str) -> Iterator[Row]:
    import pandas as pd

    readers = {
        ".csv": lambda p: pd.read_csv(p, dtype=str, keep_default_na=False),
        ".tsv": lambda p: pd.read_csv(p, dtype=str, keep_default_na=False, sep="\t"),
        ".jsonl": lambda p: pd.read_json(p, lines=True, dtype=False),
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise UserError(f"{path} is no table this tool reads; expected one of {', '.join(readers)}.")
    try:
        table = readers[path.suffix](path)
    except UnicodeDecodeError:
        raise
    except (ValueError, OSError) as error:
        raise UserError(f"{path} could not be read as {path.suffix[1:].upper()}: {error}.") from None
    _need_columns(path, table.columns, (text_column, label_column))
    for i, r in enumerate(table.to_dict("records")):
        text, label = r[text_column], r[label_column]
        if isinstance(text, str) and label is not None:
            split = r.get("split")
            yield Row(str(r.get("id", i)), text, (str(label),), split if isinstance(split, str) else None)


_OFFICIAL = {"discover": "validation", "fit": "validation"}

CORPORA: dict[str, Corpus] = {
    "vignettes": Corpus(
        _read_vignettes, "short texts written for this project, half of them without any emotion word", "MIT"
    ),
    "goemotions": Corpus(
        _read_goemotions,
        "Reddit comments (Demszky et al. 2020)",
        "Apache-2.0",
        HubSource(
            "google-research-datasets/go_emotions",
            "simplified",
            lambda r, names: Row(r["id"], r["text"], tuple(names["labels"][k] for k in r["labels"])),
        ),
        official=_OFFICIAL,
    ),
    "crowd-envent": Corpus(
        _read_crowd_envent,
        "event descriptions by crowd workers, emotion word masked (Troiano et al. 2023)",
        "research",
        mapping=emotions.CROWD_ENVENT_NAMES,
    ),
    "isear": Corpus(
        _read_isear,
        "first-person emotional situations (Scherer & Wallbott 1994)",
        "research",
        shares={"discover": 0.5, "fit": 0.3, "test": 0.2},
    ),
    "meld": Corpus(
        _read_meld,
        "utterances of a TV series (Poria et al. 2019)",
        "GPL-3.0",
        shares={"discover": 0.5, "fit": 0.3, "test": 0.2},
        official=_OFFICIAL,
    ),
    "tweeteval": Corpus(
        _read_tweeteval,
        "tweets (Mohammad et al. 2018; Barbieri et al. 2020)",
        "see authors",
        HubSource(
            "cardiffnlp/tweet_eval",
            "emotion",
            lambda r, names: Row("", r["text"], (names["label"][r["label"]],)),
        ),
        official=_OFFICIAL,
    ),
    "empatheticdialogues": Corpus(
        _read_empathetic,
        "situations told by crowd workers (Rashkin et al. 2019), 18 of the 32 labels mapped to the six",
        "CC BY-NC 4.0",
        HubSource(
            "facebook/empathetic_dialogues",
            None,
            lambda r, names: Row(r["conv_id"], r["prompt"].replace("_comma_", ","), (r["context"],)),
        ),
        mapping=emotions.EMPATHETIC_TO_EKMAN,
        official=_OFFICIAL,
    ),
    "aipsy-affect": Corpus(
        _read_aipsy,
        "keyword-free vignettes with matched neutral controls ('Whether, Not Which', 2026)",
        "MIT",
        HubSource(
            "keidolabs/aipsy-affect",
            None,
            lambda r, names: Row(r["id"], r["text"], (r["emotion"],), None, r.get("matched_control_id"), True),
        ),
        mapping=emotions.AIPSY_TO_EKMAN,
    ),
}
