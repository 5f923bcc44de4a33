"""The `interp` command."""

import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import cyclopts
from cyclopts import Parameter
from cyclopts.exceptions import CycloptsError
from rich.table import Table

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from interp import __version__
from interp.cli.options import Count, Finite, Positive, Seed, folder_path, page_path
from interp.errors import InterpWarning, UserError, nearest, printable, quoted
from interp.reporting import Reporter, bars, reporting, silent, terminal_reporter
from interp.resources import shipped
from interp.run.config import Config, config_of, known_keys, load_config
from interp.terminal import Screen

app = cyclopts.App(
    name="interp",
    version=__version__,
    help="Where a language model recognises emotions, through which sparse features, and how to steer them.",
    suppress_keyboard_interrupt=False,
)
app.command("interp.cli.express:app", name="express", help="Does a model name what people say they feel?")
screen = Screen()
errors = Screen(stderr=True, soft_wrap=True)
MOST_OF_A_MESSAGE = 600
"""Characters of an error message that are shown."""
app.command("interp.cli.reliability:app", name="reliability", help="Does the answer survive the way of asking?")
app.command("interp.cli.saes:app", name="saes", help="Sparse autoencoders: trained and measured.")

app.register_install_completion_command(
    help="Install shell completion (bash, zsh, fish) for this user; with --output FILE, write the script there."
)

Arguments = Annotated[str, Parameter(allow_leading_hyphen=True, show=False)]
Quiet = Annotated[bool, Parameter(negative=(), help="No progress, only the path of the report.")]
Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]


@app.command
def run(*arguments: Arguments, quiet: Quiet = False, json: Json = False) -> None:
    """Run everything: capture, features, phases, causal effects, steering, evaluation, report.

    Usage: interp run [CONFIG.yaml] [--any.field VALUE ...]

    Without a config, the bundled model on the bundled corpus. Finished stages are skipped; a killed run goes on where
    it stopped. Every field of the config is a flag: --seed 1, --model PATH, --corpora.test.0.limit 200, --out DIR.

    For example: `interp run experiments/tiny.yaml --tracing.candidates 32`, or
    `interp run --name isear --corpora.discover.name isear --corpora.discover.path isear.csv`.
    """
    _run("run", arguments, quiet, json)


@app.command
def trace(*arguments: Arguments, quiet: Quiet = False, json: Json = False) -> None:
    """Run up to the causal effects: which features, in which phase, carry which emotion's recognition.

    Usage: interp trace [CONFIG.yaml] [--any.field VALUE ...]

    For example: `interp trace experiments/tiny.yaml --tracing.position all --name everywhere`.
    """
    _run("trace", arguments, quiet, json)


@app.command
def steer(*arguments: Arguments, quiet: Quiet = False, json: Json = False) -> None:
    """Run up to steering and its evaluation.

    Usage: interp steer [CONFIG.yaml] [--any.field VALUE ...]

    For example: `interp steer experiments/tiny.yaml --steering.method targeted --name targeted`.
    """
    _run("steer", arguments, quiet, json)


@app.command
def plot(folder: Path, *, text: bool = True) -> None:
    """Make the report of a run again, from its files alone.

    For example: `interp plot runs/tiny --no-text`, to pass on a report without texts of the corpora.

    Parameters
    ----------
    folder
        A run folder, such as runs/tiny.
    text
        Whether feature cards show the texts on which a feature is most active.
    """
    from interp.report import write_report

    print(write_report(folder, text=text))


