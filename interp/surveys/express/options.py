"""The options of `interp express run`."""

from typing import Literal

from pydantic.dataclasses import dataclass

from interp.surveys.options import SurveyOptions, Whole, strict

Mode = Literal["open", "choose"]


@dataclass(frozen=True, kw_only=True, config=strict)
class ExpressOptions(SurveyOptions):
    """How a model is asked which words stood behind the masks."""

    segments: str | None = None
    """CSV or JSONL in the corpus' format, or `hub` for the whole corpus; default: the small corpus that ships."""
    mode: Mode = "open"
    """open: the model writes words of its own. choose: every word of a list is scored."""
    shots: Whole = 0
    """Solved examples before every question, drawn with the seed; their posts are not asked about."""
    chain_of_thought: bool = False
    """Let the model reason before it answers."""
    chat: bool | None = None
    """Ask through the tokenizer's chat template, solved examples as earlier turns; default: for instruction-tuned
    models."""
    lexicon: str | None = None
    """Decomposition table (word and ten columns), or `plutchik`; default: the one that ships."""
    words: str | None = None
    """Words to choose from: a JSON list, a CSV with a word column, or one word a line; default: the lexicon's."""
