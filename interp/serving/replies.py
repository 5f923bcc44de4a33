"""What is sent back: completions, chat completions, and the chunks of both, in the shapes of OpenAI's API."""

import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from interp.models.language_model import LanguageModel
from interp.serving.texts import TokenChance, WrittenPiece

Json = dict[str, Any]


class Usage(NamedTuple):
    """Tokens that passed."""

    prompt: int
    written: int

    @property
    def body(self) -> Json:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.written,
            "total_tokens": self.prompt + self.written,
        }


class Replies:
    """The replies to one request: they share an id, a time and a name."""

    def __init__(self, model: LanguageModel, name: str, *, chat: bool, top: int | None) -> None:
        self.model, self.chat, self.top = model, chat, top
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"
        self._name, self._created = name, int(time.time())

    def whole(self, texts: Sequence[Sequence[WrittenPiece]], usage: Usage) -> Json:
        """The answer to a request without `stream`."""
        return self._body([self._choice(i, pieces, whole=True) for i, pieces in enumerate(texts)], whole=True) | {
            "usage": usage.body
        }

    def chunk(self, index: int, piece: WrittenPiece, *, first: bool, offset: int = 0) -> Json:
        """One piece of a stream.

        Args:
            first: of its choice.
            offset: characters that were told before it.
        """
        return self._body([self._choice(index, [piece], whole=False, first=first, offset=offset)])

    def last(self, usage: Usage) -> Json:
        """The chunk that says what was used."""
        return self._body([]) | {"usage": usage.body}

    def _body(self, choices: list[Json], *, whole: bool = False) -> Json:
        kind = "text_completion" if not self.chat else "chat.completion" if whole else "chat.completion.chunk"
        made = {"id": self._id, "object": kind, "created": self._created, "model": self._name}
        return {**made, "choices": choices}

    def _choice(
        self, index: int, pieces: Sequence[WrittenPiece], *, whole: bool, first: bool = True, offset: int = 0
    ) -> Json:
        text = "".join(piece.text for piece in pieces)
        about = {"index": index, "logprobs": self._logprobs(pieces, offset), "finish_reason": pieces[-1].finish}
        if not self.chat:
            return {"text": text, **about}
        said = {"role": "assistant", "content": text} if whole or first else {"content": text} if text else {}
        return {"message" if whole else "delta": said, **about}

    def _logprobs(self, pieces: Sequence[WrittenPiece], offset: int) -> Json | None:
        told = [piece for piece in pieces if piece.chances]
        if self.top is None or not told:
            return None
        if self.chat:
            return {"content": [self._chance(p.chances[0]) | {"top_logprobs": self._best(p)} for p in told]}
        offsets, at = [], offset
        for piece in pieces:
            if piece.chances:
                offsets.append(at)
            at += len(piece.text)
        return {
            "tokens": [self._word(p.chances[0]) for p in told],
            "token_logprobs": [p.chances[0].logprob for p in told],
            "top_logprobs": [{self._word(c): c.logprob for c in p.chances[1:]} for p in told],
            "text_offset": offsets,
        }

    def _best(self, piece: WrittenPiece) -> list[Mapping[str, Any]]:
        return [self._chance(chance) for chance in piece.chances[1:]]

    def _chance(self, chance: TokenChance) -> Json:
        word = self._word(chance)
        return {"token": word, "logprob": chance.logprob, "bytes": list(word.encode())}

    def _word(self, chance: TokenChance) -> str:
        return str(self.model.tokenizer.decode([chance.token]))
