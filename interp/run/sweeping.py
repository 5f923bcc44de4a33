"""Running a sweep: what of each run is there, how long the rest will take, and the table of what was found."""

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from interp.errors import UserError
from interp.files.folder import RunFolder, fingerprint, remove_parts, write_json, writing
from interp.files.remote import Remote
from interp.files.stored import files_below
from interp.reporting import Progress, silent
from interp.run import pipeline, tables
from interp.run.engines import LOCAL, check_engine
from interp.run.inputs import Inputs
from interp.run.places import known_folder
from interp.run.reading import RunFiles, score_of
from interp.run.shared import Shared, loaded_as, shared_keys
from interp.run.sweep import Sweep, SweptRun

if TYPE_CHECKING:
    import pandas as pd

    from interp.run.checking import MeasuredSpeeds

SHARED = ".shared"
"""Folder of captures, units and records, beside the runs."""
RECORD, TABLE, PAGES = "sweep.json", "sweep", "comparison"
COMPARED = "interp.report.comparing:compare"
"""By name: it stands above the runs, and is loaded when they are done."""
MATCHED = 4
"""Most runs of which every two have their features matched, which takes some seconds each."""


@dataclass(frozen=True)
class PlannedRun:
    """What there is of a run, and what is to be expected.

    Attributes:
        done: stages that are finished.
        taken: stages whose files will be those of another run, and of which.
        to_run: the others.
        seconds: of these; None where it is not known.
        where: device and number format, and the engine's workers.
        unknown: why something is not known; empty where all is.
        computed: seconds at `computed.RATE` of a run whose model is not here, with all its stages; None where it is
            here, or nothing is known of its shapes or texts.
    """

    run: SweptRun
    done: list[str]
    taken: dict[str, str]
    to_run: list[str]
    seconds: float | None
    where: str
    unknown: str = ""
    computed: float | None = None


class SweepOutcome(NamedTuple):
    """What a sweep left.

    Attributes:
        outcomes: by run.
        table: a row for each run and test corpus.
        page: the comparison; None where the runs were not traced, or there is one alone.
    """

    outcomes: dict[str, pipeline.Outcome]
    table: "pd.DataFrame"
    page: Path | None


def plan(sweep: Sweep, *, say: Callable[[str], None] = lambda line: None, measure: bool = True) -> list[PlannedRun]:
    """What a sweep would do; nothing is written, and only models that are here are loaded.

    Args:
        say: receives a line when a model is loaded to measure its speed.
        measure: whether speeds are measured at all.
    """
    speeds: dict[str, MeasuredSpeeds | str] = {}
    known: dict[str, str] = {}
    planned = []
    for run in sweep.runs:
        inputs, lacking = Inputs(run.config), _lacking(run)
        stages = pipeline.stages_for(run.config, sweep.command)
        try:
            if not lacking:
                inputs.check()
            prints = {} if lacking else pipeline.fingerprints(inputs, stages)
            keys = {} if lacking else shared_keys(inputs, stages)
        except UserError as error:
            lacking, prints, keys = str(error), {}, {}
        folder = known_folder(run.config)
        done = [stage.name for stage in stages if prints and folder.is_current(stage.name, prints[stage.name])]
        left = [stage.name for stage in stages if stage.name not in done]
        taken = {name: known[keys[name]] for name in left if keys and known.get(keys[name], run.name) != run.name}
        known = dict.fromkeys(keys.values(), run.name) | known
        left = [name for name in left if name not in taken]
        seconds, where, by_shape = None, _where(inputs), None
        if lacking and measure:
            by_shape = _computed(inputs)
        if not lacking:
            seconds = 0.0
            if left and measure:
                found = _measured(run, speeds, say)
                if isinstance(found, str):
                    seconds, lacking = None, found
                else:
                    costs = {one.stage: one.seconds for one in found.estimates(inputs)}
                    seconds = sum(costs.get(name, 0.0) for name in left)
            elif left:
                seconds = None
        planned.append(PlannedRun(run, done, taken, left, seconds, where, lacking, by_shape))
    return planned


