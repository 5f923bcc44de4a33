"""What an eye would see in a drawn page: words cut off, words on one another, rows that cannot be read."""

import shutil
from pathlib import Path
from typing import Any

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
FAULTS = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def opened(browser: Any, path: Path, width: int = 1600, scheme: str = "light") -> Any:
    """The page with all of it drawn, and what it said on the console."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or page.said.append(r.url))
    page.goto(path.as_uri())
    page.evaluate("drawAll()")
    return page


def faults(page: Any) -> list[str]:
    """What is wrong with a page in Playwright, all figures drawn; a sentence each."""
    found: list[str] = page.evaluate(FAULTS)
    return found
