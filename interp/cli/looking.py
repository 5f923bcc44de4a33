"""The commands that look at runs: their pages, one text, side by side, beside a paper's claims."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from interp.cli.console import RUNS, Json, Out, Quiet, errors, hushed, json_text
from interp.cli.options import RunPath, folder_path, page_path

if TYPE_CHECKING:
    from interp.run.alike import RunMatches


def plot(folder: RunPath, *, text: bool = True, quiet: Quiet = False, json: Json = False) -> None:
    """Make the report of a run again, from its files alone.

    For example: `interp plot runs/tiny --no-text`, to pass on a report without texts of the corpora.

    Parameters
    ----------
    folder
        A run folder, such as runs/tiny, or the URL of one.
    text
        Whether feature cards show the texts on which a feature is most active.
    """
    from interp.report import write_report

    with hushed(quiet or json):
        page = write_report(folder, text=text)
    print(json_text({"page": page}) if json else page)


def inspect(run: RunPath, *, text: str, out: Out = None, quiet: Quiet = False, json: Json = False) -> None:
    """One text through the model of a run: emotion evidence by layer and token, and the features behind the answer.

    Without `--out`, the page is RUN/inspect.html.

    For example: `interp inspect runs/tiny --text "The milk had gone sour and lumps slid into my cup."`

    Parameters
    ----------
    run
        A run folder.
    text
        The text, as it would stand in a corpus.
    """
    from interp.files.folder import writing
    from interp.report.inspecting import inspection_lines, inspection_page
    from interp.report.words import short_name
    from interp.run.inspecting import inspect as run_inspect
    from interp.run.reading import RunFiles

    path = page_path(out or run / "inspect.html")
    with hushed(quiet or json):
        found = run_inspect(run, text)
    with writing(path) as part:
        model = short_name(str(RunFiles(run).record["model"]["name"]))
        part.write_text(inspection_page(found, model), encoding="utf-8")
    if json:
        print(json_text(asdict(found) | {"evidence": found.evidence.round(5), "page": path}))
        return
    if not quiet:
        errors.print(inspection_lines(found))
    print(path)


def compare(*folders: RunPath, out: Out = None, match: bool = True, quiet: Quiet = False, json: Json = False) -> None:
    """Put runs side by side: models, corpora, templates, seeds; layers aligned by relative depth.

    Features of runs that read the same discover texts are matched: which are found again in the other model.
    Without `--out`, compare.html, compare.parquet and the tables of matched features go into runs/comparison.

    For example: `interp compare runs/crowd runs/isear --out runs/both`.

    Parameters
    ----------
    folders
        Run folders that have been traced.
    match
        Whether features are matched, which takes some seconds for every two runs.
    """
    from interp.report.comparing import compare as run_compare

    out = folder_path(out or RUNS / "comparison")
    with hushed(quiet or json):
        tidy, page, matched, unmatched = run_compare(folders, out, match=match)
    if json:
        print(json_text({"page": page, "measures": tidy, "matched": _matched(matched), "unmatched": unmatched}))
        return
    if quiet:
        print(page)
        return
    for sentence in unmatched:
        errors.print(f"note: {sentence}")
    wide = tidy[tidy["measure"] == "effective_number"].pivot(index="emotion", columns="run", values="value")
    table = Table(title="effective number of causal features")
    for column in ("emotion", *wide.columns):
        table.add_column(str(column))
    for emotion, row in wide.iterrows():
        table.add_row(str(emotion), *("-" if v != v else f"{v:.1f}" for v in row))
    errors.print(table)
    print(page)


def _matched(matched: "Mapping[tuple[str, str], RunMatches]") -> list[dict[str, Any]]:
    """For every two runs, how many features of the first are found again, and of which emotions."""
    return [
        {
            "run": run,
            "beside": beside,
            "kind": found.kind,
            "texts": found.n,
            "features": len(found.features),
            "universal": int(found.features["universal"].sum()),
            **found.features[["correlation", "floor", "held_out"]].mean().to_dict(),
            "emotions": found.emotions,
        }
        for (run, beside), found in matched.items()
    ]


def findings(
    *folders: RunPath, out: Out = None, figures: Path | None = None, quiet: Quiet = False, json: Json = False
) -> None:
    """A paper's claims beside what runs found, with intervals, and whether they agree; from the runs' files alone.

    Without `--out`, the Markdown page is runs/findings.md.

    For example: `interp findings runs/crowd runs/isear --out findings.md --figures figures`.

    Parameters
    ----------
    folders
        Run folders; what a run has not measured is said to be so.
    figures
        Folder for a page per run with its layer-phase plot, linked from the Markdown page.
    """
    from interp.findings.figures import write_figures
    from interp.findings.measuring import measure
    from interp.findings.page import as_json, verdict_lines, write_findings

    out = page_path(out or RUNS / "findings.md", "findings.md")
    found = measure(folders)
    write_findings(found, out, write_figures(found, figures) if figures is not None else None)
    if json:
        print(json_text({"page": out, **as_json(found)}))
        return
    if quiet:
        print(out)
        return
    table = Table(title="does the claim hold?")
    for column in ("claim", *(one.title for one in found)):
        table.add_column(column)
    for claim, verdicts in verdict_lines(found):
        table.add_row(claim.short, *verdicts)
    errors.print(table)
    print(out)
