"""The page to try a model on: its calls, what is shown beside them, errors where they are seen, and in Chromium."""

import contextlib
import gc
import io
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("gradio", reason="Gradio is not installed: pip install 'interp[app]'")
pytestmark = pytest.mark.filterwarnings("default")  # Gradio's and its server's

from interp.app import calls  # noqa: E402
from interp.app.page import build_page, look, told  # noqa: E402
from interp.app.serving import write_space  # noqa: E402
from interp.app.workbench import SideBySide, Workbench  # noqa: E402
from interp.errors import UserError  # noqa: E402
from interp.run.inspecting import inspect  # noqa: E402
from interp.steering import Steering  # noqa: E402
from interp.steering.generating import stream, written_ids  # noqa: E402

CHROMIUM = next((p for p in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if p), None)
TEXT = "The dog lost the letter."


@pytest.fixture(scope="module", autouse=True)
def _nothing_left_behind():
    """Gradio leaves event loops open: they are collected here, where nobody minds, and not in another file's tests."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def bench(finished) -> Workbench:
    bench = Workbench.open(finished)
    push = torch.randn(32, generator=torch.Generator().manual_seed(1))
    bench.steerable._whole["joy"] = Steering("additive", vectors={2: push})
    vars(bench.steerable).update(emotions=["joy"])  # whatever a random model's run found
    return bench


def test_a_look_is_that_of_inspect(bench, finished):
    ours, theirs = bench.look(TEXT), inspect(finished, TEXT)
    assert ours.answer == theirs.answer
    np.testing.assert_allclose(ours.evidence, theirs.evidence, atol=1e-5)
    assert [(f.layer, f.feature) for f in ours.features] == [(f.layer, f.feature) for f in theirs.features]


def test_steerings_are_mixed(bench):
    steering = bench.steering({"joy": 0.5}, {(1, 3): 2.0, (1, 5): 0.0, (2, 7): 1.0})
    torch.testing.assert_close(steering.vectors[2], 0.5 * bench.steerable.steering("joy", 1.0).vectors[2])
    assert steering.gains[1].features.tolist() == [3, 5]
    assert steering.gains[1].gains.tolist() == [2, 0]
    assert list(steering.gains) == [1]
    assert bench.steering({"joy": 0.0}, {(1, 3): 1.0}).layers == []
    for wrong, said in (
        ({"emotions": {"envy": 1}}, "envy"),
        ({"features": {(1, 9999): 2}}, "9999"),
        ({"features": {(1, 3): -1}}, "0 \\(removed\\) or more"),
    ):
        with pytest.raises(UserError, match=said):
            bench.steering(**wrong)


def test_both_texts_are_the_librarys(bench):
    steering = bench.steering({"joy": 1.0}, {(1, 3): 2.0})
    *parts, last = bench.side_by_side("The dog", steering, tokens=8)
    for text, own in ((last.plain, Steering("none")), (last.steered, steering)):
        assert text == list(stream(bench.model, "The dog", own, bench.saes, tokens=8))[-1]
    assert len(parts) >= 7
    assert not parts[0].done
    assert last.done
    ids = bench.model.ids("The dog")
    *_, written = written_ids(bench.model, "The dog", Steering("none"), tokens=8)
    with torch.no_grad():
        logs = bench.model.hf(torch.tensor([[*ids, *written]])).logits[0].log_softmax(-1)
    surprise = -np.mean([float(logs[len(ids) - 1 + k, token]) for k, token in enumerate(written)])
    assert last.plain_perplexity == pytest.approx(np.exp(surprise), rel=1e-3)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (SideBySide("a b c", "joy joy joy", 5.0, 2.0), "repeats 'joy'"),
        (SideBySide("a b c", "d e f", 5.0, 50.0), "10.0 times as surprising"),
        (SideBySide("a b c", "d e f", 5.0, 6.0), ""),
        (SideBySide("so so so", "joy joy joy", 5.0, 2.0), ""),
    ],
)
def test_broken_language_is_warned_of(written, said):
    assert said in written.warning
    assert bool(said) == bool(written.warning)


def test_a_dialogue_is_read_by_speaker_and_turn(bench):
    track = bench.dialogue("Anna: I lost it.\nBen: Rain.\nand more\n\nAnna: The dog!")
    assert [(t.speaker, t.words) for t in track.turns] == [
        ("Anna", "I lost it."),
        ("Ben", "Rain. and more"),
        ("Anna", "The dog!"),
    ]
    np.testing.assert_allclose(track.probabilities[0], bench.look("I lost it.").probabilities["plain"], atol=1e-4)
    context = bench.dialogue("Anna: I lost it.\nBen: Rain.", before=True)
    assert not np.allclose(context.probabilities[1], bench.dialogue("Ben: Rain.").probabilities[0])
    for wrong in ("", "nobody speaks", "A: x\n" * 200):
        with pytest.raises(UserError):
            bench.dialogue(wrong)


def test_every_feature_has_a_card(bench):
    written = bench.card(1, 3)
    assert len(written.promotes) == len(written.suppresses) == 10
    assert written.promotes[0][1] >= written.promotes[-1][1] >= written.suppresses[0][1]
    with pytest.raises(UserError):
        bench.card(1, 99_999)


@pytest.mark.parametrize("to", ["interp", "hf"])
def test_a_steering_is_saved_and_exported(bench, tmp_path, to):
    steering = bench.steering({"joy": 0.5}, {(1, 3): 2.0})
    bench.export(steering, to, tmp_path / "out")
    assert list((tmp_path / "out").iterdir())
    if to == "interp":
        again = Steering.load(tmp_path / "out")
        first, second = ([*bench.side_by_side("The dog", s, tokens=6)][-1] for s in (steering, again))
        assert first == second
    with pytest.raises(UserError, match="move a slider"):
        bench.export(bench.steering(), to, tmp_path / "none")


def test_the_calls_beside_the_page_run(bench, tmp_path, monkeypatch):
    """What is shown is what is done: each call is executed as it stands, with the bench that is open already."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Workbench, "open", classmethod(lambda cls, name: bench))
    steering = calls.steering_call(bench, {"joy": 0.4}, {(1, 3): 2.0}, None)
    for call in (
        calls.look_call(bench, TEXT),
        calls.card_call(bench, 1, 3),
        calls.dialogue_call(bench, 'A: it\'s "lost"\nB: yes', True),
        calls.write_call(steering, "The dog", 3, 0.5, 1),
        calls.export_call(steering, "interp"),
    ):
        with contextlib.redirect_stdout(io.StringIO()) as said:
            exec(call, {})
        assert said.getvalue() or "export" in call
    assert (tmp_path / "steering-interp" / "steering.json").is_file()


