"""Files that commands of their own add to a finished run, and whether they are of the run as it is now."""

from collections.abc import Mapping
from typing import Any

from interp.files.folder import fingerprint
from interp.run.tables import FILES

READS = ("examples.parquet", "effects.parquet")
"""What such commands depend on in a run: its texts and its causal features."""


def outputs_of(command: str) -> tuple[str, ...]:
    """The files that a command adds."""
    return tuple(f.name for f in FILES.values() if f.command == command)


def of_run(record: Mapping[str, Any]) -> str:
    """A hash of what such commands depend on, as `run.json` records it."""
    written: dict[str, Any] = {}
    for entry in record.get("stages", {}).values():
        written |= {name: file for name, file in entry.get("outputs", {}).items() if name in READS}
    return fingerprint(written)


def stale(record: Mapping[str, Any]) -> list[str]:
    """Commands whose files are there, but were made before the run was changed."""
    now, commands = of_run(record), dict.fromkeys(f.command for f in FILES.values() if f.command)
    made = {name: record.get(name) for name in commands}
    return [name for name, entry in made.items() if isinstance(entry, dict) and entry.get("of") != now]
