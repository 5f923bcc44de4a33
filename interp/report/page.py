"""A run folder to `report.html`."""

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import yaml
from plotly.offline import get_plotlyjs

from interp.files.folder import writing
from interp.report.answer import Sentence, answer
from interp.report.figures import colours, in_script
from interp.report.glance import Recognised, facts, heading, recognised
from interp.report.sections import Section, sections
from interp.report.tables import Table, tables
from interp.run.reading import RunFiles, earlier_layout


def write_report(folder: Path, *, text: bool = True) -> Path:
    """Writes `report.html` of a run, finished or not, and returns its path.

    The same files give the same bytes; no network is needed to read it.

    Args:
        text: whether feature cards show texts of the corpora.
    """
    run = RunFiles(folder)
    record = run.record
    config = {key: value for key, value in record["config"].items() if key != "out"}
    page = render(
        title=record["name"],
        heading=heading(run),
        lead=" · ".join(facts(run)),
        labels=run.labels,
        recognised=recognised(run),
        answer=answer(run),
        sections=sections(run),
        tables=tables(run),
        cards=_cards(run, text),
        notices=_notices(run),
        provenance=_provenance(record),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )
    path = folder / "report.html"
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


def render(
    *,
    title: str,
    lead: str,
    labels: Sequence[str],
    answer: Sequence[Sentence],
    sections: Sequence[Section],
    tables: Mapping[str, Table],
    heading: str = "",
    recognised: Sequence[Recognised] = (),
    cards: Sequence[Mapping[str, Any]] = (),
    notices: Sequence[str] = (),
    provenance: str = "",
    config: str = "",
    command: str = "interp run",
) -> str:
    """A self-contained page: figures and tables in sections, under a few sentences; all texts are escaped.

    Args:
        command: what takes `config` and makes all this again.
        heading: what stands on top; the title if left out.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_asset("template.html")).render(
        title=title,
        heading=heading or title,
        lead=lead,
        recognised=recognised,
        answer=answer,
        sections=sections,
        tables=tables,
        notices=notices,
        provenance=provenance,
        config=config,
        command=command,
        cards=_embedded(cards),
        colours=_embedded(colours(labels)),
        plotly=get_plotlyjs(),
        style=_asset("page.css"),
        script=_asset("page.js"),
    )


def _asset(name: str) -> str:
    return (files("interp.report") / name).read_text(encoding="utf-8")


def _embedded(value: Any) -> str:
    return in_script(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _notices(run: RunFiles) -> list[str]:
    """What is not there, and why."""
    again = "The same command goes on from there."
    missing = ", ".join(run.missing)
    said = (
        [f"This run stopped early, or was made by an older version. Not there: {missing}. {again}"] if missing else []
    )
    earlier = earlier_layout(run.record)
    return said + [f"{line} {again}" for line in sorted(run.lacking.values())] + ([earlier] if earlier else [])


def _provenance(record: Mapping[str, Any]) -> str:
    model, saes, git = record["model"], record["saes"], record.get("git")
    code = f", code {git['commit'][:12]}{' with changes' if git['changed'] else ''}" if git else ""
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    return (
        f"Model {model['name']} ({model['identity']}, {model['dtype']} on {model['device']}), SAEs {saes['name']}"
        f" ({saes['identity']}){code}. {versions}."
    )


def _cards(run: RunFiles, text: bool) -> list[dict[str, Any]]:
    """Feature cards with the exact effects of their features."""
    cards, effects = run.json("cards") or [], run.table("effects")
    exact: dict[tuple[int, int], list[list[Any]]] = {}
    if effects is not None:
        columns = ["layer", "feature", "emotion", "role", "effect", "ci_low", "ci_high", "n", "flip_rate", "causal"]
        shown = effects.loc[~effects["control"].astype(bool), columns]
        for layer, feature, *rest in shown.itertuples(index=False):
            values = [float(f"{v:.4g}") if isinstance(v, float) else v for v in rest]
            exact.setdefault((int(layer), int(feature)), []).append(values)
    for card in cards:
        card["effects"] = exact.get((card["layer"], card["feature"]), [])
        card["texts"] = card["texts"] if text else []
    return cards
