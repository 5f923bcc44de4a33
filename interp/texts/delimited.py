"""Lines of a delimited table to rows of cells, where a quotation mark may be a delimiter or a character.

The `csv` module takes every mark that opens a cell for a delimiter: one tweet that begins with `"` swallows the lines
up to the next mark in the file. Here a mark opens a cell only if the next mark that is not doubled closes it, right
before a delimiter or the end of a line (RFC 4180); every other mark is text. Well-formed tables come out as from `csv`.
"""

import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

LONGEST_CELL = 2**24
"""Characters; a mark that has not been closed by then is text."""
UNTIL_MARK = re.compile(r'[^"]*(?:""[^"]*)*')
"""Up to the first mark that is not doubled."""


@dataclass
class Splitter:
    """Iterates over the rows of `lines` (with their line ends); a blank line is an empty row.

    Attributes:
        marks: whether quotation marks may delimit cells; without them, every line is a row.
        spanning: numbers (from 1) of the rows of a comma table whose quoted cell ran over lines that are each as wide
            as the header: they may be rows of their own.
    """

    lines: Iterable[str]
    delimiter: str
    marks: bool = True
    spanning: list[int] = field(default_factory=list)

    def __iter__(self) -> Iterator[list[str]]:
        self._coming: deque[str] = deque()
        self._rest = iter(self.lines)
        self._width = 0
        self._row = 0
        while (line := self._next()) is not None:
            self._row += 1
            if self.marks and '"' in line:
                cells = self._quoted(line)
            else:
                bare = line.rstrip("\r\n")
                cells = bare.split(self.delimiter) if bare else []
            self._width = self._width or len(cells)
            yield cells

    def _next(self) -> str | None:
        return self._coming.popleft() if self._coming else next(self._rest, None)

    def _quoted(self, text: str) -> list[str]:
        cells, start = [], 0
        while True:
            closed = None
            if text[start : start + 1] == '"':
                text, closed = self._closed(text, start)
            if closed is not None:
                cells.append(text[start + 1 : closed].replace('""', '"'))
                end = closed + 1
            else:
                end = text.find(self.delimiter, start)
                end = len(text.rstrip("\r\n")) if end < 0 else end
                cells.append(text[start:end])
            if text[end : end + 1] != self.delimiter:
                return cells
            start = end + 1

    def _closed(self, text: str, start: int) -> tuple[str, int | None]:
        """The text with the lines that a cell goes on for, and where it closes; None where its mark is a character."""
        found = UNTIL_MARK.match(text, start + 1)
        end = found.end() if found else len(text)
        taken: list[str] = []
        size = len(text)
        while end == size and size - start < LONGEST_CELL:
            line = self._next()
            if line is None:
                break
            taken.append(line)
            size += len(line)
            found = UNTIL_MARK.match(line)  # doubled marks stand in one line
            end = size - len(line) + (found.end() if found else 0)
        whole = text + "".join(taken)
        if end < size and (whole[end + 1 : end + 2] == self.delimiter or not whole[end + 1 :].rstrip("\r\n")):
            alone = bool(taken) and self._each_a_row([text, *taken])
            if not alone:
                return whole, end
            if self.delimiter in ",;":  # commas are common in texts: the marks decide, and it is told
                self.spanning.append(self._row)
                return whole, end
        self._coming.extendleft(reversed(taken))
        return text, None

    def _each_a_row(self, lines: list[str]) -> bool:
        return self._width > 1 and all(line.count(self.delimiter) + 1 == self._width for line in lines)
