"""The bootstrap: what is resampled, what its intervals hold, and that differences are paired."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from sklearn.metrics import f1_score, recall_score

from interp.defaults import RESAMPLES
from interp.statistics import Bootstrap, Estimate, accuracy, confusion_draws, macro_f1, numbered, recalls

SEEDS = st.integers(0, 2**32 - 1)
GROUPS = st.lists(st.integers(0, 6), min_size=2, max_size=30)


@given(GROUPS, SEEDS)
def test_whole_groups_are_drawn_and_every_resample_has_as_many(groups, seed):
    bootstrap = Bootstrap(groups, 20, seed)
    for group in set(groups):
        assert (np.ptp(bootstrap.weights[:, np.array(groups) == group], axis=1) == 0).all()
    assert len(set(bootstrap.group_weights.sum(1))) == 1
    assert 1 <= bootstrap.group_weights[0].sum() <= len(set(groups))
    assert np.array_equal(bootstrap.weights, Bootstrap(groups, 20, seed).weights)


@given(GROUPS, SEEDS, st.floats(-5, 5), st.floats(0.1, 5))
def test_a_mean_moves_and_stretches_with_its_values(groups, seed, shift, scale):
    values = np.random.default_rng(seed).normal(size=len(groups))
    bootstrap = Bootstrap(groups, 40, seed)
    plain, moved = bootstrap.mean(values), bootstrap.mean(scale * values + shift)
    assert np.allclose(np.array(moved[:3]), scale * np.array(plain[:3]) + shift, atol=1e-4)
    assert plain.ci_low <= plain.ci_high and plain.n == len(groups)


@given(GROUPS, SEEDS)
def test_all_ways_to_a_mean_agree(groups, seed):
    values = np.random.default_rng(seed).normal(size=len(groups))
    bootstrap, ones = Bootstrap(groups, 40, seed), np.ones(len(groups))
    mean = bootstrap.mean(values)
    assert np.allclose(mean, bootstrap.ratio(values, ones), atol=1e-5)
    assert np.allclose(mean, bootstrap.statistic(lambda w: w @ values / w.sum(1)), atol=1e-5)
    columns = np.stack([values, 2 * values], 1)
    for estimates in (bootstrap.means(columns), bootstrap.ratios(columns, np.ones_like(columns))):
        assert np.allclose([e[0] for e in estimates], mean[:3], atol=1e-5)
        assert np.allclose([e[1] for e in estimates], 2 * np.array(mean[:3]), atol=1e-5)
    sparse = bootstrap.ratios(csr_array(columns), csr_array(np.ones_like(columns)))
    assert np.allclose(sparse, bootstrap.ratios(columns, np.ones_like(columns)))


@given(GROUPS, SEEDS)
def test_what_does_not_change_has_no_interval_of_change(groups, seed):
    rng = np.random.default_rng(seed)
    gold, answers = rng.integers(0, 3, (2, len(groups)))
    bootstrap = Bootstrap(groups, 30, seed)

    def right(predicted, weights):
        return accuracy(confusion_draws(gold, predicted, 3, weights))

    assert bootstrap.change(right, answers, answers)[:3] == (0, 0, 0)
    change = bootstrap.change(right, answers, gold)
    difference = bootstrap.mean((answers != gold).astype(float))
    assert np.allclose(change, difference, atol=1e-5)
    pair = (rng.random((len(groups), 2)), np.ones((len(groups), 2)))
    assert not np.any(bootstrap.ratio_changes(pair, pair))


def test_a_change_is_narrower_than_two_intervals():
    rng = np.random.default_rng(0)
    easy = rng.random(200)
    before, after = (easy < 0.6).astype(float), (easy < 0.65).astype(float)
    bootstrap = Bootstrap(range(200))
    change = bootstrap.mean(after - before)
    apart = [bootstrap.mean(values) for values in (before, after)]
    assert change.ci_high - change.ci_low < 0.5 * min(e.ci_high - e.ci_low for e in apart)
    assert change.ci_low > 0 and len(bootstrap.weights) == RESAMPLES


def test_resamples_that_do_not_define_a_statistic_are_left_out():
    bootstrap = Bootstrap(range(6), 200, 1)
    some = np.array([1.0, 0, 0, 0, 0, 0])
    assert (bootstrap.weights[:, 0] == 0).any()
    assert bootstrap.ratio(some * 3, some) == Estimate(3, 3, 3, 6)
    assert np.isnan(bootstrap.ratio(some, 0 * some)[:3]).all()
    value, low, high = bootstrap.ratios(np.stack([some * 3, some], 1), np.stack([some, 0 * some], 1))
    assert (value[0], low[0], high[0]) == (3, 3, 3) and np.isnan([value[1], low[1], high[1]]).all()


def test_no_resamples_give_no_interval():
    bootstrap = Bootstrap(list("abc"), 0)
    assert bootstrap.mean(np.arange(3.0)).value == 1 and np.isnan(bootstrap.mean(np.arange(3.0)).ci_low)
    value, low, high = bootstrap.ratios(np.ones((3, 2)), np.ones((3, 2)))
    assert (value == 1).all() and np.isnan([low, high]).all()


def test_names_play_no_part_in_numbered_groups():
    one, other = (Bootstrap(numbered(names), 10, 2) for names in (["x:b", "x:b", "x:c"], ["1", "1", "z"]))
    assert np.array_equal(one.weights, other.weights)


@pytest.mark.parametrize("n", [8, 40])
def test_intervals_of_a_mean_hold_it_as_often_as_they_say(n):
    """Even for few groups, where full-size resamples hold it too rarely."""
    rng = np.random.default_rng(n)
    held = 0
    for seed in range(400):
        e = Bootstrap(range(n), 400, seed).mean(rng.normal(size=n))
        held += e.ci_low <= 0 <= e.ci_high
    assert 0.915 < held / 400 < 0.985


def test_a_row_of_a_table():
    assert Estimate(1.0, 0.5, 2.0, 7).row("effect") == {"effect": 1.0, "ci_low": 0.5, "ci_high": 2.0, "n": 7}


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