@app.command
def inspect(run: Path, *, text: str, out: Path | None = None, json: Json = False) -> None:
    """One text through the model of a run: emotion evidence by layer and token, and the features behind the answer.

    For example: `interp inspect runs/tiny --text "The milk had gone sour and lumps slid into my cup."`

    Parameters
    ----------
    run
        A run folder.
    text
        The text, as it would stand in a corpus.
    out
        Where the page goes; RUN/inspect.html if left out. With --json, no page is written.
    """
    from interp.files.folder import writing
    from interp.report.inspecting import inspection_lines, inspection_page
    from interp.run.inspecting import inspect as run_inspect

    path = page_path(out or run / "inspect.html")
    found = run_inspect(run, text)
    if json:
        print(_as_json(asdict(found) | {"evidence": found.evidence.round(5)}))
        return
    errors.print(inspection_lines(found))
    with writing(path) as part:
        part.write_text(inspection_page(found, run.resolve().name), encoding="utf-8")
    print(path)


@app.command
def compare(*folders: Path, out: Path = Path("comparison"), json: Json = False) -> None:
    """Put runs side by side: models, corpora, templates, seeds; layers aligned by relative depth.

    For example: `interp compare runs/crowd runs/isear --out runs/both`.

    Parameters
    ----------
    folders
        Run folders that have been traced.
    out
        Where compare.html and compare.parquet go.
    """
    from interp.report.comparing import compare as run_compare

    tidy, page = run_compare(folders, folder_path(out))
    if json:
        print(_as_json({"page": page, "measures": tidy}))
        return
    wide = tidy[tidy["measure"] == "effective_number"].pivot(index="emotion", columns="run", values="value")
    table = Table(title="effective number of causal features")
    for column in ("emotion", *wide.columns):
        table.add_column(str(column))
    for emotion, row in wide.iterrows():
        table.add_row(str(emotion), *("-" if v != v else f"{v:.1f}" for v in row))
    errors.print(table)
    print(page)


@app.command
def findings(*folders: Path, out: Path = Path("findings.md"), figures: Path | None = None, json: Json = False) -> None:
    """A paper's claims beside what runs found, with intervals, and whether they agree; from the runs' files alone.

    For example: `interp findings runs/crowd runs/isear --out findings.md --figures figures`.

    Parameters
    ----------
    folders
        Run folders; what a run has not measured is said to be so.
    out
        The Markdown page to write.
    figures
        Folder for a page per run with its layer-phase plot, linked from the Markdown page.
    """
    from interp.findings.figures import write_figures
    from interp.findings.measuring import measure
    from interp.findings.page import as_json, verdict_lines, write_findings

    if out.is_dir():
        raise UserError(f"{out} is a folder; give --out a file such as {out / 'findings.md'}.")
    found = measure(folders)
    write_findings(found, out, write_figures(found, figures) if figures is not None else None)
    if json:
        print(_as_json({"page": out, **as_json(found)}))
        return
    table = Table(title="does the claim hold?")
    for column in ("claim", *(one.title for one in found)):
        table.add_column(column)
    for claim, verdicts in verdict_lines(found):
        table.add_row(claim.short, *verdicts)
    errors.print(table)
    print(out)


@app.command
def models(*, all: bool = False, releases: bool = False, json: Json = False) -> None:
    """List models: those of the package index, then those with public residual-stream SAEs, and what is cached.

    For example: `interp models --releases`, or `interp models --json | jq '.[].release'`.

    Parameters
    ----------
    all
        Also releases for models whose architecture is not supported.
    releases
        The SAE releases of each model, as saes.name takes them, with layers, widths and sizes.
    """
    from interp.cli.listing import models_table, packaged_table, releases_table
    from interp.saes.catalogue import catalogue

    entries = catalogue(everything=all)
    if json:
        print(_as_json([asdict(e) for e in entries]))
        return
    for table in [releases_table(entries)] if releases else [packaged_table(entries), models_table(entries)]:
        screen.print(table)
        screen.print()


@app.command
def corpora(*, json: Json = False) -> None:
    """List the corpora that are known by name: labels, splits, licence, and what each is read from.

    Every table of your own is read as well: `--corpora.discover.name local --corpora.discover.path FILE`.
    """
    from interp.texts.corpora import known_corpora

    listed = known_corpora()
    if json:
        print(_as_json([asdict(one) for one in listed]))
        return
    for one in listed:
        print(f"{one.name}: {one.description}")
        print(f"    {one.source}; licence: {one.licence}" + (f"; rows: {one.rows}" if one.rows else ""))
        print(f"    labels: {', '.join(one.labels)}; splits: {', '.join(one.splits)}")


