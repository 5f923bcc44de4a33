"""Features of two models matched on the same texts: planted ones are found, chance gives what chance gives."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array

from interp.analysis import matching
from interp.analysis.matching import Causes, TextFeatures, by_emotion, held_out, match_features
from interp.analysis.similarity import similarity, similarity_table

TEXTS = 120
PLANTED = 12


def sparse(rng: np.random.Generator, n: int, rate: float = 0.2, texts: int = TEXTS) -> np.ndarray:
    """Activations with the heavy tail and the zeros of an autoencoder's."""
    return rng.exponential(1.0, (texts, n)) ** 1.5 * (rng.random((texts, n)) < rate)


def stack(*layers: np.ndarray) -> TextFeatures:
    return TextFeatures.of({3 * k: csr_array(acts) for k, acts in enumerate(layers)})


@pytest.fixture(scope="module")
def planted():
    """Two models of two layers of 40 features; the first twelve of layer 3 of the one are in layer 0 of the other."""
    rng = np.random.default_rng(0)
    shared = sparse(rng, PLANTED)
    noisy = shared * rng.uniform(0.7, 1.3, shared.shape)
    one = [sparse(rng, 40), np.hstack([shared, sparse(rng, 28)])]
    other = [np.hstack([sparse(rng, 28), 5 * noisy[:, ::-1]]), sparse(rng, 40)]
    return stack(*one), stack(*other)


def test_planted_features_are_found_all_and_alone_where_they_are(planted):
    one, other = planted
    found = match_features(one, other, permutations=30).features
    universal = found[found["universal"]]
    assert set(universal["layer"]) == {3}
    assert sorted(universal["feature"]) == list(range(PLANTED))
    assert (universal["layer_beside"] == 0).all()
    np.testing.assert_array_equal(universal["feature_beside"], 28 + PLANTED - 1 - universal["feature"])
    assert (universal["correlation"] > 0.9).all()
    assert (universal["held_out"] > 0.85).all()


def test_layers_that_share_features_stand_out_of_the_floor(planted):
    layers = match_features(*planted, permutations=10).layers.set_index(["layer", "layer_beside"])
    excess = layers["correlation"] - layers["floor"]
    assert excess.idxmax() == (3, 0)
    assert excess[3, 0] > 0.1
    assert excess.drop((3, 0)).abs().max() < 0.03


def test_correlations_are_those_of_numpy_and_the_partner_is_the_best(planted):
    one, other = planted
    found = match_features(one, other, permutations=3).features
    both = np.corrcoef(one.scores.T, other.scores.T)[: len(one.layers), len(one.layers) :]
    np.testing.assert_allclose(found["correlation"], both.max(1), atol=1e-5)
    best = both.argmax(1)
    np.testing.assert_array_equal(found["feature_beside"], other.features[best])
    own = one.layers[:, None] == one.layers[None]
    back = np.where(own, both[:, best].T, -np.inf).argmax(1)  # of the features of its layer, the partner's best
    np.testing.assert_array_equal(found["mutual"], back == np.arange(len(best)))


