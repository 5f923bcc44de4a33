"""What a page holds: sentences, sections, figures, tables, feature cards. Its script reads them as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from interp.report.glance import Recognised
from interp.report.sentences import Sentence

if TYPE_CHECKING:
    import plotly.graph_objects as go

MOST_BOXES = 2
"""Corpora of which the first screen has figures."""
SCHEMA_VERSION = 1
"""Of the JSON in a page: tables, figures and cards as they are here."""


@dataclass(frozen=True)
class PageFigure:
    """A plotly figure with its place on the page.

    Attributes:
        group: figures of one group share a switch that shows one of them or all; their `title` is its label.
        cards: whether a point's `customdata` begins with layer and feature, so that a click opens the feature's card.
        most: pixels beyond which the figure is not stretched.
    """

    name: str
    title: str
    figure: "go.Figure"
    caption: str
    group: str | None = None
    cards: bool = False
    most: int | None = None

    @property
    def height(self) -> int:
        return int(self.figure.layout.height or 420)


@dataclass(frozen=True)
class PageColumn:
    """A column and how its values are written.

    Attributes:
        kind: text | number | share (in percent) | interval ([value, low, high], and digits if the row has its own) |
            feature ([layer, feature]).
        digits: behind the point.
        sign: whether positive numbers get one.
    """

    title: str
    kind: str = "text"
    digits: int = 3
    sign: bool = False


@dataclass(frozen=True)
class PageTable:
    """Rows as lists in the order of the columns; `strong` numbers the rows in bold."""

    name: str
    title: str
    columns: Sequence[PageColumn]
    rows: Sequence[Sequence[Any]]
    note: str
    strong: Sequence[int] = ()

    @classmethod
    def of(cls, frame: pd.DataFrame, columns: "Columns", *, name: str, title: str, note: str) -> "PageTable":
        """A row per row of a data frame; what is missing is null."""
        plain = frame.astype(object).where(frame.notna(), None)
        cells = [
            plain[key].tolist()
            if isinstance(key, str)
            else [None if cell[0] is None else cell for cell in plain[list(key)].to_numpy().tolist()]
            for key in columns
        ]
        return cls(name, title, list(columns.values()), list(zip(*cells, strict=True)), note)


Columns = Mapping[str | tuple[str, ...], PageColumn]
"""Columns of a page by those of a data frame; cells of several of these, as an interval, are lists of their values."""


class CardEffect(NamedTuple):
    """What removing a feature did to one emotion's answer, on the examples of one role."""

    emotion: str
    role: str
    effect: float
    ci_low: float
    ci_high: float
    n: int
    flip_rate: float
    causal: bool


@dataclass(frozen=True)
class PageCard:
    """A feature: what `cards.json` says of it (see there), and its exact effects.

    Attributes:
        edges: of the histogram's bins, in units of activation.
        emotions: per emotion: texts, those on which it fires, and how many of these in each bin.
        promotes, suppresses, answers: tokens with what a unit of activation adds to their logits.
        texts: those on which it is most active, token by token.
    """

    layer: int
    feature: int
    edges: Sequence[float]
    emotions: Sequence[Mapping[str, Any]]
    promotes: Sequence[tuple[str, float]]
    suppresses: Sequence[tuple[str, float]]
    answers: Sequence[tuple[str, float]]
    neighbours: Sequence[Mapping[str, Any]]
    texts: Sequence[Mapping[str, Any]]
    effects: Sequence[CardEffect]
    neuronpedia: str | None = None


@dataclass(frozen=True)
class Section:
    """A heading, words, figures and tables under it; `short` is its entry in the navigation."""

    title: str
    slug: str
    figures: Sequence[PageFigure] = ()
    tables: Sequence[PageTable] = ()
    short: str = ""
    words: str = ""

    @property
    def entry(self) -> str:
        return self.short or self.title


@dataclass(frozen=True)
class Page:
    """A page from top to bottom.

    Attributes:
        title: of the window and the bar.
        heading: what stands on top; the title if left out.
        lead: what was run, in a line.
        labels: have a colour each.
        recognised: how well emotions are recognised, as figures of the first screen; of more than `MOST_BOXES` corpora
            the first alone, all of them in a table behind what was found.
        answer: what was found.
        notices: what is not there, and why.
        sections: those that hold nothing are left out.
        provenance, config, command: what takes `config` and makes all this again.
    """

    title: str
    lead: str
    sections: Sequence[Section]
    heading: str = ""
    labels: Sequence[str] = ()
    recognised: Sequence[Recognised] = ()
    answer: Sequence[Sentence] = ()
    notices: Sequence[str] = ()
    cards: Sequence[PageCard] = ()
    provenance: str = ""
    config: str = ""
    command: str = "interp run"

    @property
    def boxes(self) -> Sequence[Recognised]:
        return self.recognised if len(self.recognised) <= MOST_BOXES else self.recognised[:1]

    @property
    def recognition(self) -> PageTable | None:
        return None if len(self.recognised) <= MOST_BOXES else _recognition(self.recognised)


RECOGNITION = [
    PageColumn("corpus"),
    PageColumn("n", "number", 0),
    *(PageColumn(title, "interval", 2) for title in ("answers right", "macro-F1", "probe right")),
    PageColumn("guessing", "number", 2),
    PageColumn("always the commonest", "number", 2),
    PageColumn("knows more than it says"),
]


def _recognition(found: Sequence[Recognised]) -> PageTable:
    """A row per corpus."""
    rows = [
        [
            r.corpus,
            r.accuracy.n,
            *([e.value, e.low, e.high] if e else None for e in (r.accuracy, r.macro_f1, r.probe)),
            r.chance,
            r.commonest,
            "-" if r.knows is None else "yes" if r.knows else "not beyond doubt",
        ]
        for r in found
    ]
    note = (
        "Shares of texts, with 95 % intervals. Knows more than it says: a linear probe on the residual stream, fitted"
        " on other texts, is better than the model's own answers beyond doubt."
    )
    return PageTable("recognition", "How well, by corpus", RECOGNITION, rows, note)
