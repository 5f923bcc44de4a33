"""The commands that look at runs: their pages, one text, side by side, beside a paper's claims."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from interp.cli.console import Json, errors, json_text
from interp.cli.options import RunPath, folder_path, page_path
from interp.errors import UserError

if TYPE_CHECKING:
    from interp.run.alike import RunMatches


def plot(folder: RunPath, *, text: bool = True) -> None:
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

    print(write_report(folder, text=text))


def inspect(run: RunPath, *, text: str, out: Path | None = None, json: Json = False) -> None:
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
    from interp.report.words import short_name
    from interp.run.inspecting import inspect as run_inspect
    from interp.run.reading import RunFiles

    path = page_path(out or run / "inspect.html")
    found = run_inspect(run, text)
    if json:
        print(json_text(asdict(found) | {"evidence": found.evidence.round(5)}))
        return
    errors.print(inspection_lines(found))
    with writing(path) as part:
        model = short_name(str(RunFiles(run).record["model"]["name"]))
        part.write_text(inspection_page(found, model), encoding="utf-8")
    print(path)


def compare(*folders: RunPath, out: Path = Path("comparison"), match: bool = True, json: Json = False) -> None:
    """Put runs side by side: models, corpora, templates, seeds; layers aligned by relative depth.

    Features of runs that read the same discover texts are matched: which are found again in the other model.

    For example: `interp compare runs/crowd runs/isear --out runs/both`.

    Parameters
    ----------
    folders
        Run folders that have been traced.
    out
        Where compare.html, compare.parquet and the tables of matched features go.
    match
        Whether features are matched, which takes some seconds for every two runs.
    """
    from interp.report.comparing import compare as run_compare

    tidy, page, matched, unmatched = run_compare(folders, folder_path(out), match=match)
    if json:
        print(json_text({"page": page, "measures": tidy, "matched": _matched(matched), "unmatched": unmatched}))
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
    *folders: RunPath, out: Path = Path("findings.md"), figures: Path | None = None, json: Json = False
) -> None:
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
        print(json_text({"page": out, **as_json(found)}))
        return
    table = Table(title="does the claim hold?")
    for column in ("claim", *(one.title for one in found)):
        table.add_column(column)
    for claim, verdicts in verdict_lines(found):
        table.add_row(claim.short, *verdicts)
    errors.print(table)
    print(out)
