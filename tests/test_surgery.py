"""Ratings set in residuals, answers beside people's ratings, places of emotions: planted worlds, brute force, nulls."""

from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import SENTENCES

from interp import capture
from interp.analysis.human import agreement, human_associations, paired
from interp.analysis.labelled import LabelledExamples
from interp.analysis.positions import RatingReader, correspondence, emotion_positions, feature_positions
from interp.analysis.rating_features import RatingFeatures
from interp.analysis.ratings import RatedExamples
from interp.analysis.surgery import (
    DIRECTION,
    FEATURES,
    Surgery,
    direction_edit,
    dose_table,
    feature_edits,
    random_slopes,
    single_effects,
    slopes,
    slopes_of_answers,
)
from interp.engine import answers_under, removal
from interp.engine.variants import answers_given

LABELS = ("anger", "fear", "joy")
N, WIDTH = 150, 12


def rated_texts(seed: int = 0, n: int = N) -> RatedExamples:
    """`glad` goes with joy and against fear; `loud` goes with anger; `odd` with nothing."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(n) % 3
    values = rng.normal(size=(n, 3))
    values[:, 0] += 1.5 * (kinds == 2) - 1.5 * (kinds == 1)
    values[:, 1] += 2.0 * (kinds == 0)
    names = np.array(LABELS, dtype=object)[kinds]
    return RatedExamples(("glad", "loud", "odd"), values, np.arange(n), names, resamples=300, seed=seed)


# --------------------------------------------------------------------------------------------- edits


def test_slopes_are_regressions_of_the_residual_on_the_rating():
    rated = rated_texts()
    rng = np.random.default_rng(1)
    residuals = rng.normal(size=(N, WIDTH)) * 0.1
    residuals[:, 0] += 2 * rated.standard[:, 0]
    residuals[:, 1] += 5.0 * (rated.kinds == "joy")
    found = slopes(rated, residuals)
    for k in range(3):
        expected = np.polyfit(rated.standard[:, k], residuals, 1)[0]
        np.testing.assert_allclose(found[k], expected, atol=1e-9)
    within = slopes(rated, residuals, within=True)
    assert found[0, 1] > 1  # joy's axis goes with gladness
    assert abs(within[0, 1]) < 0.05  # and not within emotions
    assert within[0, 0] == pytest.approx(2, abs=0.1)
    random = random_slopes(found, seed=3)
    np.testing.assert_allclose(np.linalg.norm(random, axis=1), np.linalg.norm(found, axis=1))


@pytest.mark.parametrize("dose", [-2.0, 0.0, 1.0])
def test_a_direction_edit_sets_the_coordinate_and_nothing_else(dose):
    rng = np.random.default_rng(0)
    slope, centre = rng.normal(size=WIDTH), rng.normal(size=WIDTH)
    x = torch.from_numpy(rng.normal(size=(2, 5, WIDTH))).float()
    edited = direction_edit(slope, centre, dose)(x)
    unit = torch.from_numpy(slope / np.linalg.norm(slope)).float()
    along = (edited - torch.from_numpy(centre).float()) @ unit
    torch.testing.assert_close(along, torch.full_like(along, dose * float(np.linalg.norm(slope))))
    rest = edited - x - ((edited - x) @ unit)[..., None] * unit
    assert rest.abs().max() < 1e-5


@pytest.fixture
def captured(llama):
    return capture(llama, [f"Text: {s}\nEmotion:" for s in SENTENCES], answers=LABELS, keep_cache=True)


def test_features_are_set_to_doses_of_what_is_typical(llama, stack, captured):
    """At 0 it is the engine's own removal; above, brute force from activations and directions."""
    acts = stack.encode(1, captured.residuals[1])
    often = (acts > 0).sum(0).topk(3).indices.tolist()
    table = pd.DataFrame({"layer": 1, "feature": often, "sign": [1, -1, 1], "control": [False, False, True]})
    features = RatingFeatures("glad", table)
    typical = {(1, f): 0.5 + i for i, f in enumerate(often)}
    none = feature_edits(stack, features, typical, 0.0, control=False)
    removed = answers_under(llama, captured, removal(llama, stack, {1: often[:2]}))
    torch.testing.assert_close(answers_under(llama, captured, none), removed, atol=1e-5, rtol=0)
    for dose, values in ((2.0, (1.0, 0.0)), (-1.0, (0.0, 1.5))):
        edits = feature_edits(stack, features, typical, dose, control=False)
        change = (torch.tensor(values) - acts[:, often[:2]]) @ stack.directions(1, often[:2])
        expected = answers_given(llama, captured, 1, (captured.residuals[1] + change)[:, None])[:, 0]
        torch.testing.assert_close(answers_under(llama, captured, edits), expected, atol=1e-4, rtol=0)
    control = feature_edits(stack, features, typical, 1.0, control=True)
    change = (2.5 - acts[:, often[2:]]) @ stack.directions(1, often[2:])
    expected = answers_given(llama, captured, 1, (captured.residuals[1] + change)[:, None])[:, 0]
    torch.testing.assert_close(answers_under(llama, captured, control), expected, atol=1e-4, rtol=0)
    assert not feature_edits(stack, RatingFeatures("x", table[:0]), typical, 1.0, control=False)


