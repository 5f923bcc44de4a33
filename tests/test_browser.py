"""Pages in headless Chromium: everything drawn, nothing said on the console, tables and cards that work."""

import base64
import csv
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_runs import make_run
from looking import CHROMIUM, FLAGS, opened

from interp.report import write_report

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)"),
]
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