@app.command
def check(*arguments: Arguments, json: Json = False) -> None:
    """Check a configuration before a long run: downloads, model, SAEs, corpora, memory and time. Changes nothing.

    Usage: interp check CONFIG.yaml [--any.field VALUE ...]

    For example: `interp check experiments/models/gemma-2-2b.yaml --saes.width 65k`.
    """
    config = load_config(*_parse(arguments))
    from tempfile import TemporaryDirectory

    from interp.files.folder import RunFolder
    from interp.memory import gigabytes
    from interp.run.checking import check as run_check
    from interp.run.fetch import needs, with_size

    wanted = [with_size(need, config) for need in needs(config)]
    absent = [need for need in wanted if need.where in ("hub", "index", "gguf")]
    if json and any(need.kind != "corpus" for need in absent):
        print(_as_json({"downloads": [asdict(need) for need in absent]}))
        return
    for need in () if json else absent:
        size = f" ({gigabytes(need.size)})" if need.size else ""
        print(f"would {'convert' if need.where == 'gguf' else 'download'} {need.kind} {need.name}{size}")
    if any(need.kind != "corpus" for need in absent):
        print("The rest can be checked once the model and the SAEs are here: interp fetch CONFIG.")
        return
    with TemporaryDirectory() as folder:
        found = run_check(config, RunFolder(Path(folder)), lambda line: errors.print(line, style="bold"))
    if json:
        peak = {"peak_bytes": found.peak_bytes}
        print(_as_json({"downloads": [asdict(need) for need in absent], **asdict(found), **peak}))
        return
    table = Table(title=f"{config.name}: ready to run", show_header=False)
    for name, fact in found.facts.items():
        table.add_row(name, fact)
    parts = ((found.model_bytes, "model"), (found.sae_bytes, "SAEs"), (found.batch_bytes, "a batch"))
    memory = " + ".join(f"{gigabytes(size)} {what}" for size, what in parts)
    table.add_row("peak memory", f"{gigabytes(found.peak_bytes)} ({memory}); now free: {gigabytes(found.free_bytes)}")
    for stage in found.stages:
        table.add_row(f"time, {stage.stage}", _duration(stage.seconds))
    table.add_row(
        "time, in all", f"{_duration(sum(s.seconds for s in found.stages))} (rough; probes and report besides)"
    )
    screen.print(table)


@app.command
def fetch(*arguments: Arguments, accept_terms: str | None = None) -> None:
    """Download a model by name, or all that a configuration needs, so that a node without network can run it.

    Usage: interp fetch NAME [--accept-terms TERMS], or interp fetch CONFIG.yaml [--any.field VALUE ...]

    What is already there is not downloaded again; an interrupted download goes on where it stopped. For a gated
    model of the hub, accept its licence on its page and log in first (hf auth login).

    For example: `interp fetch smollm2-135m-instruct`, or `interp fetch experiments/models/gpt2-small.yaml`.

    Parameters
    ----------
    accept_terms
        Terms of use that you have read and accept, where a model has some: gemma. Remembered in the cache.
    """
    from interp.models.sources import known_terms
    from interp.models.store import accept_terms as accept
    from interp.run.fetch import fetch as run_fetch
    from interp.run.fetch import fetch_model

    if accept_terms is not None:
        if accept_terms not in known_terms():
            raise UserError(f"No terms {accept_terms!r}{nearest(accept_terms, known_terms())}")
        accept(accept_terms)
    if arguments and not arguments[0].startswith("--") and Path(arguments[0]).suffix not in (".yaml", ".yml"):
        if len(arguments) > 1:
            raise UserError(
                f"Unexpected {arguments[1]!r}; interp fetch takes one model, or a .yaml file and its fields."
            )
        fetch_model(arguments[0], print)
        print(f"It is here: give it as --model {arguments[0]}.")
        return
    run_fetch(load_config(*_parse(arguments)), print)
    print("All is here; with HF_HUB_OFFLINE=1 the run needs no network.")


