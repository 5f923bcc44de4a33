"""A text being written for a request: what of it may be told, and when it is at its end."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language_model import LanguageModel
from interp.steering.generating import drawn
from interp.steering.rolling import RowSteering

Finish = Literal["stop", "length"]


class Drawing(NamedTuple):
    """How tokens are chosen, and where a text ends.

    Attributes:
        top: likeliest tokens told beside each; None: no log-probabilities.
    """

    tokens: int
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    stops: Sequence[str] = ()
    top: int | None = None


class TokenChance(NamedTuple):
    """A token and its log-probability, steered, at temperature 1."""

    token: int
    logprob: float


class WrittenPiece(NamedTuple):
    """What a token adds to a text.

    Attributes:
        text: may be empty: of a character in several tokens the last one tells it, and what may begin a stop waits.
        chances: of the token, then of the likeliest ones, where asked for.
        finish: why the text is at its end; None: it goes on.
    """

    text: str
    chances: Sequence[TokenChance] = ()
    finish: Finish | None = None


@dataclass(eq=False)
class RequestText:
    """A row of a `RollingBatch`.

    Attributes:
        tell: is given every piece, and what went wrong, in the thread that writes.
        given_up: nobody waits for it any more.
    """

    model: LanguageModel
    ids: Sequence[int]
    steering: RowSteering
    drawing: Drawing
    tell: Callable[[WrittenPiece | Exception], None]
    written: list[int] = field(default_factory=list)
    given_up: bool = False
    _told: str = ""

    def __post_init__(self) -> None:
        self._generator = torch.Generator().manual_seed(self.drawing.seed)
        self._ends = set(self.model.end_ids)

    def take(self, logits: Float[Tensor, " vocabulary"]) -> int | None:
        how = self.drawing
        token = drawn(logits, how.temperature, self._generator, top_p=how.top_p)
        if token in self._ends:
            self.tell(WrittenPiece(self._rest(self._text()), finish="stop"))
            return None
        self.written.append(token)
        text = self._text()
        chances = self._chances(logits, token)
        found = [at for at in map(text.find, how.stops) if at >= 0]
        if found:
            self.tell(WrittenPiece(self._rest(text[: min(found)]), chances, "stop"))
            return None
        if len(self.written) >= how.tokens:
            self.tell(WrittenPiece(self._rest(text), chances, "length"))
            return None
        self.tell(WrittenPiece(self._rest(_sure(text, how.stops)), chances))
        return token

    def _text(self) -> str:
        return str(self.model.tokenizer.decode(self.written, skip_special_tokens=True))

    def _rest(self, text: str) -> str:
        """What has not been told yet."""
        if not text.startswith(self._told):  # a tokenizer that mends blanks: what is told stays told
            return ""
        new = text[len(self._told) :]
        self._told = text
        return new

    def _chances(self, logits: Float[Tensor, " vocabulary"], token: int) -> list[TokenChance]:
        if self.drawing.top is None:
            return []
        logs = logits.log_softmax(-1)
        best = logs.topk(min(self.drawing.top, len(logs)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [TokenChance(token, float(logs[token])), *(TokenChance(k, v) for k, v in pairs)]


def _sure(text: str, stops: Sequence[str]) -> str:
    """Without a half character at the end, and without what may become a stop."""
    text = text.rstrip("\N{REPLACEMENT CHARACTER}")
    held = max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)
    return text[: len(text) - held]
