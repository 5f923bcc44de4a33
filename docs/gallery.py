"""The gallery: every figure of a run as a small picture, and the page that shows them with the call that draws each.

    python docs/gallery.py RUN [RUN ...] [--browser chromium]

Each figure is drawn of the first run that has it. Writes `docs/pages/gallery.md` and `docs/pages/gallery/NAME.png`,
which are committed. Needs a Chromium and Pillow.
"""

import argparse
import inspect
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

from interp import open_run
from interp.report.opened import Plots

PAGES = Path(__file__).with_name("pages")
WIDTH, COLOURS, MOST_BYTES = 760, 64, 60_000
HEAD = """# Gallery

Every figure of a report, as [`interp.open_run`](api/run.md) draws it in a notebook. The pictures are of {heading};
`python docs/gallery.py RUN` makes them of yours.

```python
from interp import open_run

run = open_run("runs/smollm2")
figure = run.plot.ladder()  # a plotly figure: restyle it, save it
figure.update_layout(width=900, font_family="serif")
run.plot.captions["ladder"]  # what it shows, with n, and how to read it
run.effects  # its table; run.columns("effects") says what the columns are
```
"""


def picture(figure, path: Path, browser: str) -> None:
    """A plotly figure as a PNG of few colours."""
    figure.update_layout(paper_bgcolor="white", plot_bgcolor="white", font_color="#444", width=WIDTH)
    height = int(figure.layout.height or 420)
    with tempfile.TemporaryDirectory() as folder:
        page, shot = Path(folder) / "page.html", Path(folder) / "shot.png"
        page.write_text(
            "<!doctype html><style>body{margin:0}</style>"
            + figure.to_html(
                full_html=False, include_plotlyjs=True, config={"displayModeBar": False, "staticPlot": True}
            )
        )
        words = [
            browser,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--hide-scrollbars",
            "--virtual-time-budget=8000",
        ]
        words += ["--disable-background-networking", f"--user-data-dir={folder}/profile", f"--screenshot={shot}"]
        subprocess.run([*words, f"--window-size={WIDTH},{height}", page.as_uri()], check=True, capture_output=True)
        image = Image.open(shot).convert("RGB")
        for colours in (COLOURS, 24, 12):
            image.quantize(colours, method=2).save(path, optimize=True)
            if path.stat().st_size <= MOST_BYTES:
                return
        raise SystemExit(f"{path} takes {path.stat().st_size} bytes, more than {MOST_BYTES}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--browser", default="chromium")
    given = parser.parse_args()
    browser = shutil.which(given.browser)
    if browser is None:
        raise SystemExit(f"no {given.browser} is here; name one with --browser")
    run, *others = map(open_run, given.runs)
    record = run.files.record
    (PAGES / "gallery").mkdir(exist_ok=True)
    parts = [HEAD.format(heading=f"{record['model']['name']} on {record['config']['corpora']['discover']['name']}")]
    missing = []
    for name, method in inspect.getmembers(Plots, inspect.isfunction):
        if name.startswith("_"):
            continue
        own = next((one for one in (run, *others) if name in one.plot.available), None)
        if own is None:
            missing.append(f"`run.plot.{name}()`: {inspect.getdoc(method).splitlines()[0]}")
            continue
        kinds = {"layer_phases": ("held", "used"), "circuit": (own.files.labels[0],)}.get(name, ("",))
        for kind in kinds:
            slug = f"{name}_{kind}".rstrip("_")
            call = f'run.plot.{name}("{kind}")' if kind else f"run.plot.{name}()"
            figure = getattr(own.plot, name)(*([kind] if kind else []))
            picture(figure, PAGES / "gallery" / f"{slug}.png", browser)
            said = inspect.getdoc(method).splitlines()[0]
            parts.append(
                f"## {slug.replace('_', ' ').capitalize()}\n\n`{call}`: {said}\n\n![{said}](gallery/{slug}.png)\n"
            )
    if missing:
        parts.append("## Not in this run\n\n" + "\n".join(f"- {line}" for line in missing) + "\n")
    (PAGES / "gallery.md").write_text("\n".join(parts))


if __name__ == "__main__":
    main()
