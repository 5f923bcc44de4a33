"""The options of `interp reliability run`."""

from pathlib import Path
from typing import Literal

from pydantic.dataclasses import dataclass

from interp.defaults import RESAMPLES
from interp.errors import UserError, quoted
from interp.surveys.options import Drawn, SurveyOptions, Words, strict
from interp.texts.emotions import EKMAN


@dataclass(frozen=True, kw_only=True, config=strict)
class ReliabilityOptions(SurveyOptions):
    """What a model is asked in many ways, and how its answers are read."""

    model: str = "tiny"
    """Bundled name (tiny), folder in Hugging Face format, or hub id."""
    resamples: Drawn = RESAMPLES
    """Bootstrap resamples behind every interval."""
    questionnaire: str | None = None
    """CSV, TSV, JSONL or Parquet with statements and their negations (Model-Personas' original_prompts.csv is one), a
    JSON of ready prompts, or `daily`, the bundled one."""
    emotions: str | None = None
    """A corpus whose texts are asked for their emotion under different label orders, names, templates and spellings."""
    emotions_path: Path | None = None
    """The corpus' released file or folder."""
    split: str = "test"
    """Which split of the corpus."""
    labels: Words = None
    """The emotions to choose from; the default is Ekman's six."""
    persona: Words = None
    """Who the model is to be: nurse, engineer, student, shopkeeper, all, or a sentence of your own."""
    variations: Words = None
    """Any of order, wording, negation_direct, negation_paraphrastic, format, persona; the default is all."""
    generate: bool = False
    """Read answers from generated text, for models that only chat."""
    chat: Literal["auto", "true", "false"] = "auto"
    """Whether every prompt is put into the tokenizer's chat template; auto: for instruction-tuned models."""

    def __post_init__(self) -> None:
        label_set(self.labels)


def label_set(labels: list[str] | None) -> list[str]:
    """The emotions to choose from: Ekman's six where none are given.

    Raises:
        UserError: fewer than two, the same twice, or an empty one.
    """
    labels = list(EKMAN) if labels is None else labels
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        raise UserError(f"--labels must be at least two different words; got {quoted(labels)}.")
    return labels