def test_errors_are_told_where_one_looks(caplog):
    @told(2)
    def handler(what):
        if what == "user":
            raise UserError("The <text> is empty.")
        if what == "ours":
            raise ZeroDivisionError
        yield 1, 2

    assert list(handler("fine")) == [[1, 2, ""]]
    ((*skipped, said),) = handler("user")
    assert said == "The &lt;text&gt; is empty."
    assert len(skipped) == 2
    assert "our fault (ZeroDivisionError)" in next(handler("ours"))[-1]


def test_a_space_has_no_text_of_a_corpus(finished, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="folder of this machine"):
        write_space(str(finished), tmp_path / "space")
    write_space("tiny", tmp_path / "space")
    assert {p.name for p in (tmp_path / "space").iterdir()} == {"app.py", "requirements.txt", "README.md"}
    app = (tmp_path / "space" / "app.py").read_text()
    assert "Workbench.open('tiny')" in app
    compile(app, "app.py", "exec")
    assert "sdk: gradio" in (tmp_path / "space" / "README.md").read_text()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    with pytest.raises(UserError, match="holds other files"):
        write_space("tiny", tmp_path / "mine")


def test_a_run_opens_again_from_its_space(finished, tmp_path, monkeypatch):
    """With the emotions' pushes made beforehand, and without examples, activations or cards."""
    from interp.app import serving

    monkeypatch.setattr(
        serving.Path, "exists", lambda self, real=Path.exists: False if self.name == "model" else real(self)
    )
    space = write_space(str(finished), tmp_path / "space")
    monkeypatch.undo()
    kept = {p.relative_to(space / "run").parts[0] for p in (space / "run").rglob("*") if p.is_file()}
    assert kept <= {"run.json", "effects.parquet", "steering.json", "steering.safetensors", "emotions"}
    words = json.dumps([p.read_text(errors="ignore") for p in space.rglob("*.json")])
    assert "Nobody" not in words
    again, before = Workbench.open(space / "run"), Workbench.open(finished)
    assert again.emotions == before.emotions
    assert again.look(TEXT).answer == before.look(TEXT).answer


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (Debian: apt install chromium)")
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_the_page_in_chromium(bench, tmp_path, width, scheme):
    from playwright.sync_api import expect, sync_playwright

    page = build_page(bench)
    _, address, _ = page.queue().launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", **look())
    flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    try:
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=CHROMIUM, args=flags)
            view = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            view.set_default_timeout(30_000)
            outside: list[str] = []
            view.on("request", lambda r: r.url.startswith((address, "data:", "blob:")) or outside.append(r.url))
            view.goto(address)
            view.locator("#text textarea").fill("")
            view.get_by_role("button", name="Read", exact=True).click()
            expect(view.locator(".said", has_text="The text is empty").first).to_be_visible()
            view.locator("#text textarea").fill(TEXT)
            view.get_by_role("button", name="Read", exact=True).click()
            expect(view.locator("#evidence .main-svg").first).to_be_visible()
            expect(view.locator("#look-code")).to_contain_text("bench.look")
            view.screenshot(path=tmp_path / "read.png", full_page=True)
            view.get_by_role("tab", name="Steer").click()
            view.locator("#push-joy input[type=number]").fill("1")
            view.locator("#push-joy input[type=number]").press("Tab")
            view.get_by_role("button", name="Write").click()
            expect(view.locator("#perplexity")).to_contain_text("Perplexity")
            assert view.locator("#steered textarea").input_value() != view.locator("#plain textarea").input_value()
            expect(view.locator("#write-code")).to_contain_text("'joy': 1.0")
            view.screenshot(path=tmp_path / "steer.png", full_page=True)
            view.get_by_role("tab", name="Dialogue").click()
            view.get_by_role("button", name="Read the dialogue").click()
            expect(view.locator("#track .main-svg").first).to_be_visible()
            view.screenshot(path=tmp_path / "dialogue.png", full_page=True)
            assert [url for url in outside if "cdnjs" not in url] == []
            assert view.evaluate("document.documentElement.scrollWidth") <= width
            browser.close()
    finally:
        page.close()
