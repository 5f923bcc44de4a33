"""The options of a survey as data: Python arguments, command-line flags, their help and their bounds are one dataclass.

A text below a field is the flag's help. Whatever does not fit is refused in one line that names the flag.
"""

import re
from dataclasses import KW_ONLY
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from pydantic.functional_validators import ModelWrapValidatorHandler

from interp.defaults import RESAMPLES
from interp.errors import UserError, quoted

if TYPE_CHECKING:
    from interp.models.language_model import LanguageModel

LARGEST = 2**31 - 1
Limit = Annotated[int, Field(ge=1, le=LARGEST)] | None
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
Resamples = Annotated[int, Field(ge=0, le=1_000_000)]
Drawn = Annotated[int, Field(ge=1, le=1_000_000)]
"""Resamples where there is no result without them."""
Words = Annotated[list[str], Field(min_length=1)] | None
strict = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=strict)
class SurveyOptions:
    """What every survey of a model can be told."""

    model: str
    """Bundled name (tiny), folder in Hugging Face format, or hub id."""
    _: KW_ONLY
    limit: Limit = None
    """At most this many texts, segments or questions: drawn with the seed; of a stream, the first."""
    out: Path | None = None
    """Where the result goes; without it, where the description of the command says."""
    steering: Path | None = None
    """A run folder, or any folder that holds a steering: the steered model is asked the same as well (the steering acts
    at its own positions), and compared with the unsteered one, pair by pair."""
    resamples: Resamples = RESAMPLES
    """Bootstrap resamples behind every interval; 0: no intervals."""
    seed: Annotated[int, Field(ge=0, le=2**32 - 1)] = 0
    device: str = "auto"
    dtype: str = "auto"

    def load(self, chat: bool | None) -> "LanguageModel":
        """The model, with its chat template (True), without, or with it where the model is an instruction-tuned one.

        Raises:
            UserError: no such model, or one that has no chat template.
        """
        from interp.models.loading import load_model  # torch is not needed to read options

        return load_model(self.model, device=self.device, dtype=self.dtype, chat="auto" if chat is None else chat)

    @model_validator(mode="wrap")
    @classmethod
    def _in_one_line(cls, values: Any, validate: ModelWrapValidatorHandler["SurveyOptions"]) -> "SurveyOptions":
        try:
            return validate(values)
        except ValidationError as error:
            raise UserError(_complaint(error)) from None


def _complaint(error: ValidationError) -> str:
    """The first thing that does not fit, in one line."""
    first = error.errors()[0]
    flag, said = f"--{str(first['loc'][0]).replace('_', '-')}", first["msg"]
    if " should " not in said:  # a field that is missing, or none
        return f"{flag}: {said[0].lower()}{said[1:]}."
    said = re.sub(r"^\w+ should ", "must ", said).replace("greater than or equal to", "at least")
    return f"{flag} {said.replace('less than or equal to', 'at most')}; got {quoted(first['input'])}."
