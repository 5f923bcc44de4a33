"""Answers and a lexicon as EXPRESS reads them, and its commands."""

from pathlib import Path

import pandas as pd

from interp.cli.main import app
from interp.surveys.express.lexicon import DIMENSIONS

WORDS = {
    "happy": ("joy", "positive"),
    "glad": ("joy", "positive"),
    "angry": ("anger", "negative"),
    "furious": ("anger", "disgust", "negative"),
    "scared": ("fear", "negative"),
    "numb": (),
}


TWELVE = [
    (["happy"], "['happy']"),
    (["happy"], "['glad']"),
    (["angry", "scared"], "['furious', 'scared']"),
    (["scared"], "['happy', 'glad']"),  # one word too many
    (["angry"], "[angry]"),  # brackets without quotes
    (["happy"], "INVALID OUTPUT"),
    (["scared"], "['Scared']"),
    (["zorply"], "['blixed']"),  # two words that the lexicon lacks
    (["happy"], "[]"),
    (["numb", "angry"], "['blixed', 'angry']"),
    (["happy"], "I would say [happy"),
    (["scared"], "happy"),  # a bare word
]


def write_lexicon(path: Path, words: dict[str, tuple[str, ...]] = WORDS) -> Path:
    rows = [{"word": w, **{d: float(d in has) for d in DIMENSIONS}} for w, has in words.items()]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def write_answers(path: Path, rows=TWELVE, **more) -> Path:
    table = {
        "number_of_labels": [len(labels) for labels, _ in rows],
        "labels": [str(labels) for labels, _ in rows],
        "output": [output for _, output in rows],
    }
    pd.DataFrame(table | more).to_csv(path, index=False)
    return path


def command(capsys, *arguments: object) -> tuple[str, str]:
    """stdout and stderr of a command that ends well, run in this process."""
    app([str(a) for a in arguments], result_action="return_value")
    return capsys.readouterr()
