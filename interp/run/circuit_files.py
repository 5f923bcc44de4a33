"""Which files of a run are circuits, and whether they are of the run as it is now."""

from collections.abc import Mapping
from typing import Any

from interp.files.folder import fingerprint
from interp.run.tables import FILES

COMMAND = "circuit"
OUTPUTS = tuple(f.name for f in FILES.values() if f.command == COMMAND)
READS = ("examples.parquet", "effects.parquet")
"""What they depend on in a run: its texts and its causal features."""


def of_run(record: Mapping[str, Any]) -> str:
    """A hash of what circuits depend on, as `run.json` records it."""
    written: dict[str, Any] = {}
    for entry in record.get("stages", {}).values():
        written |= {name: file for name, file in entry.get("outputs", {}).items() if name in READS}
    return fingerprint(written)


def are_stale(record: Mapping[str, Any]) -> bool:
    """Whether circuits are there that were found before the run was changed."""
    found = record.get(COMMAND)
    return isinstance(found, dict) and found.get("of") != of_run(record)
