"""A page from what it holds: one template, one style, one script; self-contained and the same bytes each time."""

import json
from functools import cache, singledispatch
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from interp.files.folder import writing
from interp.files.jsonable import jsonable
from interp.report.contents import SCHEMA_VERSION, Page, PageFigure, PageTable
from interp.report.looks import colours
from interp.report.narrow import narrow_layout, width_needed
from interp.report.terms import explained
from interp.resources import PACKAGE

DIGITS = 5
"""Significant digits of a table's and a card's fractions."""


def write_page(path: Path, page: Page) -> Path:
    """Writes a page and returns its path."""
    with writing(path) as part:
        part.write_text(render(page), encoding="utf-8")
    return path


def render(page: Page) -> str:
    """The page as HTML, which needs no network; all texts are escaped."""
    return _template().render(
        page=page,
        sections=[s for s in page.sections if s.figures or s.tables],
        terms=explained(_said_first(page)),
        colours=colours(page.labels),
        schema=SCHEMA_VERSION,
    )


def _said_first(page: Page) -> list[str]:
    """What stands on the first screen, by which it is known which words to explain."""
    scores = ["macro-F1 [0" for r in page.recognised if r.macro_f1]
    return [*scores, *(r.verdict for r in page.recognised), *(s.words for s in page.answer)]


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["embedded"] = embedded
    environment.globals |= {
        "plotly": Markup(get_plotlyjs()),
        "style": Markup(_asset("page.css")),
        "script": Markup(_asset("page.js")),
    }
    return environment.from_string(_asset("template.html"))


def _asset(name: str) -> str:
    return (PACKAGE / "report" / name).read_text(encoding="utf-8")


def embedded(value: Any) -> Markup:
    """JSON as it may stand in a script element: without `<`, nothing in it can end the element or begin a comment."""
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


@singledispatch
def _plain(value: Any) -> Any:
    return jsonable(value, DIGITS)


@_plain.register
def _(table: PageTable) -> dict[str, Any]:
    shown = {"name": table.name, "columns": table.columns, "rows": table.rows, "strong": table.strong}
    return {key: jsonable(value, DIGITS) for key, value in shown.items()}


@_plain.register
def _(figure: PageFigure) -> dict[str, Any]:
    """What plotly draws: data, the layout for a wide page, and that for a plot of fewer than `least` pixels."""
    whole = json.loads(str(figure.figure.to_json()))
    narrow = json.loads(json.dumps(narrow_layout(figure.figure), cls=PlotlyJSONEncoder))
    return {"data": whole["data"], "layout": whole["layout"], "narrow": narrow, "least": width_needed(figure.figure)}
