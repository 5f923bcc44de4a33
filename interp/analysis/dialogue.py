"""Dialogues as turns of speakers, and what a model answers for each."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from interp.errors import UserError

LINE = re.compile(r"^\s*([^:\n]{1,40}?)\s*:\s*(.+?)\s*$")


class SpokenTurn(NamedTuple):
    """Who said what."""

    speaker: str
    words: str


@dataclass(frozen=True)
class DialogueTrack:
    """The labels' probabilities for every turn."""

    labels: Sequence[str]
    turns: Sequence[SpokenTurn]
    probabilities: Float[np.ndarray, "turn label"]

    @property
    def answers(self) -> list[str]:
        """By turn, the likeliest label."""
        return [self.labels[int(k)] for k in self.probabilities.argmax(1)]


def turns_of(dialogue: str) -> list[SpokenTurn]:
    """`Anna: I lost it.` a line; a line without a speaker goes on with the turn before it.

    Raises:
        UserError: no line names a speaker.
    """
    turns: list[SpokenTurn] = []
    for line in dialogue.splitlines():
        found = LINE.match(line)
        if found:
            turns.append(SpokenTurn(found[1], found[2]))
        elif line.strip() and turns:
            turns[-1] = SpokenTurn(turns[-1].speaker, f"{turns[-1].words} {line.strip()}")
    if not turns:
        raise UserError("No line says who speaks; write a turn a line, such as 'Anna: I lost my keys again.'")
    return turns
