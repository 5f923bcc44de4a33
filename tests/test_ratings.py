"""Probes of ratings and features that go with them: what was planted is found, what was not is not."""

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from scipy.stats import spearmanr
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from interp.analysis.rating_features import LEAST_ACTIVE, STRONGEST, feature_tests, strongest_features
from interp.analysis.ratings import (
    PENALTIES,
    SHUFFLES,
    RatedExamples,
    baseline_probes,
    known_ratings,
    layer_probes,
    out_of_fold,
)

SCALES = ("planted", "of_emotion", "nothing")
N, WIDTH = 240, 24


def made(seed: int = 0, n: int = N) -> tuple[RatedExamples, np.ndarray]:
    """Texts in pairs of a source, and residuals: a rating on axis 0, one that is the emotion on axis 1, one nowhere."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 3, n)
    values = rng.normal(size=(n, 3))
    values[:, 1] = kinds + 0.3 * values[:, 1]
    residuals = rng.normal(size=(n, WIDTH))
    residuals[:, 0] += 2 * values[:, 0]
    residuals[:, 1] += 3 * kinds
    names = np.array(["anger", "fear", "joy"], dtype=object)[kinds]
    return RatedExamples(SCALES, values, np.arange(n) // 2, names, resamples=300, seed=seed), residuals


@pytest.fixture(scope="module")
def probed():
    rated, residuals = made()
    return layer_probes(rated, residuals, csr_array(np.maximum(residuals, 0)))


def value(table: pd.DataFrame, rating: str, method: str, column: str = "value") -> float:
    (found,) = table.loc[(table["rating"] == rating) & (table["method"] == method), column]
    return float(found)


def test_probes_read_what_was_planted_and_nothing_else(probed):
    assert value(probed.rows, "planted", "residuals") == pytest.approx(0.8, abs=0.08)  # 4 / (4 + 1) of the variance
    assert value(probed.rows, "of_emotion", "residuals") > 0.6
    assert value(probed.rows, "nothing", "residuals") < 0.03
    assert value(probed.rows, "nothing", "residuals", "ci_low") < 0
    assert value(probed.rows, "planted", "features") > 0.4


def test_within_emotions_only_what_is_not_the_emotion_is_left(probed):
    assert value(probed.rows, "planted", "within emotions") > 0.7
    assert value(probed.rows, "of_emotion", "within emotions") < 0.05


def test_shuffled_ratings_are_not_read(probed):
    assert probed.shuffled.shape == (SHUFFLES, 3)
    assert np.quantile(probed.shuffled, 0.975) < 0.08
    assert value(probed.rows, "planted", "shuffled") < 0.01


def test_a_prediction_comes_from_the_other_folds_alone():
    """The library's own ridge, fold by fold; and no group is on both sides."""
    rated, residuals = made(n=80)
    found = out_of_fold(lambda train, test: (residuals[train], residuals[test]), rated.standard, rated.folds)
    assert sorted(np.concatenate([test for _, test in rated.folds])) == list(range(80))
    for train, test in rated.folds:
        assert not set(rated.groups[train]) & set(rated.groups[test])
        for k in range(3):
            alone = RidgeCV(PENALTIES).fit(residuals[train], rated.standard[train, k])
            np.testing.assert_allclose(found.predicted[test, k], alone.predict(residuals[test]), atol=1e-8)
        np.testing.assert_allclose(found.means[test], np.tile(rated.standard[train].mean(0), (len(test), 1)))


def test_intervals_of_probes_cover(monkeypatch):
    """Of forty samples of one world, the interval of R squared holds the mean of all in most."""
    monkeypatch.setattr("interp.analysis.ratings.SHUFFLES", 2)
    rows = [layer_probes(*made(seed, 160)).rows for seed in range(40)]
    own = pd.concat([r[(r["rating"] == "planted") & (r["method"] == "residuals")] for r in rows])
    truth = own["value"].mean()
    assert 34 <= ((own["ci_low"] <= truth) & (truth <= own["ci_high"])).sum() <= 40