# --------------------------------------------------------------------------------------------- people


def test_human_associations_are_differences_of_means_and_correlations():
    rated = rated_texts()
    found = human_associations(rated, LABELS).set_index(["rating", "emotion"])
    z, inside = rated.standard[:, 0], rated.kinds == "joy"
    line = found.loc[("glad", "joy")]
    assert line["difference"] == pytest.approx(z[inside].mean() - z[~inside].mean())
    assert line["correlation"] == pytest.approx(np.corrcoef(z, inside)[0, 1], abs=1e-6)
    assert line["difference_low"] < line["difference"] < line["difference_high"]
    assert found.loc[("glad", "fear"), "ci_high"] < 0 < found.loc[("glad", "joy"), "ci_low"]
    assert found.loc[("odd", "joy"), "ci_low"] < 0 < found.loc[("odd", "joy"), "ci_high"]
    assert found.loc[("glad", "joy"), "n"] == 50


def test_texts_of_other_emotions_and_emotions_without_texts_have_no_part():
    rated = rated_texts()
    rated.kinds[:4] = ""
    some = human_associations(rated, ("anger", "joy", "disgust"))
    assert set(some["emotion"]) == {"anger", "joy"}
    z, kept = rated.standard[:, 0], np.isin(rated.kinds, ["anger", "joy"])
    joy = rated.kinds == "joy"
    expected = z[joy].mean() - z[kept & ~joy].mean()
    assert some[(some["rating"] == "glad") & (some["emotion"] == "joy")]["difference"].item() == pytest.approx(expected)
    assert not len(human_associations(rated, ("pride",)))


def effects_like(people: pd.DataFrame, rated: RatedExamples, noise: float, seed: int = 0):
    """Effects on answers, text by text, that follow people's correlations."""
    rng = np.random.default_rng(seed)
    table = people.set_index(["rating", "emotion"])["correlation"]
    mean = {r: np.array([table[r, e] for e in LABELS]) for r in rated.scales}
    return {(r, DIRECTION): mean[r] + noise * rng.normal(size=(len(rated), 3)) for r in rated.scales}


def test_signs_agree_where_the_model_follows_people_and_not_where_it_does_not():
    rated = rated_texts()
    people = human_associations(rated, LABELS)
    effects = effects_like(people, rated, noise=0.1)
    against = {(r, FEATURES): -values for (r, _), values in effects.items()}
    pairs = paired(effects | against, people, rated, LABELS)
    found = agreement(effects | against, pairs, rated, LABELS, ["glad", "loud"]).set_index("method")
    sure = people[people["rating"] != "odd"]
    n_pairs = int(((sure["ci_low"] > 0) | (sure["ci_high"] < 0)).sum())
    assert found.loc[DIRECTION, ["agreement", "n_pairs"]].tolist() == [1.0, n_pairs]
    assert found.loc[FEATURES, "agreement"] == 0
    assert found.loc[FEATURES, "p"] == 1
    assert found.loc[DIRECTION, "ci_low"] == 1


