"""A run folder to `report.html`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from interp.report.contents import CardEffect, Page, PageCard
from interp.report.few import few
from interp.report.glance import facts, heading, recognised
from interp.report.page import write_page
from interp.report.sections import sections
from interp.report.sentences import answer
from interp.run.afterwards import stale
from interp.run.reading import RunFiles, earlier_layout


def write_report(folder: Path, *, text: bool = True) -> Path:
    """Writes `report.html` of a run, finished or not, and returns its path.

    The same files give the same bytes; no network is needed to read it.

    Args:
        text: whether feature cards show texts of the corpora.
    """
    run = RunFiles(folder)
    config = {key: value for key, value in run.record["config"].items() if key != "out"}
    page = Page(
        title=run.record["name"],
        heading=heading(run),
        lead=" · ".join(facts(run)),
        labels=run.labels,
        recognised=recognised(run),
        answer=answer(run),
        sections=sections(run),
        cards=_cards(run, text),
        notices=_notices(run),
        provenance=_provenance(run.record),
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
    )
    return write_page(folder / "report.html", page)


def _notices(run: RunFiles) -> list[str]:
    """What is not there, and why; to be asked last, when every table has been looked for."""
    again = "The same command goes on from there."
    missing = ", ".join(run.missing)
    said = (
        [f"This run stopped early, or was made by an older version. Not there: {missing}. {again}"] if missing else []
    )
    earlier = earlier_layout(run.record)
    said += [
        f"`interp {name}` was run before this run was changed; it makes its part anew." for name in stale(run.record)
    ]
    small = few({r.corpus: r.accuracy.n for r in recognised(run)}, "texts")
    return [
        *small,
        *said,
        *(f"{line} {again}" for line in sorted(run.lacking.values())),
        *([earlier] if earlier else []),
    ]


def _provenance(record: Mapping[str, Any]) -> str:
    model, saes, git = record["model"], record["saes"], record.get("git")
    code = f", code {git['commit'][:12]}{' with changes' if git['changed'] else ''}" if git else ""
    versions = ", ".join(f"{package} {version}" for package, version in record["versions"].items())
    return (
        f"Model {model['name']} ({model['identity']}, {model['dtype']} on {model['device']}), SAEs {saes['name']}"
        f" ({saes['identity']}){code}. {versions}."
    )


def _cards(run: RunFiles, text: bool) -> list[PageCard]:
    """Feature cards with the exact effects of their features."""
    effects = run.table("effects")
    exact: dict[tuple[int, int], list[CardEffect]] = {}
    if effects is not None:
        columns = ["layer", "feature", "emotion", "role", "effect", "ci_low", "ci_high", "n", "flip_rate", "causal"]
        shown = effects.loc[~effects["control"].astype(bool), columns]
        for layer, feature, *rest in shown.itertuples(index=False):
            exact.setdefault((int(layer), int(feature)), []).append(CardEffect(*rest))
    return [
        PageCard(
            **{key: card[key] for key in CARD},
            neuronpedia=card.get("neuronpedia"),
            texts=card["texts"] if text else [],
            effects=exact.get((card["layer"], card["feature"]), []),
        )
        for card in run.json("cards") or []
    ]


CARD = ("layer", "feature", "edges", "emotions", "promotes", "suppresses", "answers", "neighbours")
"""What a page shows of an entry of `cards.json` as it is."""