def test_blocks_of_rows_give_the_same_matches(planted, monkeypatch):
    whole = match_features(*planted, permutations=4)
    monkeypatch.setattr(matching, "ROWS", 7)
    parts = match_features(*planted, permutations=4)
    pd.testing.assert_frame_equal(parts.features, whole.features, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(parts.chance, whole.chance)


def test_chance_gives_p_below_a_level_as_often_as_the_level_says_and_no_match():
    p, q, fresh = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        rates = rng.choice([0.06, 0.2, 0.9])
        one, other = (stack(sparse(rng, 60, rates), sparse(rng, 60, 0.3)) for _ in range(2))
        found = match_features(one, other, permutations=20, seed=seed).features
        p.append(found["p"].to_numpy())
        q.append((found["q"] < 0.05).any())
        fresh.append(found["held_out"].mean())
    p = np.concatenate(p)
    for level in (0.05, 0.01):
        error = 4 * np.sqrt(level * (1 - level) / len(p))
        assert abs((p < level).mean() - level) < error + 0.2 * level
    assert np.mean(q) <= 0.25  # twelve worlds at 5 %: four or more in one of 400
    assert abs(np.mean(fresh)) < 0.02


def test_held_out_correlations_do_not_gain_by_the_choice_of_the_partner():
    rng = np.random.default_rng(1)
    one, other = stack(sparse(rng, 50)), stack(sparse(rng, 400))
    found = match_features(one, other, permutations=3).features
    assert found["correlation"].mean() > 0.3
    assert abs(held_out(one, other, np.zeros(TEXTS, int), np.random.default_rng(0)).whole.mean()) < 0.04


def test_within_emotions_only_what_is_more_than_the_emotion_is_left():
    rng = np.random.default_rng(2)
    gold = np.arange(TEXTS) % 3
    by_gold = (gold == 1)[:, None] * 3.0 + rng.random((TEXTS, 1))
    more = sparse(rng, 1, 0.5)
    one = stack(np.hstack([by_gold, more]))
    other = stack(np.hstack([(gold == 1)[:, None] * 2.0 + rng.random((TEXTS, 1)), 2 * more]))
    found = match_features(one, other, groups=gold, permutations=5).features.set_index("feature")
    assert found.loc[0, "correlation"] > 0.8
    assert abs(found.loc[0, "within"]) < 0.25
    assert found.loc[1, "within"] > 0.99


def test_causal_features_and_their_partners_causes_are_counted(planted):
    one, other = planted
    matches = match_features(one, other, permutations=20)
    partner = 28 + PLANTED - 1
    causes = Causes(
        causal={(3, 0): ["joy"], (3, 1): ["joy"], (0, 5): ["joy"], (3, 2): ["fear"]},
        causal_beside={(0, partner): ["joy"], (0, partner - 2): ["joy"]},
        controls={"joy": {(0, 1), (0, 2), (3, 3)}},
    )
    table = by_emotion(matches, other, ["joy", "fear", "anger"], causes).set_index("emotion")
    joy = table.loc["joy"]
    assert joy["n_causal"] == 3
    assert joy["universal"] == pytest.approx(2 / 3)
    assert joy["ci_low"] < 2 / 3 < joy["ci_high"]
    assert joy["universal_controls"] == pytest.approx(1 / 3)
    assert joy["same"] == pytest.approx(1 / 3)
    assert joy["same_floor"] < 0.1
    assert table.loc["fear", "universal"] == 1
    assert table.loc["fear", "same"] == 0
    assert np.isnan(table.loc["anger", ["universal", "same", "p"]].to_numpy(float)).all()


def test_rare_and_constant_features_are_not_matched():
    rng = np.random.default_rng(3)
    acts = np.hstack([sparse(rng, 3), np.full((TEXTS, 1), 2.0), np.zeros((TEXTS, 1))])
    acts[:, 2] = 0
    acts[:4, 2] = 1
    assert TextFeatures.of({7: csr_array(acts)}).features.tolist() == [0, 1]


@pytest.mark.parametrize(("texts", "beside", "permutations"), [(120, 119, 5), (19, 19, 5), (120, 120, 2)])
def test_other_texts_or_too_few_are_refused(texts, beside, permutations):
    rng = np.random.default_rng(4)
    one, other = stack(sparse(rng, 5, 0.9, texts)), stack(sparse(rng, 5, 0.9, beside))
    with pytest.raises(ValueError, match="expected"):
        match_features(one, other, permutations=permutations)


# ------------------------------------------------------------------------------- layers as wholes


def test_cka_sees_through_rotation_and_scale_and_is_zero_between_strangers():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(60, 200))  # fewer texts than dimensions: the plain estimate would say 0.77 to strangers
    turned = 3 * x @ np.linalg.qr(rng.normal(size=(200, 200)))[0] + 100
    strangers = [rng.normal(size=(60, 200)) for _ in range(20)]
    found = similarity([x], [turned, *strangers])
    assert found[0, 0] == pytest.approx(1)
    assert abs(found[0, 1:].mean()) < 0.02


def test_cka_is_the_ratio_of_unbiased_hsic_as_song_et_al_write_it():
    rng = np.random.default_rng(6)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 7))
    y[:, :3] += x[:, :3]

    def hsic(a: np.ndarray, b: np.ndarray) -> float:
        n, ones = len(a), np.ones(len(a))
        k, m = (g - np.diag(np.diag(g)) for g in (a @ a.T, b @ b.T))
        cross = ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2)) - 2 / (n - 2) * (ones @ k @ m @ ones)
        return (np.trace(k @ m) + cross) / (n * (n - 3))

    expected = hsic(x, y) / np.sqrt(hsic(x, x) * hsic(y, y))
    found = similarity([x], [y])
    assert found[0, 0] == pytest.approx(expected, rel=1e-9)
    table = similarity_table([4], [9], found)
    assert table.to_dict("records") == [{"layer": 4, "layer_beside": 9, "cka": pytest.approx(expected)}]
    with pytest.raises(ValueError, match="same texts expected"):
        similarity([x], [y[:-1]])
