"""`interp reliability`: score logged probabilities, run a model, compare runs."""

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from interp.cli.console import RUNS, Json, Log, Out, Quiet, hushed, json_text
from interp.cli.options import Drawn, Limit, Seed, folder_path, page_path
from interp.cli.tracking import sender
from interp.defaults import RESAMPLES
from interp.surveys.reliability.options import ReliabilityOptions, label_set

app = cyclopts.App(
    name="reliability", help="Does the answer survive the way of asking: order, wording, negation, format?"
)


def _given(type_: object, value: list[str] | None) -> None:
    if value is not None and not value:
        raise ValueError("Give at least one.")


DEFAULTS = ReliabilityOptions()
Words = Annotated[list[str] | None, Parameter(consume_multiple=True, negative=(), validator=_given)]


@app.command
def score(
    probabilities: Path,
    /,
    *,
    prompts: Path,
    resamples: Drawn = RESAMPLES,
    seed: Seed = 0,
    json: Json = False,
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
    from interp.surveys.reliability.logged import read_logged
    from interp.surveys.reliability.scoring import score as measure
    from interp.surveys.reliability.tables import print_reliability

    logged = read_logged(probabilities, prompts)
    logged.problems.warn()
    found = measure(logged.table, problems=logged.problems, resamples=resamples, seed=seed)
    if json:
        print(json_text(found.as_dict()))
    else:
        print_reliability(found, title=f"{probabilities.name}: {logged.table['question'].nunique()} questions")


@app.command
def run(
    *,
    options: Annotated[ReliabilityOptions, Parameter(name="*", negative_iterable=(), consume_multiple=True)] = DEFAULTS,
    log: Log = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Ask a model the same things in many ways. Without options, the bundled model and the bundled questionnaire.

    Without `--out`, answers and scores go into runs/reliability-MODEL. A killed run goes on where it stopped: rows that
    are in the folder are not asked again.
    """
    send = sender(log, quiet=quiet or json)
    from interp.surveys.reliability.running import run_reliability
    from interp.surveys.reliability.tables import print_run

    with hushed(quiet or json):
        done = run_reliability(options)
    send(done.folder)
    if done.changes is not None:
        send(done.folder / "steered")
    if json:
        print(json_text(done.as_dict()))
        return
    if not quiet:
        print_run(done, model=options.model)
    print(done.folder)


@app.command
def bias(
    *,
    model: str = "tiny",
    saes: str = "tiny",
    emotions: str = "vignettes",
    emotions_path: Path | None = None,
    split: str = "all",
    labels: Words = None,
    limit: Limit = 150,
    out: Out = None,
    resamples: Drawn = RESAMPLES,
    seed: Seed = 0,
    device: str = "auto",
    dtype: str = "auto",
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Trace the preference for the label listed first to features, and make a steering that removes it.

    Features are found on a third of the texts, their number chosen on another, and the outcome measured on the last;
    each is asked under every rotation of the labels. Without `--out`, features.parquet, bias.json and the steering go
    into runs/position-bias. `interp reliability run --emotions CORPUS --steering OUT` asks the steered model everything
    again.

    Parameters
    ----------
    model
        Bundled name, folder in Hugging Face format, or hub id.
    saes
        Bundled name, release of SAELens' registry, or folder.
    emotions
        A corpus; emotions_path its released file or folder.
    resamples
        Bootstrap resamples of texts behind every interval.
    """
    from interp.files.folder import claimed
    from interp.models.loading import load_model
    from interp.saes.loading import load_saes
    from interp.surveys.reliability.bias import find_bias, write_bias
    from interp.surveys.reliability.tables import print_bias
    from interp.texts.examples import load_corpus

    out = folder_path(out or RUNS / "position-bias")
    names = label_set(labels)
    with hushed(quiet or json):
        texts = load_corpus(emotions, split=split, path=emotions_path, labels=names, limit=limit, seed=seed)
        loaded = load_model(model, device=device, dtype=dtype)
        stack = load_saes(saes, loaded)
        found = find_bias(loaded, stack, texts, names, resamples=resamples, seed=seed)
    with claimed(out, None):
        write_bias(found, loaded, stack, {"name": saes}, out)
    if json:
        print(json_text({"folder": out, **found.as_dict()}))
        return
    if not quiet:
        print_bias(found)
    print(out)


@app.command
def compare(*folders: Path, out: Out = None, quiet: Quiet = False, json: Json = False) -> None:
    """One table and one figure over several runs, as a page that opens offline.

    Without `--out`, the page is runs/reliability.html.

    Parameters
    ----------
    folders
        Folders that `interp reliability run` wrote.
    """
    from interp.surveys.reliability.comparing import load_runs, write_page
    from interp.surveys.reliability.tables import print_comparison

    out = page_path(out or RUNS / "reliability.html")
    runs = load_runs(folders)
    page = write_page(runs, out)
    if json:
        print(json_text({"page": page, "runs": [run.as_dict() for run in runs]}))
        return
    if not quiet:
        print_comparison(runs)
    print(page)