def _where(inputs: Inputs) -> str:
    """The device, as far as this process sees it, and what the engine was asked for."""
    resources, engine = inputs.config.resources, inputs.config.engine
    device = f"{inputs.device}, {inputs.dtype.removeprefix('torch.')}"
    if engine == LOCAL:
        return device
    workers = "workers, as many as there is room for" if resources.workers is None else f"{resources.workers} workers"
    each = f"{resources.cpus or 1:g} CPUs" + (f" and {resources.gpus:g} GPUs" if resources.gpus else "")
    return f"{engine}: {workers}, {each} each; here {device}"


def _computed(inputs: Inputs) -> float | None:
    from interp.run.computed import computed

    try:
        found = computed(inputs)
    except UserError:
        return None
    return None if found is None else sum(found.values())


def _lacking(run: SweptRun) -> str:
    """What of a run is not here, so that nothing can be known before it is; empty where all is."""
    from interp.run.fetch import needs

    try:
        absent = [need for need in needs(run.config) if need.where in ("hub", "index", "gguf")]
    except UserError as error:
        return str(error)
    if not absent:
        return ""
    kinds = [need.kind for need in absent]
    names = dict.fromkeys(
        need.name if need.kind != "SAE" else f"{kinds.count('SAE')} SAEs of {need.name.partition(' ')[0]}"
        for need in absent
    )
    return f"not here: {', '.join(names)} (interp fetch CONFIG)"


def _measured(
    run: SweptRun, speeds: "dict[str, MeasuredSpeeds | str]", say: Callable[[str], None]
) -> "MeasuredSpeeds | str":
    """Speeds of a run's model on its prompts, measured once for all runs that have both in common."""
    from interp.run.checking import measure
    from interp.run.session import Session

    config = run.config
    key = fingerprint([loaded_as(config), config.as_dict()["saes"], config.as_dict()["prompt"], config.labels])
    if key not in speeds:
        say(f"measuring {config.model}")
        try:
            with TemporaryDirectory() as folder, closing(Session(config, RunFolder(Path(folder)))) as session:
                speeds[key] = measure(session)
        except UserError as error:
            speeds[key] = str(error)
    return speeds[key]


def run_sweep(
    sweep: Sweep,
    *,
    progress: Progress = silent,
    say: Callable[[str], None] = lambda line: None,
    **options: Any,
) -> SweepOutcome:
    """Runs what is missing of every run, then writes the table and the comparison.

    What is wrong in any run is refused before the first begins. A killed sweep goes on with the same call.

    Args:
        say: receives a line when a run or a stage begins, is skipped or taken over.
        options: of `interp.run.pipeline.run`, for every run.

    Raises:
        UserError: as `interp.run.pipeline.run`, of any run.
    """
    remote = None if sweep.url is None else Remote(sweep.url)
    if remote is not None:
        remote.check()
    _check(sweep)
    sweep.out.mkdir(parents=True, exist_ok=True)
    facts = [{"name": run.name, "point": run.point} for run in sweep.runs]
    write_json(sweep.out / RECORD, {"sweep": str(sweep.path), "command": sweep.command, "runs": facts})
    remove_parts(sweep.out / SHARED)  # another sweep at work there keeps one file less, which costs time alone
    shared = Shared(sweep.out / SHARED, budget=sweep.store_bytes)
    outcomes: dict[str, pipeline.Outcome] = {}
    with closing(shared):
        for number, run in enumerate(sweep.runs, start=1):
            say(f"[{number}/{len(sweep.runs)}] {run.name}")
            outcomes[run.name] = pipeline.run(
                run.config, command=sweep.command, progress=progress, say=say, shared=shared, **options
            )
    table = sweep_table(sweep)
    _write(sweep.out, table)
    page = _page(sweep)
    if remote is not None:
        made = [RECORD, f"{TABLE}.parquet", f"{TABLE}.csv", *([] if page is None else [PAGES])]
        remote.put(sweep.out, files_below(sweep.out, made))
    return SweepOutcome(outcomes, table, page)


