"""A whole EXPRESS run: segments, questions, answers, scores, in one folder."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interp.defaults import RESAMPLES
from interp.errors import UserError
from interp.files.folder import claimed, write_json, writing
from interp.models.language_model import LanguageModel
from interp.models.loading import Chat, load_model
from interp.surveys.express.answers import read_answers
from interp.surveys.express.asking import Around, Question, ask
from interp.surveys.express.lexicon import Lexicon, load_lexicon
from interp.surveys.express.masking import load_words
from interp.surveys.express.prompting import Mode, Style
from interp.surveys.express.scoring import Scores, score
from interp.surveys.express.segments import load_segments

MOST_CHOICES = 5000


@dataclass(frozen=True)
class Options:
    """The options of `interp express run`."""

    model: str
    segments: str | None = None
    mode: Mode = "open"
    shots: int = 0
    chain_of_thought: bool = False
    chat: bool | None = None
    limit: int | None = None
    lexicon: str | None = None
    words: str | None = None
    out: Path | None = None
    seed: int = 0
    device: str = "auto"
    dtype: str = "auto"
    resamples: int = RESAMPLES


@dataclass(frozen=True)
class Done:
    """The folder of a run and its scores."""

    folder: Path
    scores: Scores


def run_express(
    options: Options,
    *,
    model: LanguageModel | None = None,
    around: Around | None = None,
    variant: str = "",
    say: Callable[[str], None] = lambda line: None,
    show_progress: bool = False,
) -> Done:
    """Asks, writes `answers.csv`, scores, and writes `scores.json`, `scores.csv` and `labels.csv` beside it.

    Args:
        model: one that is loaded already, instead of `options.model`.
        around: a context in which the model is asked, `around(model)`; `lambda m: steering.applied(m)` steers it.
        variant: what `around` is, in a word; part of what the folder's answers belong to.
        say: told what a user should know.

    Raises:
        UserError: anything about options, files or model that the user can mend.
    """
    lexicon = load_lexicon(options.lexicon)
    segments, problems = load_segments(options.segments)
    for line in problems.lines():
        say(f"skipped: {line}")
    words = _choices(options, lexicon)
    Question(Style(options.mode, options.chain_of_thought), options.shots, options.limit, options.seed, words)
    chat: Chat = "auto" if options.chat is None else options.chat
    model = model or load_model(options.model, device=options.device, dtype=options.dtype, chat=chat)
    style = Style(options.mode, options.chain_of_thought, _chat(model, options.chat))
    question = Question(style, options.shots, options.limit, options.seed, words, variant)
    folder = options.out or Path("runs") / "express" / _name(options, variant)
    with claimed(folder, "express.json"):
        asked = ask(model, segments, question, folder, around=around, show_progress=show_progress)
        if asked.resumed:
            say(f"{asked.resumed} answers were there already")
        if asked.cut:
            say(f"{asked.cut} texts were cut to fit the context of {model.context} tokens")
        scores = score(read_answers(asked.answers), lexicon, resamples=options.resamples, seed=options.seed)
        write_json(folder / "scores.json", scores.as_dict())
        for name, table in (("scores", scores.table), ("labels", scores.labels)):
            with writing(folder / f"{name}.csv") as part:
                table.to_csv(part, index=False)
    return Done(folder, scores)


def _choices(options: Options, lexicon: Lexicon) -> tuple[str, ...]:
    """Words to choose from; none for open prediction."""
    if options.mode != "choose":
        if options.words is not None:
            raise UserError("--words is for --mode choose; leave it out or choose.")
        return ()
    words = lexicon.words if options.words is None else tuple(dict.fromkeys(load_words(options.words)))
    if len(words) > MOST_CHOICES:
        raise UserError(
            f"{len(words)} words are too many to choose from (most: {MOST_CHOICES}); give a list of emotion words"
            " with --words."
        )
    return words


def _chat(model: LanguageModel, wanted: bool | None) -> bool:
    if wanted and not getattr(model.tokenizer, "chat_template", None):
        raise UserError(f"{model.name} has no chat template; leave --chat out.")
    return model.chat if wanted is None else wanted


def _name(options: Options, variant: str) -> str:
    parts = [re.sub(r"[^\w.-]+", "-", options.model).strip("-."), options.mode]
    parts += [f"{options.shots}-shot"] if options.shots else []
    parts += ["reasoning"] if options.chain_of_thought else []
    parts += [variant] if variant else []
    return "-".join(parts)
