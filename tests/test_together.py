"""Features together on made logits: what was taken from an answer is found, and who got it."""

import numpy as np
import pandas as pd
import pytest

from interp.analysis.emotions_compared import EmotionTables, emotions_compared
from interp.analysis.labelled import LabelledExamples
from interp.analysis.together import (
    JOINT_SIZES,
    CausalSet,
    Inserted,
    Removed,
    causal_sets,
    cofiring,
    necessity,
    sufficiency,
    typical_activations,
    union,
)

LABELS = ("anger", "fear", "joy")
EACH = 20
EXAMPLES = LabelledExamples(LABELS, np.repeat([0, 1, 2], EACH), np.arange(3 * EACH), resamples=200)


def effects(n=40, emotion="fear"):
    """So many causal features of an emotion, two a layer, and five controls."""
    lines = [
        {"emotion": emotion, "layer": i // 2, "phase": 1 + (i >= n // 2), "feature": i, "effect": 1 / (i + 1)}
        | {"causal": True, "control": False, "role": "discover"}
        for i in range(n)
    ]
    lines += [{**lines[0], "feature": 100 + i, "causal": False, "control": True} for i in range(5)]
    return pd.DataFrame([*lines, {**lines[0], "role": "fit"}])


def test_sets_are_the_strongest_first_and_of_discovery_alone():
    anger, fear, _ = causal_sets(effects().sample(frac=1, random_state=0), LABELS, seed=0)
    assert len(anger) == 0
    assert anger.removals() == {}
    assert fear.causal["feature"].tolist() == list(range(JOINT_SIZES[-1]))
    assert sorted(fear.controls["feature"]) == [100, 101, 102, 103, 104]
    assert fear.by_layer() == {k: [2 * k, 2 * k + 1] for k in range(16)}


def test_growing_sets_are_removed_with_as_many_controls_and_by_phase():
    fear = causal_sets(effects(6), LABELS, seed=0)[1]
    removals = fear.removals()
    assert [(r.phase, r.k) for r in removals if not r.control] == [
        *(("all", 1), ("all", 2), ("all", 4), ("all", 6), ("1", 3), ("2", 3))
    ]
    assert [r.k for r in removals if r.control] == [1, 2, 4]  # there are five
    assert removals[Removed("2", 3, False)] == {1: [3], 2: [4, 5]}
    assert union(removals[Removed("all", k, False)] for k in (1, 4)) == {0: [0, 1], 1: [2, 3]}


def test_what_is_removed_is_lost_and_the_gainer_is_named():
    before = np.tile([1.0, 3.0, 0.0], (EACH, 1))
    whole = np.tile([1.0, 0.0, 2.0], (EACH, 1))  # from fear to joy
    after = {Removed("all", 1, False): before, Removed("all", 4, False): whole, Removed("all", 4, True): before}
    found = necessity({1: before}, {1: after}, EXAMPLES)
    log_probs = [x[0, 1] - np.log(np.exp(x[0]).sum()) for x in (before, whole)]
    joint = found.joint.set_index(["k", "control"])
    assert joint.loc[(1, False), "effect"] == joint.loc[(4, True), "effect"] == 0
    assert joint.loc[(4, False), "effect"] == pytest.approx(log_probs[0] - log_probs[1])
    assert set(joint["n"]) == {EACH}
    moved = found.overshadowing.set_index("answer")
    assert moved["effect"].idxmax() == "joy"
    assert moved.loc["joy", "moved"] == 1
    assert moved.loc["anger", "moved"] == 0
    assert moved["effect"].sum() == pytest.approx(0, abs=1e-6)  # probabilities


def test_typical_activations_are_those_where_a_feature_is_active():
    np.testing.assert_array_equal(typical_activations(np.array([[2.0, 0.0], [0.0, 0.0], [4.0, 0.0]])), [3, 0])


def test_features_put_into_other_texts():
    before = np.zeros((3 * EACH + 8, 3))  # eight neutral texts
    before[:, 0] = 1
    before[:EACH:2, 1] = 9  # half of anger's texts are answered by fear already
    after = before + np.array([0, 2, 0])
    found = sufficiency(before, {Inserted(1, False): after, Inserted(1, True): before}, EXAMPLES)
    table = found.set_index(["target", "control"])
    assert set(found["target"]) == {"anger", "joy", "neutral"}
    assert set(found["emotion"]) == {"fear"}
    assert table.loc[("neutral", False), "n"] == 8
    assert table.loc[("neutral", False), "follows"] == 1
    assert table.loc[("anger", False), "n_answered_otherwise"] == EACH // 2
    assert (found.loc[found["control"], ["effect", "follows"]] == 0).all(axis=None)
    assert table.loc[("joy", False), "effect"] == pytest.approx(2 + np.log((np.e + 2) / (np.e + np.exp(2) + 1)))


def test_features_that_fire_on_texts_of_others():
    table = pd.DataFrame({"layer": [0, 0], "phase": 1, "feature": [1, 2]})
    fear, joy = CausalSet("fear", table, table[:0]), CausalSet("joy", table[1:], table[:0])
    sets = [CausalSet("anger", table[:0], table[:0]), fear, joy]
    active = {(0, 1): EXAMPLES.gold == 2, (0, 2): EXAMPLES.gold > 0}
    found = cofiring(sets, active, EXAMPLES).set_index(["features_of", "emotion"])
    assert found.loc[("fear", "fear"), "share"] == 0.5  # one of its two features
    assert found.loc[("fear", "joy"), "share"] == 1
    assert found.loc[("fear", "joy"), "common"] == 1
    assert found.loc[("fear", "joy"), "n_features"] == 1
    assert ("joy", "fear") not in found.index
    assert found.loc[("joy", "anger"), "share"] == 0


# ---------------------------------------------------------------------------------------- emotions side by side


def compared(**changed):
    answers = pd.DataFrame({"gold": ["fear"] * 4 + ["joy"], "predicted": ["fear", "anger", "anger", "joy", "joy"]})
    shares = dict.fromkeys(("share_top_1", "share_top_5", "share_top_10", "effective_number", "summed_effect"), 0.5)
    joint = {
        "emotion": "fear",
        "phase": "all",
        "k": [1, 4, 4],
        "control": [False, False, True],
        "effect": [1.0, 2.0, 0.1],
    }
    moved = {"emotion": "fear", "answer": ["fear", "joy", "anger"], "effect": [-0.9, 0.2, 0.7], "moved": [0, 0.1, 0.8]}
    into = {"emotion": "fear", "target": ["anger", "joy", "neutral"], "control": False}
    fires = {"emotion": ["fear", "fear", "fear"], "features_of": ["fear", "joy", "anger"], "share": [0.9, 0.4, 0.2]}
    kinds = {"emotion": "fear", "kind": ["shared", "none", "specific"], "lexical": [True, None, None]}
    tables = EmotionTables(
        pd.DataFrame({"emotion": LABELS, "phase": "all", "n_causal": [0, 4, 0], **shares}),
        pd.DataFrame(joint),
        pd.DataFrame(moved),
        pd.DataFrame(into).assign(n_answered_otherwise=[10, 30, 5], follows=[0.5, 0.1, np.nan]),
        pd.DataFrame(fires).assign(common=[0, 2, 1]),
        pd.DataFrame(kinds).assign(layer=0, feature=[1, 2, 3], auroc_nearest=[0.9, 0.9, 0.3]),
        pd.DataFrame({"emotion": "fear", "layer": 0, "feature": [1, 7], "causal": True, "role": ["discover"] * 2}),
    )
    traced = np.array([True, False, True, True, True])
    return emotions_compared(answers, traced, tables._replace(**changed), LABELS).set_index("emotion")


def test_an_emotion_is_described_by_what_the_tables_say():
    fear = compared().loc["fear"]
    assert (fear["n"], fear["n_traced"], fear["recall"]) == (4, 3, 0.25)
    assert (fear["taken_for"], fear["taken_for_share"]) == ("anger", 0.5)
    assert (fear["n_causal"], fear["removed_together"], fear["controls_removed_together"]) == (4, 2.0, 0.1)
    assert (fear["overshadowed_by"], fear["probability_gained"], fear["answers_moved"]) == ("anger", 0.7, 0.8)
    assert fear["follows_in_others"] == pytest.approx((5 + 3) / 40)
    assert fear["follows_in_neutral"] == 0
    assert np.isnan(fear["follows_in_others_control"])
    assert (fear["fires_with"], fear["fires_with_share"], fear["common_causes"]) == ("joy", 0.4, 2)
    assert (fear["n_selective"], fear["lexical"], fear["rather_of_another"]) == (2, 1.0, 0.5)
    assert fear["causal_and_selective"] == 1


def test_what_was_not_measured_is_missing():
    table = compared()
    assert table.loc["anger", ["n", "n_causal", "n_selective"]].tolist() == [0, 0, 0]
    assert table.loc["anger", ["recall", "removed_together", "lexical", "fires_with_share"]].isna().all()
    assert table.loc["joy", "recall"] == 1
    assert pd.isna(table.loc["joy", "taken_for"])
