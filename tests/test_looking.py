"""Feature cards, the token view, and tokens as a reader sees them."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import FAMILIES, build_model
from test_run import LABELS, interp, start, world  # noqa: F401

from interp import UserError, capture
from interp.analysis.cards import logit_weights
from interp.engine import ablate
from interp.files.folder import RunFolder
from interp.models.language_model import token_pieces
from interp.report.inspecting import inspection_page
from interp.run.config import config_of
from interp.run.inspecting import inspect, inspect_text
from interp.run.session import Session

TEXT = "The dog 🤢 lost <b>the letter</b>"


@pytest.fixture(scope="module")
def run(world, tmp_path_factory):  # noqa: F811
    return start(world, tmp_path_factory.mktemp("looking")).folder


@pytest.fixture(scope="module")
def session(run) -> Session:
    return Session(config_of(run), RunFolder(run))


@pytest.fixture(scope="module")
def cards(run) -> list[dict]:
    return json.loads((run / "cards.json").read_text())


# ---------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("text", ["Rain.", "The 🤢 cat", "مرحبا dog", "a  b\n\nc", ""])
def test_pieces_of_a_text_add_up_to_it(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = token_pieces(tokenizer, ids)
    assert len(pieces) == len(ids) and "".join(pieces) == text


def test_a_character_that_is_cut_in_two_does_not_swallow_the_rest(tokenizer):
    ids = tokenizer("🤢", add_special_tokens=False)["input_ids"][:2]
    assert len(token_pieces(tokenizer, ids)) == 2


# ---------------------------------------------------------------------------------------- feature cards


@pytest.mark.parametrize("family", FAMILIES)
def test_logit_weights_are_the_slope_of_the_read_out(tokenizer, family):
    model = build_model(family, tokenizer)
    torch.manual_seed(0)
    at, direction = torch.randn(32) * 3, torch.randn(32)
    step = 1e-2
    model.softcap = None  # a monotone map of all logits, which ranks of tokens do not see
    measured = (model.unembed(at + step * direction) - model.unembed(at - step * direction)) / (2 * step)
    torch.testing.assert_close(logit_weights(model, direction, at), measured, atol=2e-3, rtol=2e-3)


def test_every_emotion_has_cards_and_they_are_in_order(run, cards):
    effects = pd.read_parquet(run / "effects.parquet")
    assert [(c["layer"], c["feature"]) for c in cards] == sorted({(c["layer"], c["feature"]) for c in cards})
    known = {(c["layer"], c["feature"]) for c in cards}
    for label in LABELS:
        own = effects[(effects["emotion"] == label) & ~effects["control"] & (effects["role"] == "discover")]
        best = own.sort_values("effect", ascending=False).head(3)
        assert known & set(zip(best["layer"], best["feature"], strict=True))


def test_a_card_counts_what_the_features_file_holds(session, cards):
    rows = session.role("discover")
    gold = session.table["gold"].iloc[rows].to_numpy()
    for card in cards[:5]:
        acts = session.features(card["layer"]).acts[rows][:, [card["feature"]]].toarray()[:, 0]
        for entry in card["emotions"]:
            own = acts[gold == entry["emotion"]]
            assert entry["n"] == len(own) and entry["active"] == (own > 0).sum() == sum(entry["counts"])


def test_texts_of_a_card_are_those_of_highest_activation(session, cards):
    rows = session.role("discover")
    for card in cards[:5]:
        acts = session.features(card["layer"]).acts[rows][:, [card["feature"]]].toarray()[:, 0]
        last = [t["activations"][-1] for t in card["texts"]]  # the answer position
        expected = np.sort(acts[acts > 0])[::-1][: len(last)]
        np.testing.assert_allclose(last, expected, rtol=2e-3)
        for text in card["texts"]:
            assert text["activations"][0] == 0 and len(text["tokens"]) == len(text["activations"])
            assert "".join(text["tokens"]).endswith("Emotion:")


def test_neighbours_are_nearest_by_cosine(session, cards):
    card = cards[0]
    every = session.saes.directions(card["layer"])
    own = every[card["feature"]]
    cosines = torch.cosine_similarity(every, own[None])
    cosines[card["feature"]] = -1
    nearest = max((n for n in card["neighbours"] if n["layer"] == card["layer"]), key=lambda n: n["cosine"])
    assert nearest["feature"] == int(cosines.argmax()) and nearest["cosine"] == pytest.approx(
        cosines.max().item(), 1e-3
    )


# ---------------------------------------------------------------------------------------- token view


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
    assert found.cut > 0 and f"{found.cut:,} tokens of the text did not fit" in page
    assert "<b>the letter" not in page.replace("&lt;b&gt;", "") and "characters)" in page


@pytest.mark.parametrize("text", ["", "  \n"])
def test_an_empty_text_is_refused(run, text):
    with pytest.raises(UserError, match="empty"):
        inspect(run, text)


def test_a_run_that_has_not_been_traced_can_be_looked_into(world, run, tmp_path):  # noqa: F811
    record = json.loads((run / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert all(f.causal_for == [] for f in inspect(tmp_path, "The dog ran.").features)


def test_inspect_from_the_command_line(run, tmp_path):
    done = interp("inspect", str(run), "--text", TEXT, "--out", "page.html", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout == "page.html\n" and "features behind the answer" in done.stderr
    assert "\x1b[" not in done.stderr  # no colours where nobody looks
    told = interp("inspect", str(run), "--text", TEXT, "--json", cwd=tmp_path)
    found = json.loads(told.stdout)
    assert set(found["probabilities"]) >= {"plain"} and len(found["evidence"]) == 4
    wrong = interp("inspect", "nowhere", "--text", TEXT, cwd=tmp_path)
    assert wrong.returncode == 2 and "nowhere is no run folder" in wrong.stderr


def test_a_report_without_texts(run, tmp_path, monkeypatch, capsys):
    from interp.cli import main as cli

    text = pd.read_parquet(run / "examples.parquet")["text"]
    longest = max(text, key=len)[:12]
    monkeypatch.setattr(sys, "argv", ["interp", "plot", str(run), "--no-text"])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert not stopped.value.code
    assert longest not in (run / "report.html").read_text()
