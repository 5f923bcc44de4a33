"""AIPsy-Affect: keyword-free vignettes with matched neutral controls ("Whether, Not Which", 2026).

`stimuli.jsonl`; by default its clinical set and the controls. A vignette and its control name each other: both go by
the vignette's id, so no split parts them.

    {"id": "B-1", "text": "...", "emotion": "rage", "stimulus_set": "B_clinical", "matched_control_id": "N-1"}

Licence: MIT.
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.texts.corpora.base import Corpus, HubSource, Row
from interp.texts.emotions import AIPSY_TO_EKMAN
from interp.texts.problems import Problems
from interp.texts.records import cells_of, read

LABELS = (*AIPSY_TO_EKMAN, "admiration", "vigilance")


def read_aipsy(path: Path, problems: Problems, sets: Sequence[str] = ("B_clinical", "neutral")) -> Iterator[Row]:
    file = path / "stimuli.jsonl" if path.is_dir() else path
    if not file.exists():
        raise UserError(f"{file} does not exist; AIPsy-Affect's vignettes are released as stimuli.jsonl.")
    for record in read(file, ("id", "text", "emotion", "stimulus_set"), problems):
        r = record.cells
        if r["stimulus_set"] in sets:
            yield _row(r)


def _row(record: Mapping[str, Any]) -> Row:
    r = cells_of(record)
    pair = r.get("matched_control_id") if r["emotion"] == "neutral" else r["id"]
    return Row(r["id"], r["text"], (r["emotion"],), None, pair, r.get("has_emotion_keyword") != "True")


CORPUS = Corpus(
    read_aipsy,
    "keyword-free vignettes with matched neutral controls ('Whether, Not Which', 2026)",
    "MIT",
    HubSource("keidolabs/aipsy-affect", None, lambda r, names: _row(r), parts=("clinical", "neutral")),
    mapping=AIPSY_TO_EKMAN,
    labels=LABELS,
    files="stimuli.jsonl",
    rows="192",
)
WITH_WORDS = Corpus(
    partial(read_aipsy, sets=("A_standard", "B_clinical", "neutral")),
    "the same with AIPsy-Affect's standard set, most of whose texts name the emotion: for the keyword test",
    "MIT",
    mapping=AIPSY_TO_EKMAN,
    labels=LABELS,
    files="stimuli.jsonl",
    rows="282",
)
