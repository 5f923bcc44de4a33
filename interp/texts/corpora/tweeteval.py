"""TweetEval, emotion part: tweets (Mohammad et al. 2018; Barbieri et al. 2020).

`mapping.txt` (`0<TAB>anger`) and pairs of files, a line a tweet: `train_text.txt` / `train_labels.txt`, `val_...`,
`test_...`. Quotation marks are text.

    My bus is late again #grr
    0

Licence: see the authors.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.errors import UserError
from interp.texts.corpora.base import FROM_VALIDATION, Corpus, HubSource, Row, official_split, released, words
from interp.texts.problems import Problems
from interp.texts.records import read_lines


def read_tweeteval(path: Path, problems: Problems) -> Iterator[Row]:
    folder = path if path.is_dir() else path.parent
    if not (folder / "mapping.txt").exists():
        raise UserError(f"{folder} lacks mapping.txt, TweetEval's list of label names.")
    pairs = (line.split(maxsplit=1) for _, line in read_lines(folder / "mapping.txt", problems))
    names = {pair[0]: pair[1].strip() for pair in pairs if len(pair) > 1}
    for file in released(folder, "_text.txt"):
        part = file.stem.removesuffix("_text")
        split = official_split(part)
        label_file = folder / f"{part}_labels.txt"
        if not label_file.exists():
            raise UserError(f"{folder} lacks {label_file.name}, the labels of {file.name}.")
        texts, labels = dict(read_lines(file, problems)), dict(read_lines(label_file, problems))
        if max(texts, default=0) != max(labels, default=0):
            raise UserError(f"{file} has {len(texts)} texts but {len(labels)} labels beside it.")
        for number in sorted(texts.keys() & labels.keys()):
            label = labels[number].strip()
            if label not in names:
                raise UserError(f"{label_file}, line {number}: mapping.txt has no label {label!r}.")
            yield Row(f"{split}-{number - 1}", texts[number], (names[label],), split)


CORPUS = Corpus(
    read_tweeteval,
    "tweets (Mohammad et al. 2018; Barbieri et al. 2020)",
    "see authors",
    HubSource("cardiffnlp/tweet_eval", "emotion", lambda r, names: Row("", r["text"], (names["label"][r["label"]],))),
    official=FROM_VALIDATION,
    labels=words("anger joy optimism sadness"),
    files="the folder with *_text.txt, *_labels.txt and mapping.txt",
    rows="train 3,257, validation 374, test 1,421",
)
