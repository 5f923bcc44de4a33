"""EmpatheticDialogues: situations told by crowd workers (Rashkin et al. 2019). For evaluation, never to be fitted on.

Either a table of situations (`text,emotion`, quoted as usual), or the release's `train.csv`, `valid.csv`, `test.csv`
with one utterance a row, where commas are written `_comma_` and quotation marks are text; a conversation has one
situation.

    conv_id,utterance_idx,context,prompt,speaker_idx,utterance,selfeval,tags
    hit:0_conv:1,1,terrified,A noise_comma_ at night.,0,"What was that?,5|5|5_5|5|5,

Licence: CC BY-NC 4.0.
"""

from collections.abc import Iterator
from pathlib import Path

from interp.texts.corpora.base import FROM_VALIDATION, Corpus, HubSource, Row, official_split, released
from interp.texts.emotions import EMPATHETIC, EMPATHETIC_TO_EKMAN
from interp.texts.problems import Problems
from interp.texts.records import read, read_lines

RELEASED = ("conv_id", "prompt", "context")


def read_empathetic(path: Path, problems: Problems) -> Iterator[Row]:
    found = released(path, ".csv")
    # Without a test file, all but `train` is test.
    has_test = any(file.stem == "test" for file in found)
    for file in found:
        split = official_split(file.stem)
        part = split if split == "train" or has_test else "test"
        header = next((line for _, line in read_lines(file)), "")
        if "prompt" in header:
            table = (record.cells for record in read(file, RELEASED, problems, marks=False, delimiters=","))
            rows = {r["conv_id"]: (r["prompt"].replace("_comma_", ","), r["context"]) for r in table}
        else:
            situations = read(file, ("text", "emotion"), problems)
            rows = {str(s.number - 1): (s.cells["text"], s.cells["emotion"]) for s in situations}
        for key, (text, label) in rows.items():
            yield Row(f"{split}-{key}", text, (label.strip(),), part)


CORPUS = Corpus(
    read_empathetic,
    "situations told by crowd workers (Rashkin et al. 2019), 32 labels, 18 of them mapped to the six",
    "CC BY-NC 4.0",
    HubSource(
        "facebook/empathetic_dialogues",
        None,
        lambda r, names: Row(r["conv_id"], r["prompt"].replace("_comma_", ","), (r["context"],)),
    ),
    mapping=EMPATHETIC_TO_EKMAN,
    official=FROM_VALIDATION,
    labels=EMPATHETIC,
    files="the folder with the release's CSV files, or a text,emotion table",
)
