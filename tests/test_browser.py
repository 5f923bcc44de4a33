"""Pages in headless Chromium: everything drawn, nothing said on the console, tables and cards that work."""

import base64
import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_pages import write_pages
from fake_runs import make_run
from looking import faults

from interp.report import write_report

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)"),
]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
LABELS = ("anger", "disgust", "fear", "joy")
HOSTILE = "<img src=x onerror=alert(1)> </script> 🤢 مرحبا שלום & \"quoted\" 'text' " + "long " * 900
PAINTED = """async png => {
  const image = new Image();
  image.src = "data:image/png;base64," + png;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height), context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const bytes = context.getImageData(0, 0, image.width, image.height).data;
  let other = 0;
  for (let i = 0; i < bytes.length; i += 4)
    other += Math.abs(bytes[i] - bytes[0]) + Math.abs(bytes[i + 1] - bytes[1]) + Math.abs(bytes[i + 2] - bytes[2]) > 24;
  return other / (bytes.length / 4);
}"""
"""Share of an image's pixels that differ from its first one."""


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    return write_report(make_run(tmp_path_factory.mktemp("run"), labels=LABELS, traced=30, text=HOSTILE))


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    return write_pages(tmp_path_factory.mktemp("pages"))


def opened(browser, path: Path, width: int = 1600, scheme: str = "light"):
    """The page with all of it drawn, and what it said on the console."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.said = []
    page.on("console", lambda message: page.said.append(message.text))
    page.on("pageerror", lambda error: page.said.append(str(error)))
    page.on("request", lambda r: r.url.startswith(("file:", "data:", "blob:")) or page.said.append(r.url))
    page.goto(path.as_uri())
    page.evaluate("drawAll()")
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1600, 400])
def test_every_figure_is_drawn_and_nothing_is_said(browser, report, width, scheme):
    page = opened(browser, report, width, scheme)
    plots = page.locator(".plot[id]")
    assert plots.count() == 15
    for i in range(plots.count()):
        plot = plots.nth(i)
        assert plot.locator(".main-svg").count() >= 1, plot.get_attribute("id")
        picture = base64.b64encode(plot.screenshot()).decode()
        assert page.evaluate(PAINTED, picture) > 0.004, f"{plot.get_attribute('id')} is blank"
    assert page.said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


KINDS = ("report", "compare", "express", "reliability", "inspect")


@pytest.mark.parametrize(
    ("kind", "width"),
    [*((kind, width) for kind in KINDS for width in (1400, 400)), ("report", 700), ("reliability", 700)],
)
def test_nothing_is_cut_off_and_no_words_lie_on_others(browser, pages, kind, width):
    page = opened(browser, pages[kind], width)
    page.evaluate("switches.forEach(s => s.all()); drawAll()")
    page.wait_for_timeout(150)
    assert page.locator(".plot[id] .main-svg").count() > 0
    assert faults(page) == []
    assert page.said == []
    page.close()


def test_faults_are_found(browser, pages):
    """The eyes of the test above are open."""
    page = opened(browser, pages["reliability"], 400)
    assert faults(page) == []
    page.evaluate("$('.ytick text').textContent = 'word '.repeat(60)")
    assert any("is cut off" in fault for fault in faults(page))
    page.evaluate("const [, a, b] = $$('.ytick text'); b.setAttribute('transform', a.getAttribute('transform'));")
    assert any("lies on" in fault for fault in faults(page))
    page.evaluate("$('#table-measures tbody td').textContent = 'w'.repeat(90); $('main').style.width = '900px'")
    assert any("the page is" in fault for fault in faults(page))
    page.close()


@pytest.mark.parametrize("kind", KINDS)
def test_all_pages_have_one_look(browser, pages, kind):
    """The toolbar is there on hover alone and shows the page behind it; heat maps have no grid; light and dark."""
    page = opened(browser, pages[kind])
    fonts = page.evaluate(
        "[...document.querySelectorAll('.main-svg text')].map(t => getComputedStyle(t).fontFamily.split(',')[0])"
    )
    assert set(fonts) == {"system-ui"}
    bars = page.locator(".modebar-container, .modebar")
    assert bars.count() > 0
    look = page.evaluate("[...document.querySelectorAll('.modebar')].map(m => getComputedStyle(m).opacity)")
    assert set(look) == {"0"}
    behind = page.evaluate(
        "[...document.querySelectorAll('.modebar-group')].map(m => getComputedStyle(m).backgroundColor)"
    )
    assert set(behind) == {"rgba(0, 0, 0, 0)"}
    grids = page.evaluate(
        """[...figureOf.values()].flatMap(f => f.data.filter(t => t.type === "heatmap").flatMap(t => ["x", "y"].map(k =>
           f.layout[(t[k + "axis"] || k).replace(k, k + "axis")].showgrid)))"""
    )
    assert True not in grids
    assert page.locator("nav a").count() > 0
    dark = opened(browser, pages[kind], scheme="dark")
    assert dark.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 20, 25)"
    ink = dark.evaluate("getComputedStyle(document.querySelector('.main-svg text')).fill")
    assert ink == "rgb(154, 164, 175)"
    assert page.said == dark.said == []
    page.close()
    dark.close()


def test_a_table_that_goes_on_says_so_and_keeps_its_first_column(browser, pages):
    page = opened(browser, pages["compare"], 400)
    box = page.locator("#table-why")
    frame, scroll = box.locator(".frame"), box.locator(".scroll")
    page.wait_for_timeout(150)
    assert "on" in frame.get_attribute("class").split()
    before = box.locator("tbody td").first.bounding_box()["x"]
    scroll.evaluate("s => { s.scrollLeft = s.scrollWidth; }")
    page.wait_for_timeout(150)
    assert box.locator("tbody td").first.bounding_box()["x"] == pytest.approx(before, abs=1.5)
    assert frame.get_attribute("class").split() == ["frame", "off"]
    page.close()


def test_pages_name_models_and_warn_of_few_texts(pages):
    for kind in ("compare", "express", "reliability"):
        text = pages[kind].read_text(encoding="utf-8")
        head = text[text.index("<h1>") : text.index("<section id=")]
        assert "a-model-of-some-length-1.7b-instruct" in head, kind
        assert "Few " in head, kind
        assert "/somewhere/" not in head


def test_tables_sort_filter_turn_pages_and_download(browser, report, tmp_path):
    page = opened(browser, report)
    box = page.locator("#table-effects")
    first = box.locator("tbody tr").first
    assert box.locator("tbody tr").count() == 20
    assert "120 of 120 rows, page 1 of 6" in box.inner_text()
    box.get_by_title("next page").click()
    assert "page 2 of 6" in box.inner_text()
    box.locator("th", has_text="effect (nats)").click()
    assert first.locator("td").nth(4).inner_text().startswith("1.000")
    box.locator("th", has_text="effect (nats)").click()
    assert first.locator("td").nth(4).inner_text().startswith("0.033")
    box.locator("input").fill("fear control")
    assert box.locator("tbody tr").count() == 2
    assert first.locator("td").nth(2).inner_text() == "fear"
    box.locator("input").fill("effect > 0.4")
    assert "8 of 120 rows" in box.inner_text()
    with page.expect_download() as waiting:
        box.get_by_text("CSV").click()
    waiting.value.save_as(tmp_path / "effects.csv")
    lines = list(csv.reader((tmp_path / "effects.csv").read_text().splitlines()))
    assert lines[0][:2] == ["layer", "feature"]
    assert len(lines) == 9
    assert page.said == []
    page.close()


def test_a_feature_card_opens_from_the_table_and_from_the_plot(browser, report):
    page = opened(browser, report)
    page.locator("#table-effects td button").first.click()
    card = page.locator("#card")
    assert card.is_visible()
    assert card.locator("h2").inner_text() == "Layer 0, feature 0"
    assert card.locator(".main-svg").count() >= 1
    text = card.locator(".tokens")
    assert "more tokens" in text.inner_text()
    assert "<img" not in text.inner_text()
    text.locator("button").click()
    assert text.inner_text().startswith("<img src=x onerror=alert(1)> </script> 🤢 مرحبا")
    card.locator(".close").click()
    assert not card.is_visible()
    page.evaluate("document.querySelector('#figure-ladder').emit('plotly_click', {points: [{customdata: [1, 1]}]})")
    assert card.is_visible()
    assert card.locator("h2").inner_text() == "Layer 1, feature 1"
    assert card.get_by_text("on Neuronpedia").get_attribute("href").startswith("https://www.neuronpedia.org/")
    assert page.said == []
    page.close()


def test_the_switch_and_the_theme(browser, report):
    page = opened(browser, report)
    causal, holds = page.locator("#layers-causal"), page.locator("#layers-representational")
    page.locator(".switch").first.get_by_text("what the answer uses").click()
    assert causal.is_visible()
    assert not holds.is_visible()
    page.locator(".switch").first.get_by_text("all").click()
    assert causal.is_visible()
    assert holds.is_visible()
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    assert page.said == []
    page.close()


def test_printing_draws_everything_and_shows_whole_tables(browser, report):
    page = opened(browser, report)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#table-signals tbody tr").count() == 40
    assert page.pdf()[:4] == b"%PDF"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#table-signals tbody tr").count() == 20
    page.close()


def test_runs_that_are_odd_say_nothing_either(browser, tmp_path):
    odd = make_run(tmp_path / "odd", labels=("envy",), layers=1, causal=False)
    begun = make_run(tmp_path / "begun")
    for file in begun.iterdir():
        if file.name != "run.json":
            file.unlink()
    for folder in (odd, begun):
        page = opened(browser, write_report(folder), 400)
        assert page.said == []
        assert page.locator("h1").is_visible()
        page.close()


def test_a_large_report_opens_soon(browser, tmp_path):
    six = ("anger", "disgust", "fear", "joy", "sadness", "surprise")
    make_run(tmp_path, labels=six, layers=26, examples=5000, traced=384, text="word " * 1000)
    path = write_report(tmp_path)
    page = browser.new_page()
    began = time.perf_counter()
    page.goto(path.as_uri(), wait_until="load")
    page.locator("#figure-layers-representational .main-svg").first.wait_for()
    assert time.perf_counter() - began < 10  # for busy machines; not a measurement
    page.close()
