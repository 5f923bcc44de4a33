"""What clients send: bodies of `/v1/completions` and `/v1/chat/completions`, with what steers them.

Fields of OpenAI's API that would change what is written and are not served are refused unless they are at their
default; those that change nothing (`user`, `metadata`) are left alone.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from interp.errors import nearest
from interp.serving.refusals import RefusedError
from interp.steering.positions import Positions
from interp.texts.prompts import Turn

Amount = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1)]

MOST_TEXTS = 128
"""Prompts times `n` of one request."""
NEUTRAL: Mapping[str, Sequence[Any]] = {
    "best_of": (None, 1),
    "echo": (None, False),
    "suffix": (None, ""),
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
    "modalities": (None, ["text"]),
}
"""What of OpenAI's API is taken at these values only."""
IDLE = ("user", "metadata", "store", "service_tier", "parallel_tool_calls", "safety_identifier", "prompt_cache_key")
"""What changes nothing here."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class AskedSteering(_Body):
    """`{"emotion": "joy", "strength": 0.4}`; without an emotion, the run's own steering."""

    model_config = ConfigDict(extra="forbid", strict=True)

    emotion: str | None = None
    strength: Amount | None = None
    positions: Positions | None = None


class StreamOptions(_Body):
    include_usage: bool = False


class Asked(_Body):
    """What both kinds of requests have in common."""

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[Amount, Field(ge=0, le=2)] | None = None
    top_p: Annotated[Amount, Field(gt=0, le=1)] | None = None
    n: Annotated[int, Field(ge=1, le=MOST_TEXTS)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: Text | Annotated[list[Text], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    steering: AskedSteering | None = None

    @property
    def top(self) -> int | None:
        """Likeliest tokens told beside each token; None: no log-probabilities."""
        raise NotImplementedError

    @property
    def stops(self) -> list[str]:
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def with_usage(self) -> bool:
        """Whether a stream ends in what was used."""
        return self.stream_options is not None and self.stream_options.include_usage

    def check(self) -> None:
        """
        Raises:
            RefusedError: a field that is not known, or not served at its value.
        """
        known = [*type(self).model_fields, *NEUTRAL, *IDLE]
        for name, value in (self.model_extra or {}).items():
            if name not in known:
                raise RefusedError(f"Unknown field {name[:60]!r}{nearest(name, known)}", param=name[:60])
            if name in NEUTRAL and value not in NEUTRAL[name]:
                raise RefusedError(f"{name} is not served here; leave it out.", param=name, code="unsupported_value")


class Completion(Asked):
    """The body of `/v1/completions`; prompts go to the model as they are, in no chat template."""

    prompt: Text | list[Text] | list[int] | list[list[int]]
    logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @field_validator("prompt")
    @classmethod
    def _something(cls, value: Any) -> Any:
        if not value or (isinstance(value, list) and any(v == [] for v in value)):
            raise ValueError("a prompt is empty")
        return value

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        """Texts, or token ids."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        ids = [token for token in self.prompt if isinstance(token, int)]
        return [ids] if ids else [prompt for prompt in self.prompt if not isinstance(prompt, int)]

    @property
    def top(self) -> int | None:
        return self.logprobs


class TextPart(_Body):
    type: Literal["text"]
    text: str


class Message(_Body):
    """One turn; several parts of text are one text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def turn(self) -> Turn:
        content = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return Turn("system" if self.role == "developer" else self.role, content)


class Chat(Asked):
    """The body of `/v1/chat/completions`; messages stand in the model's chat template."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def top(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None