@app.command
def generate(
    run: Path,
    *,
    prompt: str,
    emotion: str | None = None,
    strength: Finite | None = None,
    tokens: Count = 60,
    temperature: Positive = 0.0,
    seed: Seed = 0,
    chat: bool | None = None,
) -> None:
    """Plain and steered text side by side.

    For example: `interp generate runs/tiny --prompt "When I opened the door" --emotion disgust`.

    Parameters
    ----------
    run
        A run folder.
    prompt
        Text to go on from; for a model that chats, what a user says.
    emotion
        Push towards this emotion: its causal features' directions, added at every position. Without it, the run's own
        steering, at the prompt's last token and at all that is generated.
    strength
        With an emotion, 1 adds as much as its own texts have, which often ends in one word over and over; default:
        0.4. Of the run's own steering, 1 is as it was fitted, and the default. 0: nothing; negative: away.
    tokens
        How many to write at most.
    temperature
        0: always the likeliest token.
    seed
        Of the draws, where temperature is above 0.
    chat
        Put the prompt into the model's chat template; default: as the run did.
    """
    from rich.live import Live

    from interp.steering.generating import repeats, stream
    from interp.steering.steering import Steering

    model, saes, steering = _steering_of(run, emotion, strength, chat=chat)
    if emotion is None:
        steering = replace(steering, positions="generated")
    strength = _strength(emotion, strength)
    frame = "in the model's chat template" if model.chat else "as it is, in no chat template"
    errors.print(f"The prompt stands {frame}.")
    options: dict[str, Any] = {"tokens": tokens, "temperature": temperature, "seed": seed}
    steered = f"{emotion or steering.method}, strength {strength:g}"
    streams = {
        "plain": stream(model, prompt, Steering("none"), **options),
        steered: stream(model, prompt, steering, saes, **options),
    }
    written = dict.fromkeys(streams, "")
    screen = Screen()
    with Live(console=screen, transient=screen.is_terminal, auto_refresh=False) as live:
        while streams:
            for name in list(streams):
                text = next(streams[name], None)
                if text is None:
                    del streams[name]
                else:
                    written[name] = text
            if screen.is_terminal:
                live.update(_side_by_side(prompt, written), refresh=True)
    screen.print(_side_by_side(prompt, written))
    stuck = repeats(written[steered])
    if stuck is not None and repeats(written["plain"]) is None and strength:
        text = f"The steered text repeats {stuck!r}: strength {strength:g} is more than the model's language bears."
        other = "" if temperature else " or --temperature 0.8"
        warnings.warn(f"{text} Try --strength {strength / 2:g}{other}.", InterpWarning, stacklevel=1)


@app.command
def export(
    run: Path, *, to: str, out: Path | None = None, emotion: str | None = None, strength: Finite | None = None
) -> None:
    """Take a steering to another tool: hf, transformer_lens, lm-eval or gguf (llama.cpp).

    For example: `interp export runs/tiny --to lm-eval --emotion joy`.

    Parameters
    ----------
    run
        A run folder.
    to
        hf or transformer_lens: a folder with tensors and a short loader that needs torch and safetensors alone.
        lm-eval: the .pt file of lm-evaluation-harness' `--model steered`. gguf: a control vector of llama.cpp. The last
        two hold constant vectors only: give `--emotion`.
    out
        Folder to write; RUN/export/TO if left out.
    emotion
        A constant push towards this emotion instead of the run's own steering.
    strength
        See `interp generate`.
    """
    from interp.steering.export import export as run_export

    folder_path(out or run / "export" / to)
    model, saes, steering = _steering_of(run, emotion, strength)
    print(run_export(steering, model, saes, to, out or run / "export" / to))


