"""`interp reliability`: score logged probabilities, run a model, compare runs."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import cyclopts
from cyclopts import Parameter

from interp.cli.options import Count, Drawn, Limit, Seed, folder_path, page_path
from interp.errors import UserError, quoted

T = TypeVar("T")

app = cyclopts.App(
    name="reliability", help="Does the answer survive the way of asking: order, wording, negation, format?"
)


def _given(type_: object, value: list[str] | None) -> None:
    if value is not None and not value:
        raise ValueError("Give at least one.")


Words = Annotated[list[str] | None, Parameter(consume_multiple=True, negative=(), validator=_given)]
Json = Annotated[bool, Parameter(negative=(), help="Print JSON instead of a table.")]


@app.command
def score(
    probabilities: Path,
    /,
    *,
    prompts: Path,
    json_: Annotated[Json, Parameter(name="--json")] = False,
    resamples: Drawn = 1000,
    seed: Seed = 0,
) -> None:
    """Measure the reliability of answers whose probabilities somebody logged.

    Parameters
    ----------
    probabilities
        CSV with a column `prompt` and one column `p(spelling)` per option and spelling.
    prompts
        JSON of prompts as Model-Personas released them: text, prompt_id, options, reversed, neg.
    resamples
        Bootstrap resamples of questions behind every interval.
    """
    from interp.surveys.reliability import problems
    from interp.surveys.reliability.logged import read_logged
    from interp.surveys.reliability.scoring import score as measure
    from interp.surveys.reliability.tables import print_reliability

    logged = read_logged(probabilities, prompts)
    problems.warn(logged.problems)
    found = measure(logged.table, problems=logged.problems, resamples=resamples, seed=seed)
    if json_:
        print(json.dumps(found.as_dict(), indent=1))
    else:
        print_reliability(found, title=f"{probabilities.name}: {logged.table['question'].nunique()} questions")


@app.command
def run(
    *,
    model: str = "tiny",
    questionnaire: str | None = None,
    emotions: str | None = None,
    emotions_path: Path | None = None,
    split: str = "test",
    labels: Words = None,
    persona: Words = None,
    variations: Words = None,
    limit: Limit = None,
    out: Path | None = None,
    steering: Path | None = None,
    generate: Annotated[bool, Parameter(negative=())] = False,
    chat: Literal["auto", "true", "false"] = "auto",
    json_: Annotated[Json, Parameter(name="--json")] = False,
    resamples: Drawn = 1000,
    seed: Seed = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> None:
    """Ask a model the same things in many ways. Without options, the bundled model and the bundled questionnaire.

    A killed run goes on where it stopped: rows that are in the folder are not asked again.

    Parameters
    ----------
    model
        Bundled name, folder in Hugging Face format, or hub id.
    questionnaire
        CSV, TSV, JSONL or Parquet with statements and their negations (Model-Personas' original_prompts.csv is one),
        a JSON of ready prompts, or `daily`, the bundled one.
    emotions
        A corpus whose texts are asked for their emotion under different label orders, names, templates and spellings.
    emotions_path
        The corpus' released file or folder.
    split
        Which split of the corpus.
    labels
        The emotions to choose from; the default is Ekman's six.
    persona
        Who the model is to be: nurse, engineer, student, shopkeeper, all, or a sentence of your own.
    variations
        Any of order, wording, negation_direct, negation_paraphrastic, format, persona; the default is all.
    limit
        At most this many questions, and texts.
    out
        Folder of the run; the default is runs/reliability-MODEL.
    steering
        A run folder, or any folder that holds a steering: the same is asked of the steered model as well, and the
        measures are compared, paired by question. The steering acts at its own positions.
    generate
        Read answers from generated text, for models that only chat.
    chat
        Whether every prompt is put into the tokenizer's chat template; auto: for instruction-tuned models.
    resamples
        Bootstrap resamples behind every interval.
    """
    from interp.models.loading import load_model
    from interp.surveys.reliability import problems, running, steered, tables
    from interp.surveys.reliability.questionnaires import BUNDLED
    from interp.surveys.reliability.variations import FACTORS, resolve_personas
    from interp.texts.emotions import EKMAN
    from interp.texts.examples import load_corpus

    personas = resolve_personas(persona or [])
    asked = emotional = None
    if questionnaire is not None or emotions is None:
        source = None if questionnaire in (None, BUNDLED) else questionnaire
        factors = variations or FACTORS
        asked = running.questions(source, factors=factors, personas=personas, limit=limit, seed=seed)
        problems.warn(asked.problems)
    if emotions is not None:
        names = _different(labels or list(EKMAN))
        texts = load_corpus(emotions, split=split, path=emotions_path, labels=names, limit=limit, seed=seed)
        emotional = running.emotions(emotions, texts, names, seed=seed)
    loaded = load_model(model, device=device, dtype=dtype, chat="auto" if chat == "auto" else chat == "true")
    folder = out or Path("runs") / f"reliability-{Path(model).name}"
    settings = running.Settings(generate=generate, resamples=resamples, seed=seed)
    prepared = None if steering is None else steered.settings_of(steering, loaded, settings)
    options: dict = {"asked": asked, "emotional": emotional, "progress": _bars}
    outcome = running.run(loaded, folder, settings=settings, **options)
    changes = None
    if prepared is not None:
        after = running.run(loaded, folder / "steered", settings=prepared, **options)
        changes = steered.write_changes(outcome, after, settings)
    if json_:
        found = outcome.as_dict() | ({} if changes is None else {"steered": steered.as_dict(changes)})
        print(json.dumps(found, indent=1))
    else:
        tables.print_outcome(outcome, model=model)
        if changes is not None and prepared is not None:
            tables.print_changes(changes, prepared.state)


@app.command
def bias(
    *,
    model: str = "tiny",
    saes: str = "tiny",
    emotions: str = "vignettes",
    emotions_path: Path | None = None,
    split: str = "all",
    labels: Words = None,
    limit: Count = 150,
    out: Path = Path("runs/position-bias"),
    resamples: Drawn = 1000,
    seed: Seed = 0,
    device: str = "auto",
    dtype: str = "auto",
) -> None:
    """Trace the preference for the label listed first to features, and make a steering that removes it.

    Features are found on a third of the texts, their number chosen on another, and the outcome measured on the last.
    `interp reliability run --emotions CORPUS --steering OUT` asks the steered model everything again.

    Parameters
    ----------
    model
        Bundled name, folder in Hugging Face format, or hub id.
    saes
        Bundled name, release of SAELens' registry, or folder.
    emotions
        A corpus; emotions_path its released file or folder.
    limit
        At most this many texts, each asked under every rotation of the labels.
    out
        Folder for features.parquet, bias.json and the steering.
    resamples
        Bootstrap resamples of texts behind every interval.
    """
    from interp.files.folder import claimed
    from interp.models.loading import load_model
    from interp.saes.loading import load_saes
    from interp.surveys.reliability.bias import find_bias, write_bias
    from interp.surveys.reliability.tables import print_bias
    from interp.texts.emotions import EKMAN
    from interp.texts.examples import load_corpus

    folder_path(out)
    names = _different(labels or list(EKMAN))
    texts = load_corpus(emotions, split=split, path=emotions_path, labels=names, limit=limit, seed=seed)
    loaded = load_model(model, device=device, dtype=dtype)
    stack = load_saes(saes, loaded)
    found = find_bias(loaded, stack, texts, names, resamples=resamples, seed=seed, progress=_bars)
    with claimed(out, None):
        write_bias(found, loaded, stack, {"name": saes}, out)
    print_bias(found)
    print(out)


@app.command
def compare(*folders: Path, out: Path = Path("reliability.html")) -> None:
    """One table and one figure over several runs, as a page that opens offline.

    Parameters
    ----------
    folders
        Folders that `interp reliability run` wrote.
    out
        The page.
    """
    from interp.surveys.reliability.comparing import load_runs, write_page
    from interp.surveys.reliability.tables import print_comparison

    page_path(out)
    runs = load_runs(folders)
    print_comparison(runs)
    print(write_page(runs, out))


def _bars(items: Sequence[T], description: str, unit: str) -> Iterable[T]:
    from tqdm import tqdm

    return tqdm(items, desc=f"  {description}", unit=unit, leave=False, delay=1, dynamic_ncols=True)


def _different(labels: list[str]) -> list[str]:
    if len(labels) < 2 or len(set(labels)) < len(labels) or not all(label.strip() for label in labels):
        raise UserError(f"--labels must be at least two different words; got {quoted(labels)}.")
    return labels
