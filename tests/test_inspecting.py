"""One text, token by token: evidence at every layer, and features behind the answer."""

import json

import numpy as np
import pytest
from worlds import LABELS, shell

from interp import UserError, capture
from interp.engine import ablate
from interp.report.inspecting import inspection_page
from interp.run.inspecting import inspect, inspect_text

TEXT = "The dog 🤢 lost <b>the letter</b>"


def test_effects_of_one_text_are_those_of_the_engine(session):
    found = inspect_text(session, TEXT)
    captured = capture(session.model, session.prompts([TEXT]), answers=LABELS, keep_cache=True)
    target = int(captured.answer_logits[0].argmax())
    assert found.answer == LABELS[target]
    np.testing.assert_allclose(found.probabilities["plain"], captured.answer_logits[0].softmax(-1), atol=1e-5)
    assert found.features
    for f in found.features:
        logits = ablate(session.model, session.saes, captured, layer=f.layer, features=[f.feature])[0, 0]
        clean = captured.answer_log_probabilities[0, target]
        assert f.effect == pytest.approx((clean - logits.log_softmax(-1)[target]).item(), abs=1e-4)
        np.testing.assert_allclose(f.without, logits.softmax(-1), atol=1e-4)


def test_evidence_at_the_last_layer_and_token_is_the_answer(session):
    found = inspect_text(session, TEXT)
    n_layers = session.model.n_layers
    assert found.evidence.shape == (n_layers, len(found.tokens), len(LABELS))
    np.testing.assert_allclose(found.evidence[-1, -1], found.probabilities["plain"], atol=1e-4)
    np.testing.assert_allclose(found.evidence.sum(-1), 1, atol=1e-5)


def test_the_page_escapes_the_text_and_says_what_was_cut(session):
    found = inspect_text(session, TEXT * 60)
    page = inspection_page(found, "small")
    assert found.cut > 0
    assert f"{found.cut:,} tokens of the text did not fit" in page
    assert "<b>the letter" not in page.replace("&lt;b&gt;", "")
    assert "characters)" in page


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(finished, text):
    with pytest.raises(UserError, match="empty"):
        inspect(finished, text)


def test_a_run_that_has_not_been_traced_can_be_looked_into(finished, tmp_path):
    record = json.loads((finished / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert all(f.causal_for == [] for f in inspect(tmp_path, "The dog ran.").features)


def test_inspect_from_the_command_line(finished, tmp_path):
    done = shell("inspect", str(finished), "--text", TEXT, "--out", "page.html", cwd=tmp_path)
    assert done.returncode == 0
    assert done.stdout == "page.html\n"
    assert "features behind the answer" in done.stderr
    assert "\x1b[" not in done.stderr  # no colours where nobody looks
    told = shell("inspect", str(finished), "--text", TEXT, "--json", cwd=tmp_path)
    found = json.loads(told.stdout)
    assert set(found["probabilities"]) >= {"plain"}
    assert len(found["evidence"]) == 4
    assert found["page"] == str(finished / "inspect.html")
    wrong = shell("inspect", "nowhere", "--text", TEXT, cwd=tmp_path)
    assert wrong.returncode == 2
    assert "nowhere is no run folder" in wrong.stderr
