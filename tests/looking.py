"""What an eye would see in a drawn page: words cut off, words on one another, rows that cannot be read."""

from pathlib import Path
from typing import Any

FAULTS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def faults(page: Any) -> list[str]:
    """What is wrong with a page in Playwright, all figures drawn; a sentence each."""
    found: list[str] = page.evaluate(FAULTS)
    return found
