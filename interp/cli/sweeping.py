"""The command that runs a sweep."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from interp.cli.console import Arguments, Json, Quiet, errors, hushed, json_text, overrides, screen
from interp.cli.running import duration
from interp.reporting import bars, silent
from interp.run.config import known_keys
from interp.run.sweep import Sweep, load_sweep

if TYPE_CHECKING:
    from interp.run.sweeping import PlannedRun

DryRun = Annotated[bool, Parameter(negative=(), help="Show what would run, what is there, in how long; write nothing.")]
MOST_SHOWN = 60
"""Rows of a table in the terminal; the files hold all."""


def sweep(
    sweep: Path, *arguments: Arguments, dry_run: DryRun = False, quiet: Quiet = False, json: Json = False
) -> None:
    """Run a grid of experiments over any fields of the config: one run folder each, one table, one comparison.

    Usage: interp sweep SWEEP.yaml [--dry-run] [--any.field of the base VALUE ...]

    Model and SAEs stay loaded while runs use them; what runs have in common is computed once. A killed sweep goes on
    where it stopped, and finished runs are recognised.

    For example: `interp sweep experiments/sweeps/tiny.yaml --dry-run`, then the same without `--dry-run`.

    Parameters
    ----------
    sweep
        A YAML file: base (a config), grid (fields to lists of values) or list, out, name.
    """
    found = load_sweep(sweep, overrides(arguments, "--seed 1", known_keys()))
    if dry_run:
        _dry_run(found, quiet=quiet, json=json)
        return
    from interp.run.sweeping import run_sweep

    quiet = quiet or json
    say = (lambda line: None) if quiet else (lambda line: errors.print(line, style="bold"))
    with hushed(quiet):
        outcome = run_sweep(found, progress=silent if quiet else bars, say=say)
    if json:
        runs = [
            {"run": name, "folder": one.folder, "report": one.report, "ran": one.ran, "taken": one.taken}
            for name, one in outcome.outcomes.items()
        ]
        print(json_text({"runs": runs, "table": outcome.table, "page": outcome.page}))
        return
    if not quiet:
        errors.print(_table(outcome.table.to_dict("records"), found))
        ran = sum(len(one.ran) for one in outcome.outcomes.values())
        taken = sum(len(one.taken) for one in outcome.outcomes.values())
        seconds = sum(one.seconds for one in outcome.outcomes.values())
        errors.print(f"{len(found.runs)} runs: {ran} stages ran, {taken} were taken over; {duration(seconds)}")
        errors.print(f"table: {found.out / 'sweep.csv'} and sweep.parquet")
    print(outcome.page or found.out / "sweep.csv")


def _table(rows: Sequence[dict[str, Any]], found: Sweep) -> Table:
    """A line per run and corpus."""
    table = Table(title=f"{found.path.stem}: {len(found.runs)} runs", caption="gain of macro-F1 with its 95 % interval")
    columns = ["run", "corpus", "accuracy", "macro-F1", "steered", "gain", "causal features"]
    for column in columns:
        table.add_column(column)
    for row in rows[:MOST_SHOWN]:
        gain = "" if _absent(row, "gain") else f"{row['gain']:+.3f} [{row['gain_low']:+.3f}, {row['gain_high']:+.3f}]"
        table.add_row(
            str(row["run"]),
            str(row["corpus"]),
            *("-" if _absent(row, name) else f"{row[name]:.3f}" for name in ("accuracy", "macro_f1")),
            str(row.get("steered") or ""),
            gain,
            "-" if _absent(row, "causal_features") else f"{row['causal_features']:.0f}",
        )
    if len(rows) > MOST_SHOWN:
        table.add_row(f"and {len(rows) - MOST_SHOWN} more", *[""] * (len(columns) - 1))
    return table


def _absent(row: dict[str, Any], name: str) -> bool:
    value = row.get(name)
    return value is None or value != value


def _dry_run(found: Sweep, *, quiet: bool, json: bool) -> None:
    from interp.run.sweeping import plan

    say = (lambda line: None) if quiet or json else (lambda line: errors.print(line, style="bold"))
    planned = plan(found, say=say)
    known = [one.seconds for one in planned if one.seconds is not None]
    if json:
        runs = [
            {
                "run": one.run.name,
                "folder": one.run.folder,
                "point": one.run.point,
                "done": one.done,
                "taken": one.taken,
                "to_run": one.to_run,
                "seconds": one.seconds,
                "where": one.where,
                "unknown": one.unknown,
                "computed_seconds": one.computed,
            }
            for one in planned
        ]
        print(json_text({"out": found.out, "command": found.command, "runs": runs, "seconds": sum(known)}))
        return
    table = Table(title=f"{found.path.stem}: {len(planned)} runs, in this order, into {found.out}")
    for column in ("run", *found.axes, "done", "taken over", "to run", "time", "where"):
        table.add_column(column)
    for one in planned[:MOST_SHOWN]:
        time = "?" if one.seconds is None else duration(one.seconds) if one.to_run else "-"
        counts = (len(one.done), len(one.taken), len(one.to_run))
        point = (one.run.point.get(axis, "") for axis in found.axes)
        table.add_row(one.run.name, *point, *map(str, counts), time, one.where or "?")
    if len(planned) > MOST_SHOWN:
        table.add_row(f"and {len(planned) - MOST_SHOWN} more", *[""] * (5 + len(found.axes)))
    screen.print(table)
    for reason in dict.fromkeys(one.unknown for one in planned if one.unknown):
        those = [one for one in planned if one.unknown == reason]
        print(f"not known of {_named([one.run.name for one in those])}: {reason}{_by_shape(those)}")
    rest = "" if len(known) == len(planned) else f", and {len(planned) - len(known)} runs of which it is not known"
    print(f"time, in all: {duration(sum(known))}{rest} (rough; loading, probes and reports besides)")


def _by_shape(runs: "Sequence[PlannedRun]") -> str:
    """What shapes tell of runs whose models are not here."""
    from interp.run.computed import RATE

    known = [one.computed for one in runs if one.computed is not None]
    if not known:
        return ""
    each = f"{duration(sum(known) / len(known))} a run at {RATE / 1e12:.0f} TFLOP/s"
    return f"; computed from shapes, before what runs share: {each}, {duration(sum(known))} in all, loading besides"


def _named(runs: Sequence[str]) -> str:
    return runs[0] if len(runs) == 1 else f"{runs[0]} and {len(runs) - 1} more"
