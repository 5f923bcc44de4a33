"""Profiles of selective features: the nearest other emotion, and what is left of them without the word."""

import numpy as np
from scipy.sparse import csr_array
from worlds import LABELS

from interp.analysis.profiles import with_profiles
from interp.analysis.selectivity import selectivity


def profiled(acts, gold, keyword_free=None):
    table = selectivity(csr_array(acts), gold, LABELS)
    return with_profiles(table, csr_array(acts), gold, LABELS, keyword_free, 0).set_index(["feature", "emotion"])


def test_a_feature_that_belongs_to_two_emotions_names_the_nearest():
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1, 2], 60)
    acts = np.zeros((180, 2))
    acts[gold == 0, 0] = rng.random(60) + 1
    acts[gold == 1, 0] = rng.random(60) + 2  # stronger for fear than for anger
    acts[gold == 2, 1] = rng.random(60) + 1
    table = profiled(acts, gold)
    anger = table.loc[(0, "anger")] if table.loc[(0, "anger"), "kind"] != "none" else None
    fear, joy = table.loc[(0, "fear")], table.loc[(1, "joy")]
    assert fear["nearest"] == "anger" and fear["auroc_nearest"] == 1.0 and fear["stable"]
    assert joy["auroc_nearest"] == 1.0 and joy["p_nearest"] < 1e-6
    if anger is not None:
        assert anger["nearest"] == "fear" and anger["auroc_nearest"] == 0.0


def test_a_feature_that_dies_without_the_word_is_lexical():
    rng = np.random.default_rng(1)
    gold = np.tile([0, 1, 2], 60)
    free = np.repeat([True, False], 90)
    acts = rng.random((180, 2)) * (rng.random((180, 2)) < 0.1)
    acts[(gold == 0) & ~free, 0] = rng.random(30) + 1  # only where the word stands
    acts[gold == 1, 1] = rng.random(60) + 1  # with and without
    table = profiled(acts, gold, free)
    word, meaning = table.loc[(0, "anger")], table.loc[(1, "fear")]
    assert word["lexical"] and word["auroc_with_word"] > 0.95 and word["auroc_without_word"] < 0.65
    assert not meaning["lexical"] and meaning["auroc_without_word"] > 0.95
    assert profiled(acts, gold)["lexical"].isna().all()
