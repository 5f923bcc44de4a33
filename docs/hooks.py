"""Small repairs and additions to generated Markdown, for MkDocs' `hooks`."""

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from interp.run import tables
from interp.run.fields import config_fields
from interp.run.pipeline import STAGES

sys.path.append(str(Path(__file__).parent))

from picture import picture

USAGE = re.compile(r"^Usage: (interp .+)$", re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
TABLE = "<!-- fields of the config -->"
PICTURE, STAGES_TABLE = "<!-- picture of the packages -->", "<!-- stages of a run -->"
RUN_FILES = "<!-- files of a run -->"
COLUMNS = re.compile(r"<!-- (?:columns|arrays|keys) of (\S+) -->")
WORDS = {
    "config.quantization": "quantization",
    "frame": "chat frame",
    "sae_identity": "SAEs",
    "model_identity": "model",
}
"""What sources of stages are called, where it is not their name."""


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    for comment, make in {PICTURE: picture, STAGES_TABLE: stages_table}.items():
        if comment in markdown:
            markdown = markdown.replace(comment, make())
    if page.file.src_uri == "commands.md":
        return USAGE.sub(r"Usage: `\1`", markdown).replace(TABLE, config_table())
    if page.file.src_uri == "howto/run-folder.md":
        return COLUMNS.sub(lambda m: columns_table(tables.FILES[m[1]]), markdown.replace(RUN_FILES, files_table()))
    return markdown


def files_table() -> str:
    """One row per file of a run folder, in the order in which they are made."""
    lines = ["| file | holds | stage |", "|---|---|---|"]
    lines += [f"| `{f.name}` | {f.holds} | {_maker(f)} |" for f in tables.FILES.values()]
    return "\n".join([*lines, "| `report.html` | the report; opens offline | at the end |"])


def _maker(file: tables.FileSchema) -> str:
    return f"`interp {file.command}`" if file.command else file.stage or "from the start"


def columns_table(file: tables.FileSchema) -> str:
    """What a row is, and one line per column, array or key."""
    name = {".parquet": "column", ".json": "key"}.get(Path(file.name).suffix, "array")
    lines = [f"One row per {file.rows}.", ""] if file.rows and name == "column" else []
    lines += [f"| {name} | is | unit | type |", "|---|---|---|---|"]
    for c in file.columns:
        kind = f"{c.kind}, or missing" if c.missing else c.kind
        lines.append(f"| `{c.name}` | {c.meaning.replace('|', '&#124;')} | {c.unit} | {kind} |")
    return "\n".join(lines)


def stages_table() -> str:
    """One row per stage of a run, as it declares itself, in the order in which they run."""
    lines = ["| stage | after | writes | runs again when these change |", "|---|---|---|---|"]
    for stage in STAGES:
        writes = [name for name in stage.outputs if not name.startswith("units/")]
        depends = [*stage.fields, *(WORDS.get(name, name.replace("_", " ")) for name in stage.sources)]
        cells = (
            f"`{stage.name}`",
            ", ".join(stage.needs),
            ", ".join(f"`{name}`" for name in writes),
            ", ".join(depends),
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def config_table() -> str:
    """One row per field of the configuration tree: flag, default, what its docstring says, and the words it takes."""
    lines = ["| flag | default | means |", "|---|---|---|"]
    for field in config_fields():
        choice = f" One of {', '.join(f'`{w}`' for w in field.words)}." if len(field.words) > 1 else ""
        default = f"`{field.default}`" if field.default else ""
        cells = (f"`--{field.key}`", default, (field.means + choice).strip())
        lines.append("| " + " | ".join(map(_cell, cells)) + " |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    """HTML, since Markdown cannot hold a bar in the code of a table."""
    return CODE.sub(r"<code>\1</code>", escape(text, quote=False)).replace("|", "&#124;")