def test_known_ratings_are_those_that_beat_the_best_layer_of_shuffled_ones():
    rated, residuals = made()
    noise = np.random.default_rng(5).normal(size=residuals.shape)
    layers = [layer_probes(rated, x) for x in (noise, residuals, noise[::-1])]
    probes = pd.concat([found.rows.assign(layer=k) for k, found in enumerate(layers)])
    best = known_ratings(probes, np.stack([found.shuffled for found in layers]), SCALES).set_index("rating")
    assert best["known"].to_dict() == {"planted": True, "of_emotion": True, "nothing": False}
    assert best.loc["planted", "layer"] == best.loc["of_emotion", "layer"] == 1
    assert best.loc["planted", "p"] == pytest.approx(1 / (1 + 3 * SHUFFLES))


def test_in_a_null_world_ratings_are_hardly_ever_known():
    """Twenty worlds of three ratings that the residuals do not hold: at most two false alarms."""
    alarms = 0
    for seed in range(20):
        rated, _ = made(seed, 100)
        noise = np.random.default_rng(seed + 99).normal(size=(2, 100, 10))
        layers = [layer_probes(rated, x) for x in noise]
        probes = pd.concat([found.rows.assign(layer=k) for k, found in enumerate(layers)])
        alarms += int(known_ratings(probes, np.stack([found.shuffled for found in layers]), SCALES)["known"].sum())
    assert alarms <= 2


# --------------------------------------------------------------------------------------------- without a model


def worded(n: int = 300) -> tuple[RatedExamples, list[str]]:
    """Texts whose words say one rating and whose length says another."""
    rng = np.random.default_rng(1)
    words = rng.integers(0, 6, n)
    length = rng.integers(3, 30, n)
    texts = [f"{'abcdef'[w]}word " + "and " * k + "so." for w, k in zip(words, length, strict=True)]
    values = np.stack([words + 0.2 * rng.normal(size=n), length + rng.normal(size=n)], 1).astype(float)
    kinds = np.where(words > 2, "joy", "fear").astype(object)
    return RatedExamples(("worded", "long"), values, np.arange(n), kinds, resamples=200), texts


def test_baselines_read_words_length_and_emotion():
    rated, texts = worded()
    some = RatedExamples(rated.scales, rated.values[:60], rated.groups[:60], rated.kinds[:60], 200)
    found = baseline_probes(some, texts[:60], rated, texts)
    assert value(found, "worded", "words") > 0.6
    assert value(found, "worded", "lexicon") > max(0.8, value(found, "worded", "words") - 0.02)
    assert value(found, "worded", "length") < 0.1
    assert value(found, "long", "length") > 0.95
    assert value(found, "worded", "emotion") == pytest.approx(0.75, abs=0.1)
    assert value(found, "long", "emotion") < 0.1