def _strength(emotion: str | None, strength: float | None) -> float:
    """The strength asked for, or one that leaves language whole."""
    from interp.run.additive import GENTLE

    return strength if strength is not None else 1.0 if emotion is None else GENTLE


def _steering_of(
    run: Path, emotion: str | None, strength: float | None, chat: bool | None = None
) -> tuple[Any, Any, Any]:
    """Model, SAEs and steering of a run folder; chats as the run did, unless `chat` says otherwise."""
    from interp.files.stored import as_recorded, read_record
    from interp.models.loading import load_model
    from interp.run.additive import towards
    from interp.saes.loading import load_saes
    from interp.steering.steering import FACTS, TENSORS, Steering

    config = config_of(run)
    record = read_record(run)
    if emotion is None:
        as_recorded(run, (FACTS, TENSORS), record)
    strength = _strength(emotion, strength)
    own = None if emotion else Steering.load(run).scaled(strength)
    if chat is None:
        chat = record.get("model", {}).get("chat")
    model = load_model(
        config.model,
        device=config.device,
        dtype=config.dtype,
        device_map=config.device_map,
        quantization=config.quantization,
        chat=config.prompt.chat if chat is None else chat,
    )
    saes = load_saes(model=model, **asdict(config.saes))
    if own is None:
        own = towards(run, saes, str(emotion), strength)
    if not own.layers:
        raise UserError(f"The steering of {run} is none: nothing was found to help. Name an --emotion to push towards.")
    return model, saes, own


def _side_by_side(prompt: str, written: dict[str, str]) -> Table:
    table = Table(title=prompt, show_lines=False, expand=True)
    for name in written:
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(*written.values())
    return table


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _as_json(value: Any) -> str:
    from json import dumps

    from interp.files.jsonable import jsonable

    return dumps(jsonable(value), indent=1, ensure_ascii=False)


def _run(command: str, arguments: Sequence[str], quiet: bool, json: bool) -> None:
    config = load_config(*_parse(arguments))
    from interp.run import pipeline

    quiet = quiet or json
    say = (lambda line: None) if quiet else (lambda line: errors.print(line, style="bold"))
    with reporting(Reporter()) if quiet else nullcontext():
        outcome = pipeline.run(config, command=command, progress=silent if quiet else bars, say=say)
    if not quiet:
        if outcome.skipped:
            errors.print(f"already done: {', '.join(outcome.skipped)}")
        if outcome.stale:
            errors.print(f"done again, because something they depend on changed: {', '.join(outcome.stale)}")
        if outcome.mended:
            errors.print(f"done again, because files of theirs were missing or damaged: {', '.join(outcome.mended)}")
        _summary(config, outcome.folder)
        _said(outcome.folder)
        errors.print(f"{outcome.seconds:.0f} s")
    if json:
        import pandas as pd

        scores = outcome.folder / "evaluation.parquet"
        table = pd.read_parquet(scores) if scores.exists() else []
        print(_as_json({"report": outcome.report, "ran": outcome.ran, "evaluation": table}))
        return
    print(outcome.report)


def _parse(arguments: Sequence[str]) -> tuple[Path | None, dict[str, str]]:
    """The config file, if any, and `--key value` / `--key=value` pairs."""
    path: Path | None = None
    if not arguments or arguments[0].startswith("--"):
        path = shipped("experiments/tiny.yaml")
        rest = list(arguments)
    else:
        path, rest = Path(arguments[0]), list(arguments[1:])
    overrides = {}
    while rest:
        flag = rest.pop(0)
        if not flag.startswith("--"):
            raise UserError(f"Unexpected {quoted(flag)}; after the config come pairs such as --seed 1.")
        key, given, value = flag[2:].partition("=")
        head = key.split(".")[0]
        if head not in known_keys():
            raise UserError(f"Unknown option --{quoted(key)[1:-1]}{nearest(key, known_keys())}")
        if not given:
            if not rest:
                raise UserError(f"--{quoted(key)[1:-1]} needs a value.")
            value = rest.pop(0)
        overrides[key] = value
    return path, overrides


