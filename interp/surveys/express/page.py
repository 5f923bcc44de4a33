"""A comparison to `comparison.html`, tables beside it."""

from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.offline import get_plotlyjs

from interp.files.folder import write_json, writing
from interp.surveys.express import figures
from interp.surveys.express.comparing import ExpressComparison

CAPTIONS = {
    "headline": "Bars are 95 % intervals over posts. AccV-2 is high even for answers that name no emotion: most"
    " dimensions of most words are zero.",
    "radar": "Left: F1 of the eight basic emotions, neighbours as on Plutchik's wheel. Right: the same with 95 %"
    " intervals. An emotion that neither gold words nor answers have has no F1.",
    "confusion": "Of the labels of valid answers whose gold word has the row's emotion (how many: in brackets), the"
    " share whose answer has the column's. Words have several emotions, so rows do not add up to 100 %; the diagonal"
    " is recall. A column that is dark throughout is an emotion that is always named.",
}


def write_comparison(comparison: ExpressComparison, out: Path, *, resamples: int, seed: int) -> Path:
    """Writes `comparison.html` (self-contained), `.json`, `.csv` and `differences.csv`; same input, same bytes."""
    for name, table in (("comparison", comparison.table), ("differences", comparison.differences)):
        first = ["entry"] if "entry" in table else []
        with writing(out / f"{name}.csv") as part:
            table[[*first, *(c for c in table if c not in first)]].to_csv(part, index=False)
    write_json(
        out / "comparison.json",
        {
            "entries": {e.name: e.scores.as_dict() for e in comparison.entries},
            "differences": _records(comparison.differences),
            "human": comparison.human,
        },
    )
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        (files("interp.surveys.express") / "comparison.html").read_text(encoding="utf-8")
    )
    differences = _difference_rows(comparison.differences)
    page = template.render(
        plotly=get_plotlyjs(),
        lexicon=comparison.lexicon,
        settings={"resamples": resamples, "seed": seed},
        titles=[title for *_, title in figures.SCORES],
        entries=_entries(comparison),
        figures=_figures(comparison),
        differences=differences,
        difference_titles=list(dict.fromkeys(comparison.differences["name"])) if differences else [],
        human=comparison.human,
    )
    with writing(out / "comparison.html") as part:
        part.write_text(page, encoding="utf-8")
    return out / "comparison.html"


def _entries(comparison: ExpressComparison) -> list[dict[str, Any]]:
    out = []
    for entry in comparison.entries:
        keyed = entry.scores.table.set_index(["section", "name"])
        out.append(
            {
                "name": entry.name,
                "rows": len(entry.answers.rows),
                "labels": sum(map(len, entry.answers.labels)),
                "cells": [_cell(keyed.loc[(section, name)]) for section, name, _ in figures.SCORES],
                "unknown": sum(entry.scores.facts["unknown_words"]["predicted"].values()),
            }
        )
    return out


def _figures(comparison: ExpressComparison) -> list[dict[str, str]]:
    names = [entry.name for entry in comparison.entries]
    drawn = (
        ("headline", "Scores side by side", figures.headline(comparison.table, names)),
        ("radar", "Which emotions are heard", figures.radar(comparison.table, names)),
        (
            "confusion",
            "Which emotions are taken for which",
            figures.confusions([(e.name, e.scores.confusion) for e in comparison.entries]),
        ),
    )
    return [{"title": title, "html": _html(name, figure), "caption": CAPTIONS[name]} for name, title, figure in drawn]


def _html(name: str, figure: go.Figure) -> str:
    config = {"responsive": True, "displaylogo": False, "displayModeBar": "hover"}
    return figure.to_html(include_plotlyjs=False, full_html=False, div_id=f"figure-{name}", config=config)


def _difference_rows(differences: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {"entry": entry, "n": int(own["n"].iloc[0]), "cells": [_cell(row) for _, row in own.iterrows()]}
        for entry, own in differences.groupby("entry", sort=False)
    ]


def _cell(row: pd.Series) -> dict[str, float | None]:
    return {key: float(row[key]) if np.isfinite(row[key]) else None for key in ("value", "ci_low", "ci_high")}


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    plain = table.astype(object).where(table.notna(), None)
    return plain.to_dict("records")
