"""The commands that run an experiment, or prepare one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from interp.cli.console import Arguments, Json, Log, Quiet, errors, hushed, json_text, parsed, screen
from interp.cli.tracking import sender
from interp.errors import UserError, nearest
from interp.reporting import bars, silent
from interp.run.config import Config, load_config
from interp.tracking import TrackerName


def run(*arguments: Arguments, log: Log = None, quiet: Quiet = False, json: Json = False) -> None:
    """Run everything: capture, features, phases, causal effects, steering, evaluation, report.

    Usage: interp run [CONFIG.yaml] [--any.field VALUE ...]

    Without a config, the bundled model on the bundled corpus. Finished stages are skipped; a killed run goes on where
    it stopped. Every field of the config is a flag: --seed 1, --model PATH, --corpora.test.0.limit 200, --out DIR.

    For example: `interp run experiments/tiny.yaml --tracing.candidates 32`, or
    `interp run --name isear --corpora.discover.name isear --corpora.discover.path isear.csv`.
    """
    _run("run", arguments, log, quiet, json)


def trace(*arguments: Arguments, log: Log = None, quiet: Quiet = False, json: Json = False) -> None:
    """Run up to the causal effects: which features, in which phase, carry which emotion's recognition.

    Usage: interp trace [CONFIG.yaml] [--any.field VALUE ...]

    For example: `interp trace experiments/tiny.yaml --tracing.position all --name everywhere`.
    """
    _run("trace", arguments, log, quiet, json)


def trees(*arguments: Arguments, log: Log = None, quiet: Quiet = False, json: Json = False) -> None:
    """Run up to the emotion trees: which emotions are taken for each other, and which features prefer which.

    Usage: interp trees [CONFIG.yaml] [--any.field VALUE ...]

    Nothing is traced, so that many emotions take minutes; `interp trace` and `interp run` go on in the same folder.

    For example: `interp trees experiments/labels/smollm2-goemotions.yaml --corpora.discover.limit 270`.
    """
    _run("trees", arguments, log, quiet, json)


def steer(*arguments: Arguments, log: Log = None, quiet: Quiet = False, json: Json = False) -> None:
    """Run up to steering and its evaluation.

    Usage: interp steer [CONFIG.yaml] [--any.field VALUE ...]

    For example: `interp steer experiments/tiny.yaml --steering.method targeted --name targeted`.
    """
    _run("steer", arguments, log, quiet, json)


def check(*arguments: Arguments, json: Json = False) -> None:
    """Check a configuration before a long run: downloads, model, SAEs, corpora, memory and time. Changes nothing.

    Usage: interp check CONFIG.yaml [--any.field VALUE ...]

    For example: `interp check experiments/models/gemma-2-2b.yaml --saes.width 65k`.
    """
    config = load_config(*parsed(arguments))
    from tempfile import TemporaryDirectory

    from interp.files.folder import RunFolder
    from interp.memory import gigabytes
    from interp.run.checking import check as run_check
    from interp.run.fetch import needs, with_size

    wanted = [with_size(need, config) for need in needs(config)]
    absent = [need for need in wanted if need.where in ("hub", "index", "gguf")]
    if json and any(need.kind != "corpus" for need in absent):
        print(json_text({"downloads": [asdict(need) for need in absent]}))
        return
    for need in () if json else absent:
        size = f" ({gigabytes(need.size)})" if need.size else ""
        print(f"would {'convert' if need.where == 'gguf' else 'download'} {need.kind} {need.name}{size}")
    if any(need.kind != "corpus" for need in absent):
        print("The rest can be checked once the model and the SAEs are here: interp fetch CONFIG.")
        return
    say = (lambda line: None) if json else (lambda line: errors.print(line, style="bold"))
    with TemporaryDirectory() as folder, hushed(json):
        found = run_check(config, RunFolder(Path(folder)), say)
    if json:
        peak = {"peak_bytes": found.peak_bytes}
        print(json_text({"downloads": [asdict(need) for need in absent], **asdict(found), **peak}))
        return
    table = Table(title=f"{config.name}: ready to run", show_header=False)
    for name, fact in found.facts.items():
        table.add_row(name, fact)
    parts = ((found.model_bytes, "model"), (found.sae_bytes, "SAEs"), (found.batch_bytes, "a batch"))
    memory = " + ".join(f"{gigabytes(size)} {what}" for size, what in parts)
    table.add_row("peak memory", f"{gigabytes(found.peak_bytes)} ({memory}); now free: {gigabytes(found.free_bytes)}")
    for stage in found.stages:
        table.add_row(f"time, {stage.stage}", duration(stage.seconds))
    table.add_row(
        "time, in all", f"{duration(sum(s.seconds for s in found.stages))} (rough; probes and report besides)"
    )
    screen.print(table)


def fetch(*arguments: Arguments, accept_terms: str | None = None, quiet: Quiet = False, json: Json = False) -> None:
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
    from interp.run.fetch import fetch_model, needs

    quiet = quiet or json
    say = (lambda line: None) if quiet else print
    if accept_terms is not None:
        if accept_terms not in known_terms():
            raise UserError(f"No terms {accept_terms!r}{nearest(accept_terms, known_terms())}")
        accept(accept_terms)
    if arguments and not arguments[0].startswith("--") and Path(arguments[0]).suffix not in (".yaml", ".yml"):
        if len(arguments) > 1:
            raise UserError(
                f"Unexpected {arguments[1]!r}; interp fetch takes one model, or a .yaml file and its fields."
            )
        with hushed(quiet):
            fetch_model(arguments[0], say)
        if json:
            print(json_text({"fetched": [{"kind": "model", "name": arguments[0]}]}))
        else:
            print(f"It is here: give it as --model {arguments[0]}.")
        return
    config = load_config(*parsed(arguments))
    with hushed(quiet):
        run_fetch(config, say)
    if json:
        print(json_text({"fetched": [{"kind": need.kind, "name": need.name} for need in needs(config)]}))
    else:
        print("All is here; with HF_HUB_OFFLINE=1 the run needs no network.")


def _run(command: str, arguments: Sequence[str], log: TrackerName | None, quiet: bool, json: bool) -> None:
    config = load_config(*parsed(arguments))
    quiet = quiet or json
    send = sender(log, quiet=quiet)
    from interp.run import pipeline

    say = (lambda line: None) if quiet else (lambda line: errors.print(line, style="bold"))
    with hushed(quiet):
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
    send(outcome.folder)
    if json:
        import pandas as pd

        scores = outcome.folder / "evaluation.parquet"
        table = pd.read_parquet(scores) if scores.exists() else []
        print(json_text({"report": outcome.report, "ran": outcome.ran, "evaluation": table}))
        return
    print(outcome.report)


def _summary(config: Config, folder: Path) -> None:
    """One table: recognition before and after, per test corpus."""
    import pandas as pd

    if not (folder / "evaluation.parquet").exists():
        return
    scores = pd.read_parquet(folder / "evaluation.parquet").set_index(["corpus", "method", "metric"])
    table = Table(title=f"{config.name}: {config.model}", caption="95 % intervals in brackets")
    for column in ("corpus", "n", "accuracy", "steered", "macro-F1", "steered", "change"):
        table.add_column(column)
    for corpus in dict.fromkeys(k[0] for k in scores.index if k[1:] == ("unsteered", "accuracy")):

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


def duration(seconds: float) -> str:
    return (
        f"{seconds:.1f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
