"""Effects of single features on made measurements: the causes that were planted are called causal, and only they."""

import numpy as np
import pandas as pd
import pytest

from interp.analysis.candidates import Candidate, candidate_table
from interp.analysis.effects import concentration, dense, exceeds_controls, is_causal, mean_effects, with_specificity
from interp.analysis.labelled import LabelledExamples, seed_for
from interp.analysis.specificity import q_values, specificity

LABELS = ("anger", "fear", "joy")
EACH = 40
EXAMPLES = LabelledExamples(LABELS, np.repeat([0, 1, 2], EACH), np.arange(3 * EACH), resamples=400)
CAUSE, PRIOR, INERT = 0, 1, 2
CONTROLS = range(10, 22)


def candidates(emotion=0):
    made = [Candidate(3, 1, f, emotion, 0.5, False) for f in (CAUSE, PRIOR, INERT)]
    return candidate_table([*made, *(Candidate(3, 1, f, emotion, 0.1, True) for f in CONTROLS)], LABELS)


def measurements(rng):
    """Falls on every example; the prior's is as large where the emotion is not."""
    lines = []
    for row, gold in enumerate(EXAMPLES.gold):
        for feature in (CAUSE, PRIOR, INERT, *CONTROLS):
            size = {CAUSE: 1.0 if gold == 0 else 0.0, PRIOR: 1.0}.get(feature, 0.0)
            fall = size + 0.05 * rng.standard_normal()
            lines.append({"row": row, "layer": 3, "feature": feature, "effect": fall, "flipped": fall > 1, "0": fall})
    return pd.DataFrame(lines)


def test_the_planted_cause_is_causal_and_a_prior_is_not():
    measured = measurements(np.random.default_rng(0))
    own = measured[EXAMPLES.gold[measured["row"]] == 0]
    effects = mean_effects(own, candidates(), EXAMPLES, "discover")
    assert set(effects.loc[exceeds_controls(effects), "feature"]) == {CAUSE, PRIOR}
    finished = with_specificity(effects, measured, EXAMPLES, pool=200).set_index("feature")
    assert finished.index[finished["causal"]].tolist() == [CAUSE]
    assert finished["causal"].equals(is_causal(finished))
    assert finished.loc[CAUSE, "logit_effect_elsewhere"] == pytest.approx(0, abs=0.05)
    assert finished.loc[PRIOR, "logit_effect_elsewhere"] == pytest.approx(1, abs=0.05)
    assert finished.loc[[INERT, *CONTROLS], "q"].isna().all()  # not tested


def test_an_effect_is_a_mean_over_all_examples_and_zero_where_the_feature_is_inactive():
    measured = pd.DataFrame(
        {"row": [0, 1, 5], "layer": 3, "feature": CAUSE, "effect": [1.0, 2.0, 0.0], "flipped": [True, False, False]}
    )
    found = mean_effects(measured, candidates(), EXAMPLES, "fit").set_index("feature")
    cause = found.loc[CAUSE]
    assert cause["effect"] == pytest.approx(3 / EACH) and cause["n"] == EACH and cause["n_active"] == 3
    assert cause["flip_rate"] == pytest.approx(1 / EACH) and cause["ci_low"] <= cause["effect"] <= cause["ci_high"]
    assert (found.loc[[*CONTROLS], ["effect", "ci_low", "ci_high", "n_active"]] == 0).all(axis=None)


def test_an_emotion_without_examples_has_no_row_and_nothing_keeps_its_columns():
    only_joy = LabelledExamples(LABELS, np.full(4, 2), np.arange(4))
    measured = pd.DataFrame(columns=["row", "layer", "feature", "effect", "flipped"])
    for table in (candidates(), candidates()[:0]):
        found = mean_effects(measured, table, only_joy, "discover")
        assert not len(found) and found["control"].dtype == bool and found["n"].dtype == int
        finished = with_specificity(found, measured, only_joy, pool=0)
        assert list(finished.columns[-5:]) == ["causal", "logit_effect", "logit_effect_elsewhere", "p", "q"]


def test_rows_may_have_numbers_of_their_own():
    named = LabelledExamples(LABELS, np.array([0, 0, 1]), np.arange(3), rows=np.array([70, 20, 30]))
    measured = pd.DataFrame({"row": [20, 30, 20], "layer": 3, "feature": [CAUSE, CAUSE, 99], "effect": [1.0, 2.0, 9.0]})
    np.testing.assert_array_equal(dense(measured, ["effect"], candidates()[:2], named), [[[0, 0], [1, 0], [2, 0]]])
    some = named.only(np.array([2, 0]))
    np.testing.assert_array_equal(dense(measured, ["effect"], candidates()[:2], some), [[[2, 0], [0, 0]]])


# ---------------------------------------------------------------------------------------- specificity


def test_an_effect_everywhere_is_not_specific_and_one_on_its_emotion_is():
    rng = np.random.default_rng(0)
    inside = np.repeat([True, False], [30, 60])
    falls = 0.1 * rng.standard_normal((90, 2)) + np.stack([inside, np.ones(90)], 1)
    found = specificity(falls, inside, np.arange(90))
    np.testing.assert_allclose(found.inside, 1, atol=0.05)
    np.testing.assert_allclose(found.elsewhere, [0, 1], atol=0.05)
    assert found.p[0] < 1e-6 < 0.01 < found.p[1]


def test_texts_of_one_source_count_once():
    inside = np.repeat([True, False], [40, 40])
    falls = np.where(inside, 1.0, 0.0)[:, None]
    alone = specificity(falls, inside, np.arange(80)).p[0]
    grouped = specificity(falls, inside, np.repeat(np.arange(4), 20)).p[0]
    assert alone < 1e-9 and grouped > 0.05  # two sources on each side


def test_untested_pairs_make_q_larger():
    p = np.array([0.001, 0.02])
    np.testing.assert_allclose(q_values(p, 2), [0.002, 0.02])
    np.testing.assert_allclose(q_values(p, 100), [0.1, 1.0])
    assert len(q_values(np.zeros(0), 5)) == 0


# ---------------------------------------------------------------------------------------- examples


def test_a_mean_is_resampled_by_groups_and_every_purpose_has_its_seed():
    values = np.repeat([0.0, 1.0], 20)
    apart = LabelledExamples(["a"], np.zeros(40, int), np.arange(40))
    together = LabelledExamples(["a"], np.zeros(40, int), np.repeat(np.arange(4), 10))
    narrow, wide = (e.mean(values, e.members(0), "x") for e in (apart, together))
    assert narrow["effect"] == wide["effect"] == 0.5 and narrow["n"] == 40
    assert wide["ci_high"] - wide["ci_low"] > 1.5 * (narrow["ci_high"] - narrow["ci_low"])
    assert seed_for(0, "x") != seed_for(0, "y") != seed_for(1, "y")
    assert not np.array_equal(*(apart.bootstrap(np.arange(40), purpose).weights for purpose in "xy"))


def test_concentration_of_known_effects():
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