def test_the_lexicon_learns_from_no_text_of_a_tested_group():
    """Every text's only word occurs in its group alone: nothing can be learnt of it elsewhere."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    values = (np.repeat(rng.normal(size=30), 4) + 0.01 * rng.normal(size=120))[:, None]
    rated = RatedExamples(("x",), values, groups, np.full(120, "", dtype=object), resamples=100)
    found = baseline_probes(rated, [f"word{g}" for g in groups], rated, [f"word{g}" for g in groups])
    assert value(found, "x", "lexicon") < 0.1
    assert value(found, "x", "words") < 0.1
    assert "emotion" not in set(found["method"])


# --------------------------------------------------------------------------------------------- features


def test_features_that_go_with_a_rating_are_found_and_their_correlation_is_spearmans():
    rated, residuals = made()
    acts = csr_array(np.maximum(residuals, 0))
    rows, chance = feature_tests(acts, np.ones(WIDTH), rated)
    found = rows[rows["q"] < 0.05]
    assert set(zip(found["rating"], found["feature"], strict=True)) == {("planted", 0), ("of_emotion", 1)}
    assert sum(chance.values()) == 0
    line = rows[(rows["rating"] == "planted") & (rows["feature"] == 0)].iloc[0]
    expected = spearmanr(np.maximum(residuals[:, 0], 0), rated.values[:, 0])
    assert line["rho"] == pytest.approx(expected.statistic)
    assert line["p"] == pytest.approx(expected.pvalue, rel=1e-6)
    of_emotion = rows[(rows["rating"] == "of_emotion") & (rows["feature"] == 1)].iloc[0]
    assert abs(of_emotion["rho_within"]) < 0.2 < of_emotion["rho"]
    assert line["rho_within"] > 0.7


@pytest.mark.parametrize("active", [LEAST_ACTIVE, 40, 200])
def test_features_of_chance_are_not_found_however_rare(active):
    """Ratings as lopsided as appraisals are: seven in ten say 1."""
    alarms = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        values = rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], (N, 4), p=[0.7, 0.08, 0.07, 0.07, 0.08])
        rated = RatedExamples(tuple("abcd"), values, np.arange(N), np.full(N, "", dtype=object), seed=seed)
        dense = np.zeros((N, 300))
        for column in dense.T:
            column[rng.choice(N, active, replace=False)] = rng.exponential(size=active) + 0.1
        rows, _ = feature_tests(csr_array(dense), np.ones(300), rated)
        alarms += int((rows["q"] < 0.05).any())
    assert alarms <= 3


def test_features_on_too_few_texts_or_always_alike_are_not_tested():
    rated, residuals = made()
    dense = np.maximum(residuals, 0)
    dense[:, 2] = 0
    dense[: LEAST_ACTIVE - 1, 2] = 1
    dense[:, 3] = 1
    rows, _ = feature_tests(csr_array(dense), np.ones(WIDTH), rated)
    assert not {2, 3} & set(rows["feature"])
    assert np.isfinite(rows["rho"]).all()


def test_controls_are_of_the_same_layer_and_go_with_no_rating():
    rated, residuals = made()
    mixed = residuals @ np.linalg.qr(np.random.default_rng(2).normal(size=(WIDTH, WIDTH)))[0]
    tests = []
    for layer, x in enumerate((residuals, mixed)):
        rows, _ = feature_tests(csr_array(np.maximum(x, 0)), np.ones(WIDTH), rated)
        tests.append(rows.assign(layer=layer))
    table = pd.concat(tests, ignore_index=True)
    sets = {s.rating: s for s in strongest_features(table, SCALES, seed=0)}
    assert not len(sets["nothing"].table)
    own = sets["planted"].table
    assert 2 <= len(sets["planted"]) <= STRONGEST
    related = {(k, f) for k, f in table.loc[table["q"] < 0.05, ["layer", "feature"]].itertuples(index=False)}
    chosen, controls = own[~own["control"]], own[own["control"]]
    assert set(chosen[["layer", "feature"]].itertuples(index=False, name=None)) <= related
    assert not set(controls[["layer", "feature"]].itertuples(index=False, name=None)) & related
    assert (controls["layer"].value_counts() <= chosen["layer"].value_counts()).all()
    signs = table[table["rating"] == "planted"].set_index(["layer", "feature"])["rho"]
    assert all(np.sign(signs[r.layer, r.feature]) == r.sign for r in chosen.itertuples())


def test_standardised_inputs_are_what_the_ridge_sees():
    """A column in other units changes nothing."""
    rated, residuals = made(n=80)
    other = residuals * np.logspace(-3, 3, WIDTH)
    one, two = (layer_probes(rated, x).rows for x in (residuals, other))
    np.testing.assert_allclose(one["value"], two["value"], atol=1e-6)
    assert StandardScaler().fit(other).scale_.max() > 100
