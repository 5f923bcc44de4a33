"""Feature cards: what a feature writes, where it fires, and its neighbours."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import FAMILIES, build_model
from worlds import LABELS

from interp.analysis.cards import logit_weights


@pytest.fixture(scope="module")
def cards(finished) -> list[dict]:
    return json.loads((finished / "cards.json").read_text())


@pytest.mark.parametrize("family", FAMILIES)
def test_logit_weights_are_the_slope_of_the_read_out(tokenizer, family):
    model = build_model(family, tokenizer)
    torch.manual_seed(0)
    at, direction = torch.randn(32) * 3, torch.randn(32)
    step = 1e-2
    model.softcap = None  # a monotone map of all logits, which ranks of tokens do not see
    measured = (model.unembed(at + step * direction) - model.unembed(at - step * direction)) / (2 * step)
    torch.testing.assert_close(logit_weights(model, direction, at), measured, atol=2e-3, rtol=2e-3)


def test_every_emotion_has_cards_and_they_are_in_order(finished, cards):
    effects = pd.read_parquet(finished / "effects.parquet")
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
