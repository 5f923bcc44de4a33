"""Known corpora: where each lives, under which licence, and how its released files are read."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from interp import emotions
from interp.errors import UserError, nearest

EXPRESS_MASK = "<mask>"


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
    parts: tuple[str, ...] = ()
    """For a release in tables that are no train / validation / test: the tables that count, cut like one file."""


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


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text (byte {error.start}); convert it first.") from None
    except OSError as error:
        raise UserError(f"{path} could not be read: {error.strerror}.") from None


def _lines(path: Path) -> list[str]:
    """Only a line feed ends a line: `str.splitlines` would also cut texts at U+2028, U+0085 and the like."""
    text = _text(path).replace("\r\n", "\n").removesuffix("\n")
    return text.split("\n") if text else []


def _json_lines(path: Path, needs: Sequence[str] = ()) -> Iterator[dict]:
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            raise UserError(f"{path}, line {number}: not a JSON object.")
        _need_columns(f"{path}, line {number}", record, needs)
        yield record


def _records(path: Path, delimiter: str = ",", needs: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Rows of a delimited table as dicts, refusing a table that lacks a column or a row that is cut short."""
    lines = io.StringIO(_text(path), newline="")
    if delimiter == "|":  # ISEAR: quotation marks are text
        reader = csv.DictReader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        reader = csv.DictReader(lines, delimiter=delimiter)
    try:
        _need_columns(path, reader.fieldnames or [], needs)
        for record in reader:
            if any(record[column] is None for column in needs):
                raise UserError(f"{path}, line {reader.line_num}: fewer cells than the header.")
            yield record
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}.") from None


def _need_columns(where: Path | str, present: Iterable[str], needs: Sequence[str]) -> None:
    present = list(present)
    for column in needs:
        if column not in present:
            raise UserError(f"{where} has no column {column!r}{nearest(column, present)}")


def _released(path: Path, suffix: str) -> list[Path]:
    """The file itself, or the folder's files with that suffix."""
    found = [path] if path.is_file() else sorted(path.glob(f"*{suffix}"))
    if not found:
        raise UserError(f"{path} holds no {suffix} file; give the folder or file as its authors released it.")
    return found


# ------------------------------------------------------------------------------------------- readers


def _read_vignettes(path: Path) -> Iterator[Row]:
    for record in _json_lines(path, ("id", "text", "label", "split", "keyword_free")):
        yield Row(record["id"], record["text"], (record["label"],), record["split"], None, record["keyword_free"])


def _read_goemotions(path: Path) -> Iterator[Row]:
    """TSV files train / dev / test of text, comma-separated label ids and comment id, beside labels.txt."""
    folder = path if path.is_dir() else path.parent
    label_file = next((folder / n for n in ("labels.txt", "emotions.txt") if (folder / n).exists()), None)
    if label_file is None:
        raise UserError(f"{folder} lacks labels.txt, GoEmotions' list of label names (one per line).")
    names = {str(k): line.strip() for k, line in enumerate(filter(str.strip, _lines(label_file)))}
    for file in _released(path, ".tsv"):
        split = SPLIT_ALIASES.get(file.stem, file.stem)
        for number, line in enumerate(_lines(file), 1):
            cells = line.split("\t")
            try:
                labels = tuple(names[k.strip()] for k in cells[1].split(","))
            except (IndexError, KeyError):
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
            released = split if len(found) > 1 or split != "train" else None
            yield Row(f"{dialogue}-{r['Utterance_ID']}", text, (r["Emotion"],), released, dialogue)


def _read_tweeteval(path: Path) -> Iterator[Row]:
    """`mapping.txt` and pairs of `{train,val,test}_text.txt` / `_labels.txt`."""
    folder = path if path.is_dir() else path.parent
    if not (folder / "mapping.txt").exists():
        raise UserError(f"{folder} lacks mapping.txt, TweetEval's list of label names.")
    names = dict(line.split(maxsplit=1) for line in _lines(folder / "mapping.txt") if len(line.split()) > 1)
    for file in _released(folder, "_text.txt"):
        part = file.stem.removesuffix("_text")
        split = SPLIT_ALIASES.get(part, part)
        label_file = folder / f"{part}_labels.txt"
        if not label_file.exists():
            raise UserError(f"{folder} lacks {label_file.name}, the labels of {file.name}.")
        texts, labels = _lines(file), _lines(label_file)
        if len(texts) != len(labels):
            raise UserError(f"{file} has {len(texts)} texts but {len(labels)} labels beside it.")
        for i, (text, label) in enumerate(zip(texts, labels, strict=True)):
            if label.strip() not in names:
                raise UserError(f"{label_file}, line {i + 1}: mapping.txt has no label {label.strip()!r}.")
            yield Row(f"{split}-{i}", text, (names[label.strip()].strip(),), split)


