"""Trees of emotions: distances by hand, planted branches, and no agreement where there is none."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import cophenet
from scipy.special import log_softmax

from interp.analysis import emotion_trees as trees

LABELS = ["anger", "annoyance", "joy", "love", "fear", "nervousness"]
PAIRS = [{0, 1}, {2, 3}, {4, 5}]


@pytest.fixture(scope="module")
def gold() -> np.ndarray:
    return np.arange(180) % 6


def answers_of(rng: np.random.Generator, gold: np.ndarray, near: float = 0.7) -> np.ndarray:
    """Log-probabilities that take the two emotions of a pair for each other, with a popular label."""
    logits = rng.normal(size=(len(gold), 6)) + np.array([5.0, 0, 0, 0, 0, 0])
    logits[np.arange(len(gold)), gold] += 2
    logits[np.arange(len(gold)), gold ^ 1] += 2 * near
    return log_softmax(logits, axis=1)


def ones(gold: np.ndarray) -> np.ndarray:
    return np.ones((1, len(gold)), np.float32)


def test_answers_distance_is_half_the_move_of_the_log_odds_and_free_of_a_favourite(gold):
    log_probs = answers_of(np.random.default_rng(0), gold)
    shares = trees.emotion_shares(gold, range(6), ones(gold))
    found = trees.answer_distances(log_probs, shares)[0]
    for g, h in ((0, 1), (2, 5)):
        odds = log_probs[:, g] - log_probs[:, h]
        assert found[g, h] == pytest.approx((odds[gold == g].mean() - odds[gold == h].mean()) / 2)
    favoured = log_softmax(log_probs + np.array([0, 3, 0, -2, 0, 0]), axis=1)
    np.testing.assert_allclose(trees.answer_distances(favoured, shares)[0], found, atol=1e-6)
    np.testing.assert_allclose(found, found.T, atol=1e-12)
    assert not found.diagonal().any()


def test_profile_distance_is_one_less_the_cosine_of_centred_means(gold):
    values = np.random.default_rng(1).normal(size=(180, 9)) + 4
    means = np.stack([values[gold == e].mean(0) for e in range(6)])
    centred = means - means.mean(0)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    shares = trees.emotion_shares(gold, range(6), ones(gold))
    found = trees.profile_distances(values @ values.T, shares)[0]
    np.testing.assert_allclose(found, 1 - unit @ unit.T, atol=1e-4)


def test_planted_pairs_are_the_first_branches_with_support(gold):
    rng = np.random.default_rng(2)
    weights = np.concatenate([ones(gold), rng.multinomial(180, np.full(180, 1 / 180), 100)]).astype(np.float32)
    distances = trees.answer_distances(answers_of(rng, gold), trees.emotion_shares(gold, range(6), weights))
    tree = trees.emotion_tree(LABELS, distances, source="answers", layer=None, n=180)
    assert {frozenset(pair) for pair in PAIRS} == {*tree.branches[:3]}
    assert (tree.support[:3] > 0.9).all()
    assert tree.support[-1] == 1
    assert tree.fit == pytest.approx(cophenet(tree.merges, distances[0][np.triu_indices(6, 1)])[0])
    rows = tree.rows()
    assert {rows[0]["left"], rows[0]["right"]} in [{LABELS[i] for i in pair} for pair in PAIRS]
    assert set((rows[-1]["left"] + " + " + rows[-1]["right"]).split(" + ")) == set(LABELS)
    table = trees.tree_table([tree])
    assert len(table) == 5
    assert table["layer"].isna().all()


def test_agreement_of_like_trees_is_sure_and_of_strangers_comes_as_often_as_the_level_says():
    rng = np.random.default_rng(3)
    points = rng.normal(size=(10, 4))
    far = np.linalg.norm(points[:, None] - points[None], axis=-1)
    same = trees.agreement(far, far * 2)
    assert same.correlation == pytest.approx(1)
    assert same.p < 0.001
    p = []
    for seed in range(200):
        one, other = (rng.normal(size=(8, 3)) for _ in range(2))
        a, b = (np.linalg.norm(x[:, None] - x[None], axis=-1) for x in (one, other))
        p.append(trees.agreement(a, b, seed=seed, permutations=199).p)
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.05)
    assert np.mean(np.array(p) <= 0.5) == pytest.approx(0.5, abs=0.12)


def of_halves(residuals: np.ndarray, log_probs: np.ndarray, gold: np.ndarray, seed: int) -> trees.Agreement:
    first = trees.halves(gold, np.arange(len(gold)), seed)
    shares = trees.emotion_shares(gold, range(6), np.stack([first, ~first]).astype(np.float32))
    answers = trees.answer_distances(log_probs, shares)
    return trees.agreement_of_halves(answers, trees.profile_distances(residuals @ residuals.T, shares), seed=seed)


def test_halves_of_texts_without_emotion_agree_by_chance_though_their_noise_is_shared():
    """Answers read off the very residuals, of texts that have nothing to do with the emotions."""
    found = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        residuals = rng.normal(size=(120, 6))
        found.append(of_halves(residuals, log_softmax(residuals, axis=1), rng.permutation(np.arange(120) % 6), seed))
    assert np.mean([f.p <= 0.05 for f in found]) <= 0.12
    assert abs(np.mean([f.correlation for f in found])) < 0.1


def test_halves_of_texts_whose_layer_holds_the_same_pairs_agree(gold):
    rng = np.random.default_rng(4)
    centres = rng.normal(size=(3, 20)).repeat(2, 0) + 0.4 * rng.normal(size=(6, 20))
    residuals = centres[gold] + rng.normal(size=(180, 20))
    found = of_halves(residuals, answers_of(rng, gold), gold, 0)
    assert found.correlation > 0.7
    assert found.p < 0.1  # of six emotions in three pairs there are 15 trees


def test_halves_keep_groups_together_and_every_emotion_in_both():
    gold, groups = np.repeat(np.arange(4), 10), np.repeat(np.arange(20), 2)
    first = trees.halves(gold, groups, 0)
    assert first[::2].tolist() == first[1::2].tolist()
    assert all(0.3 <= first[gold == e].mean() <= 0.7 for e in range(4))


def test_a_resample_without_an_emotion_keeps_its_texts(gold):
    weights = np.stack([np.ones(180), (gold != 2).astype(float)]).astype(np.float32)
    shares = trees.emotion_shares(gold, range(6), weights)
    np.testing.assert_allclose(shares.sum(2), 1, atol=1e-5)
    np.testing.assert_allclose(shares[1, 2], shares[0, 2])


def test_the_published_grouping_is_near_for_shades_of_one_emotion_and_unknown_for_other_words():
    found = trees.grouping_of([*LABELS[:2], "hunger", *LABELS[2:]])
    assert found is not None
    assert found.places == [0, 1, 3, 4, 5, 6]
    assert found.distances[0, 1] == 0
    assert found.distances[0, 2] == 1
    assert trees.grouping_of(["anger", "joy", "fear"]) is None
    assert trees.grouping_of(["joy", "love", "hunger"]) is None