def test_p_is_the_share_of_permutations_by_brute_force():
    rated = rated_texts()
    people = human_associations(rated, LABELS)
    effects = effects_like(people, rated, noise=4.0, seed=2)
    pairs = paired(effects, people, rated, LABELS)
    (found,) = agreement(effects, pairs, rated, LABELS, ["glad", "loud", "odd"]).itertuples()
    table = people.assign(sign=np.sign(people["correlation"]) * ((people["ci_low"] > 0) | (people["ci_high"] < 0)))
    signs = table.pivot(index="rating", columns="emotion", values="sign").loc[list(rated.scales), list(LABELS)]
    model = np.sign([effects[r, DIRECTION].mean(0) for r in rated.scales])

    def share(s: np.ndarray) -> float:
        return float((model == s)[s != 0].mean())

    value = share(signs.to_numpy())
    assert found.agreement == pytest.approx(value)
    assert found.p == np.mean([share(signs.to_numpy()[:, list(o)]) >= value for o in permutations(range(3))])
    assert found.p_ratings == np.mean([share(signs.to_numpy()[list(o)]) >= value for o in permutations(range(3))])


def test_in_a_null_world_p_is_not_small_too_often():
    """Effects that know nothing of people, six emotions: p below 0.05 in about one world of twenty."""
    labels = tuple("abcdef")
    small = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        kinds = np.array(labels, dtype=object)[np.arange(120) % 6]
        values = rng.normal(size=(120, 4)) + rng.normal(size=(6, 4))[np.arange(120) % 6]
        rated = RatedExamples(tuple("wxyz"), values, np.arange(120), kinds, resamples=100, seed=seed)
        people = human_associations(rated, labels)
        effects = {(r, DIRECTION): rng.normal(size=6) + 0.1 * rng.normal(size=(120, 6)) for r in rated.scales}
        found = agreement(effects, paired(effects, people, rated, labels), rated, labels, rated.scales)
        small += int((found["p"] < 0.05).any())
    assert small <= 6


def test_without_known_ratings_or_people_there_is_nothing_to_agree_with():
    rated = rated_texts()
    people = human_associations(rated, LABELS)
    effects = effects_like(people, rated, noise=0.1)
    assert not len(agreement(effects, paired(effects, people, rated, LABELS), rated, LABELS, []))
    nobody = paired(effects, human_associations(rated, ("pride",)), rated, LABELS)
    assert nobody["human"].isna().all()
    assert set(nobody["human_n"]) == {0}
    assert not len(agreement(effects, nobody, rated, LABELS, ["glad"]))
    assert not len(paired({}, people, rated, LABELS))


def test_doses_and_slopes_are_those_of_log_probabilities():
    rated = rated_texts()
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(N, 3))
    shift = np.array([0.0, 0.5, -1.0])
    logits = {Surgery("glad", DIRECTION, d): clean + d * shift + 7 for d in (-1.0, 0.0, 1.0)}
    table = dose_table(logits, clean, rated, LABELS).set_index(["dose", "emotion"])

    def log_p(x: np.ndarray) -> np.ndarray:
        return x - np.log(np.exp(x).sum(1, keepdims=True))

    for dose in (-1.0, 1.0):
        expected = (log_p(clean + dose * shift) - log_p(clean)).mean(0)
        np.testing.assert_allclose(table.loc[dose, "effect"], expected, atol=1e-6)
    np.testing.assert_allclose(table.loc[0.0, "effect"], 0, atol=1e-6)
    assert table.loc[(1.0, "joy"), "answered"] == np.mean((clean + shift).argmax(1) == 2)
    assert table.loc[(1.0, "joy"), "answered_before"] == np.mean(clean.argmax(1) == 2)
    (slope,) = slopes_of_answers(logits).values()
    np.testing.assert_allclose(slope, (log_p(clean + shift) - log_p(clean - shift)) / 2, atol=1e-9)


def test_single_effects_count_by_sign():
    clean, without = np.zeros((4, 2)), np.tile([1.0, 0.0], (4, 1))
    table = pd.DataFrame({"layer": [3, 3], "feature": [7, 9], "sign": [1, -1], "control": False})
    found = single_effects(RatingFeatures("x", table), {None: clean, (3, 7): without, (3, 9): clean})
    rise = np.log(0.5) - np.log(np.e / (1 + np.e))
    np.testing.assert_allclose(found[:, 0], rise / 2)


# --------------------------------------------------------------------------------------------- places


