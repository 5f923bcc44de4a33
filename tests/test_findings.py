"""Selectivity, candidates, signals, phases, intervals: known truths are found, and nothing where nothing is."""

from math import comb

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.stats import mannwhitneyu, rankdata
from sklearn.metrics import f1_score, recall_score, roc_auc_score

from interp.analysis.candidates import choose_candidates
from interp.analysis.effects import concentration
from interp.analysis.phases import find_phases
from interp.analysis.selectivity import rank_test, selectivity
from interp.analysis.signals import content_overlap, probe_right
from interp.statistics import Bootstrap, accuracy, confusion_draws, macro_f1, recalls

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


def test_controls_are_matched_in_strength_and_disjoint_from_candidates():
    rng = np.random.default_rng(0)
    strength = {0: rng.random((300, 2)), 1: rng.random((300, 2))}
    firing = {k: rng.random((300, 2)) for k in strength}
    attribution = {k: rng.normal(size=(300, 2)) for k in strength}
    chosen = choose_candidates(attribution, strength, firing, {0: 1, 1: 1}, 20, seed=0)
    for emotion in (0, 1):
        own = [c for c in chosen if c.emotion == emotion]
        proposed = {(c.layer, c.feature) for c in own if not c.control}
        controls = {(c.layer, c.feature) for c in own if c.control}
        assert len(proposed) == len(controls) == 20 and not proposed & controls
        for trait, tolerance in ((strength, 0.06), (firing, 0.06)):
            mean = [np.mean([trait[k][f, emotion] for k, f in sorted(group)]) for group in (proposed, controls)]
            assert mean[0] == pytest.approx(mean[1], abs=tolerance)
        best = np.sort(np.concatenate([a[:, emotion] for a in attribution.values()]))[-20:]
        assert sorted(c.attribution for c in own if not c.control) == pytest.approx(best.tolist())


def test_phases_are_found_where_they_were_put():
    rng = np.random.default_rng(0)
    level = np.repeat([[0, 0, 3.0], [4, 0, 0], [4, 5, 1]], [3, 4, 5], axis=0)
    draws = level + 0.2 * rng.normal(size=(100, 12, 3))
    phases = find_phases(level + 0.1 * rng.normal(size=(12, 3)), draws, range(12))
    assert phases.boundaries == [3, 7] and phases.intervals == [(3, 3), (7, 7)]
    assert [phases.phase_of(k) for k in (0, 2, 3, 6, 7, 11)] == [1, 1, 2, 2, 3, 3]
    assert phases.support > 0.9


@pytest.mark.parametrize("n_layers", [1, 2, 12])
def test_flat_signals_make_one_phase(n_layers):
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(n_layers, 4))
    assert find_phases(noise * 0 + 1, noise[None] * 0 + 1, range(n_layers)).n_phases == 1
    assert find_phases(noise, noise + rng.normal(size=(20, n_layers, 4)), range(n_layers)).n_phases <= 2


def test_overlap_of_equal_and_of_disjoint_active_sets():
    same = csr_array(np.tile(np.eye(1, 8), (10, 1)))
    assert content_overlap(same, 0) == pytest.approx(np.ones(10))
    assert content_overlap(csr_array(np.eye(10)), 0) == pytest.approx(np.zeros(10))


def test_probe_is_scored_on_folds_it_has_not_seen():
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1], 40)
    assert probe_right(rng.normal(size=(80, 60)), gold, 0).mean() < 0.7  # separable in-sample, by chance
    assert probe_right(rng.normal(size=(80, 2)) + 4 * gold[:, None], gold, 0).mean() > 0.95


def test_scores_equal_sklearn():
    rng = np.random.default_rng(0)
    gold, predicted = rng.integers(0, 3, 200), rng.integers(0, 3, 200)
    confusion = confusion_draws(gold, predicted, 3, np.ones((1, 200), np.float32))[0]
    assert macro_f1(confusion) == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert recalls(confusion) == pytest.approx(recall_score(gold, predicted, average=None))
    assert accuracy(confusion) == pytest.approx((gold == predicted).mean())


def test_macro_f1_counts_only_emotions_that_occur():
    gold, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 2])
    confusion = confusion_draws(gold, predicted, 3, np.ones((1, 4), np.float32))[0]
    assert macro_f1(confusion) == pytest.approx((1 + 2 / 3) / 2)


def test_intervals_cover_the_truth():
    """95 % intervals of a mean of 60 examples, in 300 worlds; clustered examples need clustered resamples."""
    rng = np.random.default_rng(0)
    hits = {"examples": 0, "groups": 0, "groups_ignored": 0}
    groups = np.repeat(np.arange(60), 4)
    for world in range(300):
        x = rng.normal(size=60)
        e = Bootstrap(range(60), 400, world).mean(x)
        hits["examples"] += e.low <= 0 <= e.high
        y = np.repeat(x, 4) + 0.1 * rng.normal(size=240)
        for name, g in (("groups", groups), ("groups_ignored", np.arange(240))):
            e = Bootstrap(g, 400, world).mean(y)
            hits[name] += e.low <= 0 <= e.high
    assert 0.91 <= hits["examples"] / 300 <= 0.98
    assert 0.91 <= hits["groups"] / 300 <= 0.98
    assert hits["groups_ignored"] / 300 < 0.85


def test_intervals_of_few_groups_are_as_wide_as_students():
    """Six sources of five texts: resamples of all six would cover in about 85 % of worlds."""
    rng = np.random.default_rng(1)
    groups, hits = np.repeat(np.arange(6), 5), 0
    for world in range(400):
        x = rng.normal(size=6)[groups] + rng.normal(size=30)
        e = Bootstrap(groups, 400, world).mean(x)
        hits += e.low <= 0 <= e.high
    assert 0.91 <= hits / 400 <= 0.985


def test_concentration_of_known_effects():
    import pandas as pd

    effects = pd.DataFrame(
        {
            "emotion": ["fear"] * 3 + ["joy"],
            "phase": [2, 2, 1, 1],
            "effect": [3.0, 1.0, 9.0, 1.0],
            "causal": [True, True, False, False],
            "role": "discover",
            "n": [7, 7, 7, 5],
        }
    )
    table = concentration(effects, ["fear", "joy"]).set_index(["emotion", "phase"])
    fear = table.loc[("fear", "all")]
    assert fear["n_causal"] == 2 and fear["share_top_1"] == 0.75 and fear["effective_number"] == pytest.approx(1.6)
    assert table.loc[("fear", "1"), "n_causal"] == 0
    assert table.loc[("joy", "all"), "n_causal"] == 0 and np.isnan(table.loc[("joy", "all"), "effective_number"])
