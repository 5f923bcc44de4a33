"""The commands that go on from a traced run to mechanisms: its circuits, and patching between its texts."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.table import Table
from rich.text import Text

from interp.cli.console import Json, Quiet, errors, hushed, json_text
from interp.cli.options import LARGEST, Count
from interp.errors import UserError, quoted
from interp.reporting import bars, silent

Positions = Annotated[str | None, Parameter(allow_leading_hyphen=True)]
MOST_NODES = 128
LEAST_EXAMPLES = 4


def circuit(
    run: Path,
    *,
    examples: Count = 24,
    nodes: Count = 24,
    neurons: Count = 32,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Circuits of a run's emotions: heads, MLPs, neurons, features and words behind each answer, and their edges.

    Every effect is exact: a component is set to its mean over the texts, or an edge cut, and all above computed again.
    Writes circuit_*.parquet, circuits/EMOTION.json for the graph viewers of circuit-tracer and Neuronpedia, and the
    report with the circuits in it. Of a model without SAEs, heads, MLPs and neurons alone.

    For example: `interp circuit runs/smollm2 --examples 16`.

    Parameters
    ----------
    run
        A run folder that has been traced.
    examples
        Texts of each emotion: so many of the discover split to find circuits with, and of the fit split to measure on.
    nodes
        Nodes of an emotion's graph, at most.
    neurons
        Neurons of each emotion that attribution proposes; exact effects decide.
    """
    if not 2 <= nodes <= MOST_NODES:
        raise UserError(f"--nodes must be 2 to {MOST_NODES}; got {nodes}.")
    if examples < LEAST_EXAMPLES:
        raise UserError(f"--examples must be at least {LEAST_EXAMPLES}, for intervals; got {examples}.")
    from interp.report import write_report
    from interp.report.graph_files import write_graph_files
    from interp.run.circuits import CircuitOptions
    from interp.run.circuits import circuit as find

    options = CircuitOptions(examples=examples, nodes=nodes, neurons=neurons)
    quiet = quiet or json
    with hushed(quiet):
        found = find(run, options, progress=silent if quiet else bars)
    graphs, page = write_graph_files(run), write_report(run)
    table, overlap = found.tables["circuits.parquet"], found.tables["circuit_overlap.parquet"]
    if json:
        print(json_text({"page": page, "graphs": graphs, "circuits": table, "overlap": overlap}))
        return
    if not quiet:
        lines = Table(title="circuits")
        for column in (
            "emotion",
            "causal",
            "nodes",
            "edges",
            "keeps",
            "knocked out",
            "random",
            "others follow",
            "random",
        ):
            lines.add_column(column, justify="left" if column == "emotion" else "right")
        for row in table.itertuples():
            cells = [str(row.emotion), f"{row.n_causal}", f"{row.nodes}", f"{row.edges}", _share(row.kept)]
            cells += [_nats(row.knocked_out), _nats(row.knocked_out_control)]
            lines.add_row(*map(Text, [*cells, _share(row.follows), _share(row.follows_control)]))
        errors.print(lines)
    print(page)


def patch(
    run: Path,
    *,
    pairs: Count = 4,
    span: Count = 1,
    positions: Positions = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Activation patching between the texts of a run: from an emotion's texts into those of every other.

    Residuals, attention and MLP outputs, layer by layer or over spans of layers, at the answer position and at the
    text's last token, or at any position. Writes patching.parquet and the report with the curves in it. For example:
    `interp patch runs/smollm2 --span 5 --positions "-1,-3"`.

    Parameters
    ----------
    run
        A run folder that has been traced.
    pairs
        Pairs of texts for every two emotions, and as many controls within each.
    span
        Layers whose outputs are patched together.
    positions
        Counted from the prompt's end and separated by commas, each patched alone; -1 is the answer position.
    """
    places = _positions(positions)
    from interp.report import write_report
    from interp.run.patching import PatchingOptions
    from interp.run.patching import patch as run_patch

    options = PatchingOptions(pairs, span, places)
    quiet = quiet or json
    with hushed(quiet):
        table = run_patch(run, options, progress=silent if quiet else bars)
    page = write_report(run)
    if json:
        print(json_text({"page": page, "patching": table}))
        return
    if not quiet:
        lines = Table(title="share of the way to the source's answer")
        for column in ("position", "part", "best layers", "share", "95 % interval", "follow", "controls"):
            lines.add_column(column, justify="left" if column == "part" else "right")
        whole = table[table["emotion"] == "all"]
        for (position, part), own in whole[~whole["control"]].groupby(["position", "part"], sort=False):
            best = own.loc[own["recovered"].idxmax()]
            same = whole[whole["control"] & (whole["position"] == position) & (whole["part"] == part)]
            control = same[same["first"] == best["first"]]["recovered"]
            layers = f"{best['first']}" if best["first"] == best["last"] else f"{best['first']} to {best['last']}"
            cells = [f"{position}", str(part), layers, _share(best["recovered"])]
            cells += [f"{_share(best['recovered_low'])} to {_share(best['recovered_high'])}", _share(best["follows"])]
            lines.add_row(*map(Text, [*cells, _share(control.iloc[0]) if len(control) else "-"]))
        errors.print(lines)
    print(page)


def _positions(said: str | None) -> tuple[int, ...]:
    """What `--positions` names.

    Raises:
        UserError: anything but whole numbers below zero.
    """
    try:
        found = tuple(dict.fromkeys(int(word) for word in said.split(","))) if said is not None else ()
    except ValueError:
        found = (0,)
    if any(position >= 0 or position < -LARGEST for position in found):
        raise UserError(f"--positions takes whole numbers below zero, such as -1,-2; got {quoted(said or '')}.")
    return found


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.0%}"


def _nats(value: float) -> str:
    return "-" if value != value else f"{value:+.2f}"
