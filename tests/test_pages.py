"""Every kind of page in headless Chromium, wide and narrow: nothing cut off, nothing on something else, one look."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_pages import write_pages
from looking import CHROMIUM, FLAGS, faults, opened

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, Path]:
    return write_pages(tmp_path_factory.mktemp("pages"))


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
