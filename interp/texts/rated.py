"""Texts with ratings: numbers that raters gave, such as valence or how sudden an event was, as targets of probes."""

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from interp.errors import InterpWarning, UserError, nearest
from interp.texts import emotions
from interp.texts.corpora import CORPORA
from interp.texts.corpora.base import Corpus
from interp.texts.corpora.local import local_ratings
from interp.texts.examples import Example, LabelNames, draw, example_of, read_rows, split_test
from interp.texts.problems import count

FEWEST, FEWEST_GROUPS = 50, 5
"""Rated texts, and groups of them, below which nothing can be learnt from some and tested on the others."""


@dataclass(frozen=True)
class RatedTexts:
    """Texts that are all rated for the same things.

    Attributes:
        name: of the corpus.
        scales: what they are rated for.
        examples: at most as many as asked for. Their `gold` is one of the run's labels, a label of the corpus' own,
            or empty where there is none.
        whole: all of the split.
    """

    name: str
    scales: tuple[str, ...]
    examples: tuple[Example, ...]
    whole: tuple[Example, ...]

    def named(self, shown: str) -> "RatedTexts":
        """The same under another name of the corpus."""

        def renamed(e: Example) -> Example:
            own = len(e.corpus)
            return replace(e, corpus=shown, id=shown + e.id[own:], group=shown + e.group[own:])

        return RatedTexts(shown, self.scales, tuple(map(renamed, self.examples)), tuple(map(renamed, self.whole)))


def load_rated(
    name: str,
    *,
    split: str = "all",
    path: str | Path | None = None,
    columns: Sequence[str] | None = None,
    labels: Sequence[str] = emotions.EKMAN,
    limit: int | None = None,
    seed: int = 0,
    text_column: str = "text",
    label_column: str | None = None,
    mapping: Mapping[str, str] | Mapping[int, str] | None = None,
) -> RatedTexts:
    """The texts of one split that have all of the ratings asked for, whatever their emotion.

    Args:
        name: a corpus with ratings, or `local` for any table.
        path: the released file or folder.
        columns: which ratings, by their name or the column that holds them; None: all that the corpus has. For
            `local`: the columns.
        labels: the run's label set.
        limit: at most this many texts, drawn with `seed` and stratified by emotion, where there are emotions.
        text_column, label_column: for `local` only; without a label column the texts have no emotion.
        mapping: the corpus' own labels to names of `labels`; None uses the corpus' published one.

    Raises:
        UserError: unknown corpus, split or rating, a corpus without ratings, missing or broken file, too few texts,
            or a rating that is the same for all of them.
    """
    corpus = _corpus(name, path, columns, text_column, label_column)
    known = {alias: scale.name for scale in corpus.scales for alias in (scale.column, scale.name)}
    for column in columns or ():
        if column not in known:
            there = [scale.name for scale in corpus.scales]
            raise UserError(f"Corpus {name!r} has no rating {column!r}{nearest(column, there)}")
    asked = dict.fromkeys([known[c] for c in columns] if columns else [scale.name for scale in corpus.scales])
    rows, problems = read_rows(name, corpus, path)
    names = LabelNames(labels, corpus.mapping if mapping is None else mapping)
    whole: list[Example] = []
    left_out: Counter[str] = Counter()
    for row in filter(split_test(name, corpus, split, rows), rows):
        if not row.text.strip():
            left_out["without text"] += 1
        elif lacking := [scale for scale in asked if scale not in row.ratings]:
            left_out[f"without a rating of {lacking[0]}"] += 1
        else:
            own = names.of(row.labels)
            gold = own.pop() if len(own) == 1 else row.labels[0] if len(row.labels) == 1 else ""
            ratings = {scale: row.ratings[scale] for scale in asked}
            whole.append(replace(example_of(name, split, row, [gold]), ratings=ratings))
    said = [f"{count(n)} {reason}" for reason, n in sorted(left_out.items())] + problems.lines()
    if said:
        warnings.warn(f"Corpus {name!r}, split {split!r}: {'; '.join(said)}: left out.", InterpWarning, stacklevel=2)
    drawn = whole if limit is None else draw(whole, limit, seed)
    if len(drawn) < FEWEST:
        raise UserError(
            f"Corpus {name!r} gives {len(drawn)} rated texts in split {split!r}; a probe of ratings needs at least"
            f" {FEWEST}: raise its limit, or give another split or other columns."
        )
    if (n_groups := len({e.group for e in drawn})) < FEWEST_GROUPS:
        raise UserError(
            f"Corpus {name!r}: the {len(drawn)} texts are of {n_groups} groups; at least {FEWEST_GROUPS} are needed, so"
            " that a probe is tested on others than it learnt from."
        )
    for scale in asked:
        if len({e.ratings[scale] for e in drawn}) < 2:
            raise UserError(
                f"Corpus {name!r}: all {len(drawn)} texts have the same {scale}; take it out of the columns."
            )
    return RatedTexts(name, tuple(asked), tuple(drawn), tuple(whole))


def _corpus(
    name: str, path: str | Path | None, columns: Sequence[str] | None, text_column: str, label_column: str | None
) -> Corpus:
    rated = {known: corpus for known, corpus in CORPORA.items() if corpus.scales}
    if name == "local":
        if path is None or not columns:
            raise UserError(
                "Ratings of 'local' need a path to a CSV, TSV, JSONL, JSON or Parquet file, and columns: the names of"
                " those that hold the ratings."
            )
        return local_ratings(text_column, label_column, columns)
    if name not in rated:
        known = (
            f"{nearest(name, [*rated, 'local'])}" if name not in CORPORA else f"; these do: {', '.join(rated)}, local."
        )
        what = "Unknown corpus" if name not in CORPORA else "No ratings come with corpus"
        raise UserError(f"{what} {name!r}{known}")
    return rated[name]
