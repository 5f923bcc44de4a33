"""How far a run is: which stage of how many, how long it has taken, and about how long it will."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

SECONDS = {
    "capture": 9.0,
    "features": 0.6,
    "attribution": 0.4,
    "signals": 5.7,
    "phases": 0.8,
    "trace": 3.6,
    "steer": 49.7,
    "causes": 4.7,
    "evaluate": 9.4,
    "selectivity": 0.6,
    "side_effects": 10.9,
    "baselines": 4.0,
    "cards": 1.6,
    "trees": 3.1,
}
"""Of the stages of the bundled model's own run (`experiments/tiny.yaml`) on one CPU thread: their shares tell what is
left. Other models and corpora have other shares, so that what is told is rough."""
SHORT = 0.1
"""Seconds of any other stage."""
FIRST = 5.0
"""Seconds of work without which nothing can be told."""


@dataclass
class Pace:
    """The stages of a run that are done and those that are left.

    Attributes:
        names: all stages, in order.
    """

    names: Sequence[str]
    began: float = field(default_factory=lambda: time.monotonic())
    left: list[str] = field(default_factory=list)
    share: float = 0.0
    """Of the work done here, in seconds of `SECONDS`."""

    def __post_init__(self) -> None:
        self.left = list(self.names)

    def skip(self, name: str) -> None:
        """It was done before."""
        self.left.remove(name)

    def finish(self, name: str) -> None:
        self.left.remove(name)
        self.share += SECONDS.get(name, SHORT)

    def heading(self, name: str) -> str:
        """`trace, stage 6 of 20; 1:20 so far, about 3 min left`."""
        words = f"{name}, stage {self.names.index(name) + 1} of {len(self.names)}"
        elapsed = time.monotonic() - self.began
        if not self.share or elapsed < FIRST:
            return words
        left = elapsed / self.share * sum(SECONDS.get(one, SHORT) for one in self.left)
        return f"{words}; {clock(elapsed)} so far, about {_roughly(left)} left"


def clock(seconds: float) -> str:
    """`1:05`, `2:00:05`."""
    hours, minutes, rest = int(seconds) // 3600, int(seconds) // 60 % 60, int(seconds) % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _roughly(seconds: float) -> str:
    if seconds < 10:
        return "some seconds"
    if seconds < 90:
        return f"{round(seconds, -1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
