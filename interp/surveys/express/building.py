"""A corpus of one's own: raw posts to segments with their emotion words masked, a post at a time."""

import csv
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

from interp.errors import UserError
from interp.files.folder import fingerprint, writing
from interp.reporting import counted
from interp.surveys.answer_log import appending, read_log
from interp.surveys.express.masking import Disclosure, Masker, mask, sentences
from interp.surveys.express.segments import Segment, as_record
from interp.texts.corpora.express import MASK
from interp.texts.problems import Problems
from interp.texts.records import read

MOST_TOKENS = 512
WORD = re.compile(r"\w+|[^\w\s]")
Counter = Callable[[str], int]


def count_words(text: str) -> int:
    """Words and punctuation marks: what counts as tokens where no tokenizer is given."""
    return sum(1 for _ in WORD.finditer(text))


@dataclass(frozen=True)
class Built:
    """What a build did."""

    posts: int
    posts_used: int
    segments: int
    masks: int
    resumed: int
    problems: Problems


def cut(
    id_: str, text: str, masker: Masker, *, most_tokens: int = MOST_TOKENS, count: Counter = count_words
) -> list[Segment]:
    """Segments of one post: runs of masks that fit together, with as many sentences around them as the limit allows.

    A segment never reaches into a sentence that holds another segment's mask; the words it left unmasked there would
    be gold words in plain sight.
    """
    pieces = [span for sentence in sentences(text) for span in _split(text, sentence, max(1, most_tokens // 4), count)]
    found = masker.find(text)
    inside = [[d for d in found if a <= d.start < b] for a, b in pieces]
    lengths = [
        count(mask(text[a:b], _shifted(ds, a)).replace(MASK, "_")) for (a, b), ds in zip(pieces, inside, strict=True)
    ]
    marked = [i for i, ds in enumerate(inside) if ds]
    segments = []
    for number, (first, last) in enumerate(_groups(marked, lengths, most_tokens)):
        first_in, last_in = _widen(first, last, {*marked}, lengths, most_tokens)
        start, end = pieces[first_in][0], pieces[last_in][1]
        own = [d for ds in inside[first : last + 1] for d in ds]
        body = mask(text[start:end], _shifted(own, start)).strip()
        segments.append(Segment(f"{id_}-{number}", id_, body, tuple(d.word for d in own)))
    return segments


def build(
    posts: Path,
    out: Path,
    masker: Masker,
    *,
    text_column: str = "text",
    id_column: str = "id",
    most_tokens: int = MOST_TOKENS,
    count: Counter = count_words,
    settings: dict[str, object] | None = None,
) -> Built:
    """Writes `out`, a CSV in the corpus' format. A build that was stopped goes on at the post it had reached.

    Args:
        posts: CSV or JSONL; rows without text, without id, or with an id seen before are counted and skipped.
        settings: what else determines the result; work begun under others is begun anew.

    Raises:
        UserError: no such file or columns, posts that hold `<mask>` already, `out` exists.
    """
    if out.exists():
        raise UserError(f"{out} exists already; remove it or choose another --out.")
    problems, part = Problems(), out.with_name(out.name + ".posts.jsonl")
    made_with = fingerprint(
        {"posts": str(posts.resolve()), "size": posts.stat().st_size if posts.exists() else 0}
        | {"columns": [text_column, id_column], "most": most_tokens, **(settings or {})}
    )
    rows = _posts(posts, text_column, id_column, problems)
    first = list(islice(rows, 1))  # a file that is refused leaves nothing behind
    head = {"fingerprint": made_with}
    begun = read_log(part, lambda line: line if isinstance(line, dict) else None)
    if begun[:1] != [head]:  # not begun, or with other settings
        part.unlink(missing_ok=True)
    done, n_posts = max(len(begun) - 1, 0) if part.exists() else 0, 0
    with appending(part) as add:
        if not part.stat().st_size:
            add(head)
        for id_, text in counted(chain(first, rows), "posts", "post"):
            n_posts += 1
            if n_posts > done:
                add([as_record(s) for s in cut(id_, text, masker, most_tokens=most_tokens, count=count)])
    if not n_posts:
        part.unlink()
        reason = "; ".join(problems.lines()[:1]) or "it has no rows"
        raise UserError(f"{posts} holds no post that can be used ({reason}); give a table of posts with ids and texts.")
    used = n_segments = masks = 0
    with (
        writing(out) as whole,
        whole.open("w", encoding="utf-8", newline="") as file,
        part.open(encoding="utf-8") as log,
    ):
        writer = csv.DictWriter(file, as_record(Segment("", "", "", ())).keys(), lineterminator="\n")
        writer.writeheader()
        for records in map(json.loads, islice(log, 1, None)):
            used += bool(records)
            n_segments += len(records)
            masks += sum(record["number_of_labels"] for record in records)
            writer.writerows(records)
    part.unlink()
    return Built(n_posts, used, n_segments, masks, done, problems)


def _posts(path: Path, text_column: str, id_column: str, problems: Problems) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for record in read(path, (text_column, id_column), problems):
        row, id_, text = record.row, record.cells[id_column].strip(), record.cells[text_column]
        if not id_:
            problems.add("has no id", row)
        elif id_ in seen:
            problems.add("has the id of an earlier row", row)
        elif not text.strip():
            problems.add("has no text", row)
        elif MASK in text:
            problems.add(f"holds {MASK} already", row)
        else:
            seen.add(id_)
            yield id_, text


def _groups(marked: list[int], lengths: list[int], most: int) -> Iterator[tuple[int, int]]:
    """(first, last) piece of each run of masked pieces that fits into `most` tokens, what lies between included."""
    if not marked:
        return
    first = last = marked[0]
    for piece in marked[1:]:
        if sum(lengths[first : piece + 1]) > most:
            yield first, last
            first = piece
        last = piece
    yield first, last


def _widen(first: int, last: int, marked: set[int], lengths: list[int], most: int) -> tuple[int, int]:
    """Pieces added by turns before and after, as far as the limit and the other masks allow."""
    room = most - sum(lengths[first : last + 1])
    open_before = open_after = True
    while open_before or open_after:
        open_before = open_before and first > 0 and first - 1 not in marked and lengths[first - 1] <= room
        if open_before:
            first -= 1
            room -= lengths[first]
        open_after = open_after and last + 1 < len(lengths) and last + 1 not in marked and lengths[last + 1] <= room
        if open_after:
            last += 1
            room -= lengths[last]
    return first, last


def _split(text: str, span: tuple[int, int], most: int, count: Counter) -> Iterator[tuple[int, int]]:
    """A sentence too long to be handled whole, halved at spaces until its parts are at most `most` tokens."""
    start, end = span
    if count(text[start:end]) <= most:
        yield span
        return
    middle = text.rfind(" ", start + 1, (start + end) // 2)
    middle = middle if middle > start else text.find(" ", (start + end) // 2, end - 1)
    if middle < 0:
        yield span
        return
    yield from _split(text, (start, middle + 1), most, count)
    yield from _split(text, (middle + 1, end), most, count)


def _shifted(found: list[Disclosure], by: int) -> list[Disclosure]:
    return [replace(d, start=d.start - by, end=d.end - by) for d in found]
