"""Quality cards from names: of a training's own SAEs at its end, and of anybody's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from interp.errors import UserError
from interp.files.folder import read_json
from interp.models.language_model import LanguageModel
from interp.models.loading import load_model
from interp.reporting import Progress, silent
from interp.resources import data_file
from interp.run.config import CorpusConfig
from interp.saes.loading import load_saes
from interp.saes.stack import SaeStack
from interp.texts.emotions import EKMAN
from interp.texts.examples import Example
from interp.training.card import Card, quality_card
from interp.training.card_files import write_card
from interp.training.config import HeldOutConfig, PlainConfig, TextConfig, TrainingConfig, explained
from interp.training.texts import Piece, held_out_examples, held_out_pieces


@dataclass(frozen=True)
class Measured:
    """A card, and what it was made on."""

    card: Card
    data: dict[str, Any]


def check_saes_quality(
    saes: str,
    model: LanguageModel,
    *,
    plain: Sequence[str] = (),
    prompts: Sequence[CorpusConfig] | None = None,
    tokens: int = 8192,
    layers: Sequence[int] | None = None,
    width: str | int | None = None,
    l0: float | str | None = None,
    labels: Sequence[str] = EKMAN,
    template: str = "default",
    seed: int = 0,
    progress: Progress = silent,
) -> Measured:
    """The quality card of any SAEs: a folder, a bundled name or a release of SAELens' registry.

    Args:
        plain: plain-text files; none: the bundled plain text.
        prompts: labelled corpora; None: the test split of the bundled vignettes.

    Raises:
        UserError: SAEs that cannot be put on the model, or text that is not there.
    """
    config = _reading(plain, prompts, tokens, labels, seed)
    # the card says how bad they are
    stack = load_saes(saes, model, layers=layers, width=width, l0=l0, force=True)
    return measure(config, model, stack, template=template, progress=progress)


def measure(
    config: TrainingConfig,
    model: LanguageModel,
    stack: SaeStack,
    *,
    template: str | None = None,
    progress: Progress = silent,
) -> Measured:
    """The card of a training's SAEs on what it held out."""
    pieces, examples = held_out_pieces(config, model), held_out_examples(config)
    card = quality_card(
        model,
        stack,
        plain=pieces,
        examples=examples,
        labels=config.labels,
        template=template or config.prompt.template,
        progress=progress,
    )
    return Measured(card, _data(config, pieces, examples))


def _reading(
    plain: Sequence[str], prompts: Sequence[CorpusConfig] | None, tokens: int, labels: Sequence[str], seed: int
) -> TrainingConfig:
    """What is measured on, in the same fields as a training's.

    Raises:
        UserError: a number that makes no sense.
    """
    bundled = str(data_file("plain_text.txt"))
    parts = [PlainConfig(path) for path in plain or [bundled]]
    corpora = [CorpusConfig("vignettes", "test")] if prompts is None else list(prompts)
    try:
        return TrainingConfig(
            text=TextConfig(plain=parts),
            held_out=HeldOutConfig(plain=parts, tokens=tokens, prompts=corpora),
            labels=list(labels),
            seed=seed,
        )
    except ValidationError as error:
        raise UserError(explained(error, "the text to measure on")) from None


def _data(config: TrainingConfig, pieces: Sequence[Piece], examples: Sequence[Example]) -> dict[str, Any]:
    """What a card was made on, without folders."""
    own = config.held_out.plain
    names = [Path(p.path).name for p in own or config.text.plain] + [
        s.name for s in ([] if own else config.text.streams)
    ]
    whole = "" if own else f", the {config.held_out.share:.0%} of their sections that were held out"
    corpora = ", ".join(f"{c.name}/{c.split}" for c in config.held_out.prompts)
    return {
        "plain text": f"{sum(len(p.ids) for p in pieces):,} tokens of {', '.join(names)}{whole}",
        "prompts": f"{len(examples)} of {corpora}",
    }


def write_training_card(
    config: TrainingConfig,
    out: Path,
    *,
    model: LanguageModel | None = None,
    progress: Progress = silent,
) -> Measured:
    """`card.json` and `card.md` of a finished training, by the SAEs as they were saved.

    Args:
        model: None loads it, on a CPU in float32.
    """
    own = model or load_model(config.model, device=config.device, chat=config.prompt.chat)
    stack = load_saes(str(out), own, layers=read_json(out / "training.json")["layers"], force=True)
    stack.name = out.resolve().name  # where it lies is of no interest
    found = measure(config, own, stack, progress=progress)
    write_card(found.card, out, found.data)
    return found