def world(seed: int, noise: float = 1.0) -> tuple[RatedExamples, np.ndarray, LabelledExamples, np.ndarray]:
    """Rated texts with valence on axis 0; labelled texts of which joy lies above and fear below on that axis."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(N, 2))
    residuals = rng.normal(size=(N, WIDTH)) * noise
    residuals[:, 0] += values[:, 0]
    rated = RatedExamples(("valence", "other"), values, np.arange(N), np.full(N, "", object), resamples=300, seed=seed)
    examples = LabelledExamples(LABELS, np.arange(90) % 3, np.arange(90), resamples=300, seed=seed)
    found = rng.normal(size=(90, WIDTH)) * 0.5
    found[:, 0] += np.array([0.0, -1.0, 1.0])[examples.gold]
    return rated, residuals, examples, found


def test_emotions_lie_where_they_were_put():
    rated, residuals, examples, own = world(0, noise=0.3)
    reader = RatingReader.fitted(rated, residuals)
    table = emotion_positions(reader, own, examples).set_index(["rating", "emotion"])
    assert table.loc[("valence", "joy"), "ci_low"] > 0.8
    assert table.loc[("valence", "fear"), "ci_high"] < -0.8
    assert table.loc[("valence", "anger"), "ci_low"] < 0 < table.loc[("valence", "anger"), "ci_high"]
    for emotion in LABELS:
        assert abs(table.loc[("other", emotion), "value"]) < 0.4
    inside = examples.gold == 2
    difference = own[inside].mean(0) - own[~inside].mean(0)
    assert table.loc[("valence", "joy"), "value"] == pytest.approx(reader.weights[0] @ difference)


def test_intervals_of_places_cover_what_other_samples_give():
    """A direction read by probes of sixty samples: the interval holds the mean of all in nearly as many as it says."""
    direction = np.zeros((1, WIDTH))
    direction[0, :2] = 1
    tables = []
    for seed in range(60):
        rated, residuals, _, _ = world(seed)
        tables.append(feature_positions(RatingReader.fitted(rated, residuals), direction, [5], seed).iloc[0])
    truth = np.mean([t["value"] for t in tables])
    covered = sum(t["ci_low"] <= truth <= t["ci_high"] for t in tables)
    assert 50 <= covered <= 60


def test_wild_deviations_are_those_of_refitted_probes():
    """The closed form beside a refit with the same penalty on ratings changed as the bootstrap changes them."""
    rated, residuals, _, _ = world(3)
    reader = RatingReader.fitted(rated, residuals)
    directions = np.eye(WIDTH)[:3]
    draws = reader.deviations(directions, seed=4)
    signs = np.random.default_rng(4).choice((-1.0, 1.0), (300, N))[0, rated.bootstrap.member]
    x = (residuals - residuals.mean(0)) / residuals.std(0)
    penalty = reader._penalties[0]
    hat = x @ np.linalg.solve(x.T @ x + penalty * np.eye(WIDTH), x.T)
    y = rated.standard[:, 0]
    changed = signs * (y - hat @ y) / (1 - np.diag(hat))
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(WIDTH), x.T @ changed) / residuals.std(0)
    np.testing.assert_allclose(draws[0, :, 0], directions @ weights, atol=1e-8)


def test_emotions_without_texts_have_no_place():
    rated, residuals, examples, own = world(0)
    reader = RatingReader.fitted(rated, residuals)
    alone = LabelledExamples(LABELS, np.zeros(90, int), np.arange(90), resamples=100)
    assert not len(emotion_positions(reader, own, alone))
    two = LabelledExamples((*LABELS, "pride"), examples.gold, examples.groups, resamples=100)
    assert set(emotion_positions(reader, own, two)["emotion"]) == {*LABELS}


def test_likeness_is_an_exact_permutation_test():
    ours, theirs = np.array([1.0, 2.0, 3.0, 5.0]), np.array([2.0, 4.0, 6.0, 11.0])
    found = correspondence(ours, theirs)
    assert found.correlation == pytest.approx(np.corrcoef(ours, theirs)[0, 1])
    assert found.p == 1 / 24
    assert np.isnan(correspondence(ours[:2], theirs[:2]).p)
    assert np.isnan(correspondence(ours, np.ones(4)).correlation)