def _summary(config: Config, folder: Path) -> None:
    """One table: recognition before and after, per test corpus."""
    import pandas as pd

    if not (folder / "evaluation.parquet").exists():
        return
    scores = pd.read_parquet(folder / "evaluation.parquet").set_index(["corpus", "method", "metric"])
    table = Table(title=f"{config.name}: {config.model}", caption="95 % intervals in brackets")
    for column in ("corpus", "n", "accuracy", "steered", "macro-F1", "steered", "change"):
        table.add_column(column)
    for corpus in dict.fromkeys(k[0] for k in scores.index if k[1] == "unsteered"):

        def cell(method: str, metric: str, corpus: str = corpus, sign: str = "") -> str:
            r = scores.loc[(corpus, method, metric)]
            return f"{r['value']:{sign}.3f} [{r['ci_low']:{sign}.3f}, {r['ci_high']:{sign}.3f}]"

        table.add_row(
            corpus,
            str(scores.loc[(corpus, "unsteered", "accuracy"), "n"]),
            cell("unsteered", "accuracy"),
            cell("steered", "accuracy"),
            cell("unsteered", "macro_f1"),
            cell("steered", "macro_f1"),
            cell("steered", "macro_f1_gain", sign="+"),
        )
    errors.print(table)


def _said(folder: Path) -> None:
    """What was found, as the report begins, and what to type next."""
    from interp.report.sentences import answer
    from interp.run.reading import RunFiles

    for sentence in answer(RunFiles(folder)):
        errors.print(str(sentence))
    errors.print(f'Next: open the report; interp inspect {folder} --text "..."; interp findings {folder}', style="bold")


def main() -> None:
    """Entry point: 0 when done, 2 for the user's mistakes and interruption, 1 for ours."""
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", category=InterpWarning)
    warnings.showwarning = _show_warning
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    news = terminal_reporter(lambda line: errors.print(line, style="bold"))
    try:
        for word in sys.argv[1:]:
            if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
                raise UserError(f"The argument {quoted(word)} is not UTF-8 text.")
        with reporting(news):
            app(exit_on_error=False, print_error=False)
    except UserError as error:
        _fail(str(error), 2)
    except CycloptsError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("Interrupted. What is finished is kept; the same command goes on from there.", 2)
    except BrokenPipeError:  # `interp models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        _fail(*_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """What went wrong, and the exit code: memory, disk and files are the user's to mend."""
    from interp.files.folder import out_of_space

    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return "Out of memory. Use a smaller --batch_size or --corpora.*.limit; what is finished is kept.", 2
    if out_of_space(error):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"No space left on device{where}. What is finished is kept; make room and give the same command.", 2
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {quoted(error.filename or 'file system')}. What is finished is kept.", 2
    said = f"Internal error, our fault ({type(error).__name__}: {error})"
    log = _log()
    return f"{said}; the traceback is in {log}." if log else f"{said}; no log of it could be written.", 1


def _log() -> Path | None:
    """The traceback in a file: in the working folder, else in the one for temporary files, else nowhere."""
    from tempfile import gettempdir

    from interp.files.folder import writing

    for folder in (Path(), Path(gettempdir())):
        log = folder / "interp-error.log"
        try:
            with writing(log) as part:
                part.write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
        except OSError:
            continue
        return log
    return None


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    errors.print(f"note: {message}", style="yellow")


def _fail(message: str, code: int) -> None:
    line = printable(" ".join(message.split()))
    line = line if len(line) <= MOST_OF_A_MESSAGE else line[:MOST_OF_A_MESSAGE] + " ..."
    errors.print(f"interp: {line}", style="red")
    sys.exit(code)