def _check(sweep: Sweep) -> None:
    """Refuses what the user can mend in any run, before the first begins."""
    for run in sweep.runs:
        inputs = Inputs(run.config)
        try:
            check_engine(run.config)
            inputs.check()
            _ = inputs.model_identity, inputs.sae_identity, inputs.shots
        except UserError as error:
            raise UserError(f"{run.name}: {error}") from None


def sweep_table(sweep: Sweep) -> "pd.DataFrame":
    """A row for each run and test corpus: what was varied, recognition as it is and steered, features, time.

    Columns: run, one per axis, then those of `sweep.parquet` (`beside.toml`); missing where a run has no such value.
    """
    import pandas as pd

    lines: list[dict[str, Any]] = []
    for run in sweep.runs:
        files = RunFiles(run.folder)
        seconds = sum(entry.get("seconds", 0.0) for entry in files.record["stages"].values())
        taken = sum("taken_from" in entry for entry in files.record["stages"].values())
        phases, effects = files.json("phases"), files.table("effects")
        about = {"run": run.name, **run.point, "model": run.config.model}
        found = {
            "causal_features": None if effects is None else len(files.causal_for()),
            "phases": None if phases is None else len(phases["phases"]),
            "seconds": round(seconds, 1),
            "stages_taken": taken,
        }
        lines += [about | scores | found for scores in _scores(files)]
    name, _, *others = (column.name for column in tables.BESIDE[f"{TABLE}.parquet"].columns)
    return pd.DataFrame(lines, columns=[name, *(axis for axis in sweep.axes if axis not in others), *others])


def _scores(files: RunFiles) -> list[dict[str, Any]]:
    """Recognition by test corpus; of a run that was not steered, as the examples say."""
    scores, steering = files.table("evaluation"), files.json("steering")
    if scores is None:
        examples = files.table("examples")
        tested = [] if examples is None else examples[examples["role"] == "test"].groupby("corpus", sort=False)
        return [
            {"corpus": corpus, "n": len(part), "accuracy": float((part["gold"] == part["predicted"]).mean())}
            for corpus, part in tested
        ]
    plain = score_of(scores[scores["corpus"] == "plain text"], "steered", "perplexity_ratio")
    lines = []
    for corpus, part in scores[scores["corpus"] != "plain text"].groupby("corpus", sort=False):
        of = partial(score_of, part)
        accuracy, before, after = of("unsteered", "accuracy"), of("unsteered", "macro_f1"), of("steered", "macro_f1")
        gain = of("steered", "macro_f1_gain")
        lines.append(
            {
                "corpus": corpus,
                "n": None if accuracy is None else accuracy.n,
                "accuracy": None if accuracy is None else accuracy.value,
                "macro_f1": None if before is None else before.value,
                "steered": "none" if steering is None else steering["method"],
                "macro_f1_steered": None if after is None else after.value,
                "gain": None if gain is None else gain.value,
                "gain_low": None if gain is None else gain.low,
                "gain_high": None if gain is None else gain.high,
                "perplexity_ratio": None if plain is None else plain.value,
            }
        )
    return lines


def _write(out: Path, table: "pd.DataFrame") -> None:
    tables.write(out / f"{TABLE}.parquet", table)
    with writing(out / f"{TABLE}.csv") as part:
        table.to_csv(part, index=False)


def _page(sweep: Sweep) -> Path | None:
    if sweep.command == "trees" or len(sweep.runs) < 2:
        return None
    folders = [run.folder for run in sweep.runs]
    found = resolve_name(COMPARED)(folders, sweep.out / PAGES, match=len(folders) <= MATCHED)
    page: Path = found.page
    return page