def _read_empathetic(path: Path) -> Iterator[Row]:
    """Situations with their emotion: a `text,emotion` table, or the release's dialogue lines (one situation each)."""
    found = _released(path, ".csv")
    # The corpus is here to be scored on, never to be fitted on: without a test file, all but `train` is test.
    has_test = any(file.stem == "test" for file in found)
    for file in found:
        split = SPLIT_ALIASES.get(file.stem, file.stem)
        if "prompt" in "".join(_lines(file)[:1]):  # the authors' own files, one row per utterance
            table = _records(file, ",", ("conv_id", "prompt", "context"))
            rows = {r["conv_id"]: (r["prompt"].replace("_comma_", ","), r["context"]) for r in table}
        else:
            rows = {str(i): (r["text"], r["emotion"]) for i, r in enumerate(_records(file, ",", ("text", "emotion")))}
        released = split if split == "train" or has_test else "test"
        for key, (text, label) in rows.items():
            yield Row(f"{split}-{key}", text, (label.strip(),), released)


def _read_aipsy(path: Path, sets: Sequence[str] = ("B_clinical", "neutral")) -> Iterator[Row]:
    """`stimuli.jsonl`: by default the keyword-free vignettes and their matched neutral controls."""
    file = path / "stimuli.jsonl" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{file} does not exist; AIPsy-Affect's vignettes are released as stimuli.jsonl.")
    for r in _json_lines(file, ("id", "text", "emotion", "stimulus_set")):
        if r["stimulus_set"] in sets:
            yield _aipsy_row(r)


def _aipsy_row(r: Mapping) -> Row:
    """A vignette and its control name each other: both go by the vignette's id, so no split parts them."""
    pair = r.get("matched_control_id") if r["emotion"] == "neutral" else r["id"]
    return Row(r["id"], r["text"], (r["emotion"],), None, pair, not r.get("has_emotion_keyword"))


def _read_express(path: Path) -> Iterator[Row]:
    """EXPRESS segments with a single mask; the label is the basic emotion that its word is made of most."""
    for file in _released(path, ".csv"):
        reader = csv.DictReader(io.StringIO(_text(file)))
        _need_columns(file, reader.fieldnames or (), ("segment", "labels"))
        for number, r in enumerate(reader, 2):
            yield _express_row(r, f"row{number}")


def _express_row(r: Mapping, number: str = "") -> Row:
    """Without a label where there are several masks, or a word that is made of several emotions alike or of none."""
    words = re.findall(r"[^\W\d_]+(?:[-' ][^\W\d_]+)*", str(r["labels"]))
    text = str(r["segment"] or "")
    emotion = _dominant().get(words[0].lower()) if len(words) == 1 else None
    labels = (emotion,) if emotion is not None and text.count(EXPRESS_MASK) == 1 else ()
    id_ = str(r.get("index") or number)
    return Row(id_, text.replace(EXPRESS_MASK, "____"), labels, None, str(r.get("original_index") or id_), True)


@cache
def _dominant() -> dict[str, str]:
    """Emotion words that ship, with the one basic emotion that is strongest in each; ties are left out."""
    found = {}
    table = csv.DictReader(_text(Path(str(files("interp") / "data" / "emotion_words.csv"))).splitlines())
    basic = [c for c in table.fieldnames or () if c not in ("word", "positive", "negative")]
    for r in table:
        values = {b: float(r[b]) for b in basic}
        top = [b for b, v in values.items() if v == max(values.values()) > 0]
        if len(top) == 1:
            found[r["word"].lower()] = top[0]
    return found


def read_table(path: Path, text_column: str, label_column: str) -> Iterator[Row]:
    import pandas as pd

    readers = {
        ".csv": lambda p: pd.read_csv(io.StringIO(_text(p)), dtype=str, keep_default_na=False),
        ".tsv": lambda p: pd.read_csv(io.StringIO(_text(p)), dtype=str, keep_default_na=False, sep="\t"),
        ".jsonl": lambda p: pd.DataFrame(list(_json_lines(p)), dtype=object),
        ".parquet": pd.read_parquet,
    }
    if path.suffix not in readers:
        raise UserError(f"{path} is no table this tool reads; expected one of {', '.join(readers)}.")
    try:
        table = readers[path.suffix](path)
    except (ValueError, OSError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(f"{path} could not be read as {path.suffix[1:].upper()}: {reason}.") from None
    _need_columns(path, table.columns, (text_column, label_column))
    for i, r in enumerate(table.to_dict("records")):
        text, label = r[text_column], r[label_column]
        if isinstance(text, str) and label is not None:
            split = r.get("split")
            yield Row(str(r.get("id", i)), text, (str(label),), split if isinstance(split, str) else None)


BUNDLED_TEXTS = {"vignettes": "vignettes.jsonl", "express-small": "express_segments.csv"}
"""Corpora that ship with the package."""
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
            lambda r, names: _aipsy_row(r),
            parts=("clinical", "neutral"),
        ),
        mapping=emotions.AIPSY_TO_EKMAN,
    ),
    "express": Corpus(
        _read_express,
        "self-disclosed experiences, the emotion word masked; by what the word is made of (Shu et al. 2025)",
        "see authors",
        HubSource("bangzhao/express-emotion-recognition", None, lambda r, names: _express_row(r)),
    ),
    "express-small": Corpus(_read_express, "88 segments in EXPRESS' format, written for this project", "MIT"),
    "aipsy-affect-words": Corpus(
        lambda path: _read_aipsy(path, ("A_standard", "B_clinical", "neutral")),
        "the same with AIPsy-Affect's standard set, most of whose texts name the emotion: for the keyword test",
        "MIT",
        mapping=emotions.AIPSY_TO_EKMAN,
    ),
}
