"""The same segments asked of the unsteered and of a steered model, and compared."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from interp.errors import UserError
from interp.models.language_model import LanguageModel
from interp.models.loading import Chat, load_model
from interp.steering.positions import WHERE
from interp.steering.steering import Steering
from interp.surveys.express.comparing import compare, load_entries
from interp.surveys.express.lexicon import load_lexicon
from interp.surveys.express.page import write_comparison
from interp.surveys.express.running import Done, Options, run_express


def run_steered(
    options: Options,
    folder: Path,
    *,
    model: LanguageModel | None = None,
    say: Callable[[str], None] = lambda line: None,
    show_progress: bool = False,
) -> tuple[Done, Done, Path]:
    """(unsteered, steered, the page that compares them, paired by segment).

    The steering acts at its own positions: at the prompt's last token (`answer`), there and on all that is written
    (`generated`), or everywhere (`all`).

    Raises:
        UserError: no steering in `folder`, one that leaves the model alone, or one of another model.
    """
    steering = Steering.load(folder)
    if not steering.layers:
        raise UserError(f"The steering in {folder} is none: it leaves the model alone. Leave --steering out.")
    chat: Chat = "auto" if options.chat is None else options.chat
    model = model or load_model(options.model, device=options.device, dtype=options.dtype, chat=chat)
    hooks = steering.hooks(model)
    say(f"steered at {WHERE[steering.positions]}, as the steering says (positions: {steering.positions})")
    plain = run_express(options, model=model, say=say, show_progress=show_progress)
    after = replace(options, out=None if options.out is None else options.out / "steered")
    steered = run_express(
        after,
        model=model,
        around=lambda asked: asked.edited(hooks),
        variant=f"steered-{steering.method}-{steering.positions}",
        say=say,
        show_progress=show_progress,
    )
    lexicon = load_lexicon(options.lexicon)
    resamples, seed = options.resamples, options.seed
    entries = load_entries([plain.folder, steered.folder], lexicon, resamples=resamples, seed=seed)
    compared = compare(entries, lexicon, resamples=resamples, seed=seed)
    page = write_comparison(compared, plain.folder / "steered", resamples=resamples, seed=seed)
    return plain, steered, page
