"""Selectivity: rank tests that say what chance says, known features found, and nothing where nothing is."""

from math import comb

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import mannwhitneyu, rankdata
from sklearn.metrics import roc_auc_score

from interp.analysis.selectivity import rank_test, selectivity

LABELS = ["anger", "fear", "joy"]


@pytest.fixture
def sparse_world():
    """90 examples, 40 features: 0 fires for anger, 1 for anger and fear, the others at random."""
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], 30)
    acts = rng.random((90, 40)) * (rng.random((90, 40)) < 0.3)
    acts[:, 0] = (gold == 0) * (1 + rng.random(90))
    acts[:, 1] = (gold != 2) * (1 + rng.random(90))
    return acts, gold


def test_rank_test_equals_scipy_and_sklearn(sparse_world):
    """scipy's normal approximation where every value counts; where most are 0 it is wrong (the tests below)."""
    acts, gold = sparse_world
    dense = np.random.default_rng(2).random((90, 10)) + 0.2 * (gold == 1)[:, None]
    _, p = rank_test(dense, gold, 3)
    auroc, _ = rank_test(acts, gold, 3)
    for emotion in range(3):
        inside = gold == emotion
        expected = mannwhitneyu(dense[inside], dense[~inside], alternative="greater", method="asymptotic").pvalue
        np.testing.assert_allclose(p[:, emotion], expected, rtol=0.05)
        assert auroc[5, emotion] == pytest.approx(roc_auc_score(inside, acts[:, 5]))


def test_rank_test_of_sparse_features_is_what_chance_says():
    """Four active examples of 60, equal and all inside: C(20, 4) / C(60, 4). Unequal ones: random permutations."""
    gold = np.repeat([0, 1, 2], 20)
    equal, unequal = np.zeros(60), np.zeros(60)
    equal[[0, 5, 7, 19]] = 1.0
    unequal[[0, 5, 21, 50, 3, 41]] = [6, 5, 4, 3, 2, 1]
    _, p = rank_test(np.stack([equal, unequal], 1), gold, 3)
    assert p[0, 0] == pytest.approx(comb(20, 4) / comb(60, 4), rel=0.02)
    ranks, rng = rankdata(unequal), np.random.default_rng(0)
    drawn = np.array([rng.permutation(ranks)[:20].sum() for _ in range(20_000)])
    assert p[1, 0] == pytest.approx((drawn >= ranks[:20].sum()).mean(), rel=0.1)


@pytest.mark.parametrize(("n", "share"), [(100, 0.05), (300, 0.02), (300, 0.2)])
def test_sparse_features_without_meaning_are_selective_at_the_nominal_rate(n, share):
    """40 layers of 300 random features; the normal approximation of the rank sum made it 10 to 60 % of layers."""
    rng = np.random.default_rng(0)
    gold, found = np.arange(n) % 6, 0
    for _ in range(40):
        acts = rng.random((n, 300)) * (rng.random((n, 300)) < share)
        found += bool((selectivity(csr_array(acts), gold, list("abcdef"))["q"] < 0.05).any())
    assert found <= 5  # binomial(40, 0.05): 5 or fewer in 95 %


def test_selectivity_names_specific_and_shared_features(sparse_world):
    acts, gold = sparse_world
    table = selectivity(csr_array(acts), gold, LABELS)
    chosen = table[table["kind"] != "none"]
    assert set(zip(chosen["feature"], chosen["emotion"], chosen["kind"], strict=True)) == {
        (0, "anger", "specific"),
        (1, "anger", "shared"),
        (1, "fear", "shared"),
    }


def test_shuffled_labels_yield_about_nothing(sparse_world):
    acts, gold = sparse_world
    rng = np.random.default_rng(1)
    found = [(selectivity(csr_array(acts), rng.permutation(gold), LABELS)["kind"] != "none").any() for _ in range(40)]
    assert np.mean(found) <= 0.15  # nominal 0.05; 40 draws
