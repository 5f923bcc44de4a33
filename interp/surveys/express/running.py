"""A whole EXPRESS run: segments, questions, answers, scores, in one folder."""

import re
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from interp.errors import UserError
from interp.files.folder import claimed, write_json, writing
from interp.models.language_model import LanguageModel
from interp.steering.positions import WHERE
from interp.surveys.express.answers import RECORD, read_answers
from interp.surveys.express.asking import Around, Question, ask
from interp.surveys.express.comparing import compare, load_entries
from interp.surveys.express.lexicon import Lexicon, load_lexicon
from interp.surveys.express.masking import load_words
from interp.surveys.express.options import ExpressOptions
from interp.surveys.express.page import write_comparison
from interp.surveys.express.prompting import Style
from interp.surveys.express.scoring import Scores, score
from interp.surveys.express.segments import load_segments
from interp.surveys.steered_twin import steered_twin

Options = ExpressOptions
"""Its name in earlier versions."""
MOST_CHOICES = 5000


@dataclass(frozen=True)
class ExpressRun:
    """The folder of a run and its scores.

    Attributes:
        unsteered: of a steered model's run, that of the model alone.
        page: of a steered model's run, the page that compares the two, paired by segment.
    """

    folder: Path
    scores: Scores
    unsteered: "ExpressRun | None" = None
    page: Path | None = None


def run_express(
    options: ExpressOptions,
    *,
    model: LanguageModel | None = None,
    around: Around = lambda model: nullcontext(),
    variant: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> ExpressRun:
    """Asks, writes `answers.csv`, scores, and writes `scores.json`, `scores.csv` and `labels.csv` beside it.

    With `options.steering` the steered model is asked as well, at the steering's own positions: at the prompt's last
    token (`answer`), there and on all that is written (`generated`), or everywhere (`all`).

    Args:
        model: one that is loaded already, instead of `options.model`.
        around: a context in which the model is asked, `around(model)`.
        variant: what `around` is, in a word; part of what the folder's answers belong to.
        say: told what a user should know.

    Raises:
        UserError: anything about options, files or model that the user can mend.
    """
    if options.steering is not None:
        return _run_steered(options, options.steering, model, say)
    lexicon = load_lexicon(options.lexicon)
    segments, problems = load_segments(options.segments)
    for line in problems.lines():
        say(f"skipped: {line}")
    words = _choices(options, lexicon)
    Question(Style(options.mode, options.chain_of_thought), options.shots, options.limit, options.seed, words)
    model = model or options.load(options.chat)
    style = Style(options.mode, options.chain_of_thought, _chat(model, options.chat))
    question = Question(style, options.shots, options.limit, options.seed, words, variant)
    folder = options.out or Path("runs") / "express" / _name(options, variant)
    with claimed(folder, RECORD):
        asked = ask(model, segments, question, folder, around=around)
        if asked.resumed:
            say(f"{asked.resumed} answers were there already")
        if asked.cut:
            say(f"{asked.cut} texts were cut to fit the context of {model.context} tokens")
        scores = score(read_answers(asked.answers), lexicon, resamples=options.resamples, seed=options.seed)
        write_json(folder / "scores.json", scores.as_dict())
        for name, table in (("scores", scores.table), ("labels", scores.labels)):
            with writing(folder / f"{name}.csv") as part:
                table.to_csv(part, index=False)
    return ExpressRun(folder, scores)


def _run_steered(
    options: ExpressOptions, folder: Path, model: LanguageModel | None, say: Callable[[str], None]
) -> ExpressRun:
    """The unsteered and the steered model's run, and the page that compares them."""
    twin = steered_twin(folder, lambda: model or options.load(options.chat))
    steering = twin.steering
    say(f"steered at {WHERE[steering.positions]}, as the steering says (positions: {steering.positions})")
    alone = replace(options, steering=None)
    plain = run_express(alone, model=twin.model, say=say)
    steered = run_express(
        replace(alone, out=options.out and options.out / "steered"),
        model=twin.model,
        around=lambda _: twin.answering(),
        variant=f"steered-{steering.method}-{steering.positions}",
        say=say,
    )
    how: dict[str, Any] = {"resamples": options.resamples, "seed": options.seed}
    lexicon = load_lexicon(options.lexicon)
    compared = compare(load_entries([plain.folder, steered.folder], lexicon, **how), lexicon, **how)
    return replace(steered, unsteered=plain, page=write_comparison(compared, plain.folder / "steered", **how))


def _choices(options: ExpressOptions, lexicon: Lexicon) -> tuple[str, ...]:
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


def _chat(model: LanguageModel, chat: bool | None) -> bool:
    if chat and not getattr(model.tokenizer, "chat_template", None):
        raise UserError(f"{model.name} has no chat template; leave --chat out.")
    return model.chat if chat is None else chat


def _name(options: ExpressOptions, variant: str) -> str:
    parts = [re.sub(r"[^\w.-]+", "-", options.model).strip("-."), options.mode]
    parts += [f"{options.shots}-shot"] if options.shots else []
    parts += ["reasoning"] if options.chain_of_thought else []
    parts += [variant] if variant else []
    return "-".join(parts)
