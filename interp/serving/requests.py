"""A request as texts to be written: its prompts as token ids, its steering, and how its tokens are chosen."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from interp.errors import UserError, nearest
from interp.models.language_model import LanguageModel
from interp.run.steerable import Steerable
from interp.serving.asked import MOST_TEXTS, Asked, AskedSteering, Chat, Completion
from interp.serving.refusals import RefusedError
from interp.serving.texts import Drawing, RequestText, WrittenPiece
from interp.steering.rolling import RowSteering
from interp.steering.steering import Steering
from interp.texts.prompts import Prompt

COMPLETION, CHAT = 16, 256
"""Tokens that are written where a request does not say, as far as the context goes; the first is OpenAI's."""
KEPT = 64
"""Steerings that are kept ready."""
OWN = "steered"
"""Behind a run's name: its own steering."""


class PlannedRequest(NamedTuple):
    """What a request comes to.

    Attributes:
        ids: of its prompts.
        drawings: of its choices, as many for each prompt.
    """

    ids: list[list[int]]
    steering: RowSteering
    drawings: list[Drawing]

    @property
    def prompt_tokens(self) -> int:
        """Every prompt once, however many texts follow it."""
        return sum(map(len, self.ids))

    def texts(
        self, model: LanguageModel, tell: Callable[[int], Callable[[WrittenPiece | Exception], None]]
    ) -> list[RequestText]:
        """
        Args:
            tell: by choice, what is given its pieces.
        """
        each = len(self.drawings) // len(self.ids)
        return [
            RequestText(model, self.ids[i // each], self.steering, drawing, tell(i))
            for i, drawing in enumerate(self.drawings)
        ]


class Planner:
    """Checks requests against a run before anything passes.

    Attributes:
        models: by name under which it may be asked for, the steering it stands for (None: none).
    """

    def __init__(self, steerable: Steerable, name: str) -> None:
        self.steerable, self.name = steerable, name
        self.models: Mapping[str, AskedSteering | None] = {
            name: None,
            **({f"{name}:{OWN}": AskedSteering()} if steerable.own is not None else {}),
            **{f"{name}:{emotion}": AskedSteering(emotion=emotion) for emotion in steerable.emotions},
        }
        self._ready: OrderedDict[str, RowSteering] = OrderedDict()
        self._one_at_a_time = threading.Lock()

    def plan(self, asked: Asked) -> PlannedRequest:
        """
        Raises:
            RefusedError: a model, an emotion or a field that is not known, or a prompt that does not fit.
        """
        asked.check()
        with self._one_at_a_time:  # a tokenizer is not made for several threads
            return self._plan(asked)

    def _plan(self, asked: Asked) -> PlannedRequest:
        steering = self._steering(asked)
        if isinstance(asked, Completion):
            ids, most, field = self._prompts(asked), asked.max_tokens, "prompt"
        else:
            assert isinstance(asked, Chat)
            ids, field = [self._messages(asked)], "messages"
            most = asked.max_completion_tokens if asked.max_completion_tokens is not None else asked.max_tokens
        if len(ids) * (asked.n or 1) > MOST_TEXTS:
            raise RefusedError(f"A request may ask for {MOST_TEXTS} texts; this one asks for more.", param="n")
        drawings = [
            Drawing(
                tokens=self._room(len(own), most, COMPLETION if field == "prompt" else CHAT, field),
                temperature=1.0 if asked.temperature is None else asked.temperature,
                top_p=1.0 if asked.top_p is None else asked.top_p,
                seed=(asked.seed + i) % 2**63 if asked.seed is not None else secrets.randbelow(2**63),
                stops=asked.stops,
                top=asked.top,
            )
            for own in ids
            for i in range(asked.n or 1)
        ]
        return PlannedRequest(ids, steering, drawings)

    def _steering(self, asked: Asked) -> RowSteering:
        if asked.model not in self.models:
            raise RefusedError(
                f"There is no model {asked.model[:60]!r} here{nearest(asked.model, self.models)}",
                status=404,
                param="model",
                code="model_not_found",
            )
        wanted = asked.steering or self.models[asked.model]
        if wanted is None:
            return self._kept("none", lambda: Steering("none"))
        if wanted.emotion is not None and wanted.emotion not in self.steerable.emotions:
            known = nearest(wanted.emotion, self.steerable.emotions) if self.steerable.emotions else "; it has none."
            raise RefusedError(
                f"This run has no emotion {wanted.emotion[:60]!r} to push towards{known}",
                param="steering.emotion",
                code="unknown_emotion",
            )
        positions = wanted.positions or ("generated" if wanted.emotion is None else None)

        def made() -> Steering:
            return self.steerable.steering(wanted.emotion, wanted.strength, positions)

        try:
            return self._kept(wanted.model_dump_json(), made)
        except UserError as error:
            raise RefusedError(str(error), param="steering", code="no_steering") from None

    def _kept(self, key: str, make: Callable[[], Steering]) -> RowSteering:
        """Rows of the same steering share one, which is made once."""
        if key not in self._ready:
            self._ready[key] = RowSteering.of(make(), self.steerable.model, self.steerable.saes)
            if len(self._ready) > KEPT:
                self._ready.popitem(last=False)
        self._ready.move_to_end(key)
        return self._ready[key]

    def _prompts(self, asked: Completion) -> list[list[int]]:
        model = self.steerable.model
        ids = [list(p) if not isinstance(p, str) else model.ids(p, chat=False, as_is=True) for p in asked.prompts]
        if any(not 0 <= token < len(model.head_weight) for own in ids for token in own):
            raise RefusedError(f"Token ids go from 0 to {len(model.head_weight) - 1}.", param="prompt")
        if not all(ids):
            raise RefusedError("A prompt is empty.", param="prompt")
        return ids

    def _messages(self, asked: Chat) -> list[int]:
        """The library's own way from a user's words to token ids; what comes before them goes through the template."""
        model = self.steerable.model
        if not getattr(model.tokenizer, "chat_template", None):
            raise RefusedError(
                f"{model.name} has no chat template, so it takes no messages; use /v1/completions.",
                param="messages",
                code="no_chat_template",
            )
        *earlier, last = [message.turn for message in asked.messages]
        if last.role != "user":
            raise RefusedError("The last message must be the user's.", param="messages")
        if not last.content.strip():
            raise RefusedError("The last message is empty.", param="messages")
        try:
            return model.ids(Prompt("", last.content, "", tuple(earlier)), chat=True)
        except UserError as error:
            raise RefusedError(str(error), param="messages", code="chat_template") from None

    def _room(self, prompt: int, most: int | None, usual: int, field: str) -> int:
        """Tokens to write at most."""
        context = self.steerable.model.context
        tokens = most if most is not None else min(usual, context - prompt)
        if prompt + max(tokens, 1) > context:
            raise RefusedError(
                f"The prompt takes {prompt} tokens; with {max(tokens, 1)} more that is over the context of"
                f" {self.steerable.model.name} ({context}). Shorten it, or ask for fewer tokens.",
                param=field,
                code="context_length_exceeded",
            )
        return tokens
