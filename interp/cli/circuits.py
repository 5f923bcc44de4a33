"""The command that finds a run's circuits."""

from pathlib import Path

from rich.table import Table
from rich.text import Text

from interp.cli.console import Json, Quiet, errors, json_text
from interp.cli.options import Count
from interp.errors import UserError
from interp.reporting import bars, silent

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
    report with the circuits in it. For example: `interp circuit runs/smollm2 --examples 16`.

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
    from interp.report import write_report
    from interp.report.graph_files import write_graph_files
    from interp.run.circuits import CircuitOptions
    from interp.run.circuits import circuit as find

    if not 2 <= nodes <= MOST_NODES:
        raise UserError(f"--nodes must be 2 to {MOST_NODES}; got {nodes}.")
    if examples < LEAST_EXAMPLES:
        raise UserError(f"--examples must be at least {LEAST_EXAMPLES}, for intervals; got {examples}.")
    options = CircuitOptions(examples=examples, nodes=nodes, neurons=neurons)
    found = find(run, options, progress=silent if quiet or json else bars)
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


def _share(value: float) -> str:
    return "-" if value != value else f"{value:.0%}"


def _nats(value: float) -> str:
    return "-" if value != value else f"{value:+.2f}"
