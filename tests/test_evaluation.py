"""Scores, curves, side effects and references on made arrays, where the right number is known."""

import numpy as np
import pandas as pd
import pytest

from interp.evaluation.curves import BIAS, Dose, LearntFrom, dose_rows, learning_rows
from interp.evaluation.recognition import (
    method_scores,
    paired_improvements,
    predictions,
    recall_improvements,
    recognition_scores,
    score_rows,
)
from interp.evaluation.references import ProbeData, probe, with_bias, without_prior
from interp.evaluation.side_effects import Behaviour, side_effects
from interp.statistics import Bootstrap

LABELS = ["joy", "fear", "anger"]
GOLD = np.arange(60) % 3
HALF = np.where(np.arange(60) < 30, GOLD, (GOLD + 1) % 3)
BOOTSTRAP = Bootstrap(range(60), 200)


def test_scores_by_hand():
    scores = recognition_scores(GOLD, HALF, LABELS, BOOTSTRAP)
    assert {name: e.value for name, e in scores.items()} == pytest.approx(
        {"accuracy": 0.5, "macro_f1": 0.5, "recall_joy": 0.5, "recall_fear": 0.5, "recall_anger": 0.5}
    )
    assert scores["accuracy"].n == 60
    assert scores["recall_joy"].n == 20
    assert scores["accuracy"].ci_low < 0.5 < scores["accuracy"].ci_high


def test_improvements_are_paired():
    changes = paired_improvements(GOLD, HALF, GOLD, LABELS, BOOTSTRAP)
    assert changes["accuracy_gain"].value == changes["macro_f1_gain"].value == 0.5
    assert changes["mcnemar_p"].value == pytest.approx(2 * 0.5**30)
    recalls = recall_improvements(GOLD, HALF, GOLD, [*LABELS, "shame"], BOOTSTRAP)
    assert list(recalls) == [f"recall_gain_{label}" for label in LABELS]
    assert all(e.value == 0.5 and 0 < e.ci_low < e.ci_high < 1 and e.n == 20 for e in recalls.values())


def test_a_method_is_compared_with_the_best_prompt_too():
    logits = {"unsteered": np.eye(3)[HALF], "few_shot_1": np.eye(3)[GOLD], "steered": np.eye(3)[GOLD]}
    scores = method_scores(GOLD, logits, LABELS, ["unsteered", "few_shot_1", "few_shot_3"], BOOTSTRAP)
    assert "macro_f1_gain" not in scores["unsteered"]
    assert scores["steered"]["macro_f1_gain"].value == 0.5
    assert scores["steered"]["macro_f1_gain_over_best_prompt"].value == 0
    right, wrong = np.exp([1, 0]) / (np.e + 2)
    assert scores["steered"]["brier"].value == pytest.approx((1 - right) ** 2 + 2 * wrong**2, rel=1e-6)
    assert scores["steered"]["calibration_error"].value == pytest.approx(1 - right)
    rows = pd.DataFrame(score_rows("made", "test", scores))
    assert list(rows) == ["corpus", "split", "method", "metric", "value", "ci_low", "ci_high", "n"]
    assert len(rows) == sum(map(len, scores.values()))


def test_predictions_say_what_was_answered():
    examples = pd.DataFrame({"id": ["a", "b"], "corpus": "made", "gold": ["joy", "fear"], "other": 0})
    table = predictions(
        examples, {"x": np.array([[0, 1, 0], [0, 1, 0]]), "y": np.array([[1, 0, 0], [0, 0, 1]])}, LABELS
    )
    assert table.to_numpy().tolist() == [
        ["a", "made", "x", "joy", "fear"],
        ["b", "made", "x", "fear", "fear"],
        ["a", "made", "y", "joy", "joy"],
        ["b", "made", "y", "fear", "anger"],
    ]


def test_doses_and_learning_curves():
    (row,) = dose_rows("made", GOLD, HALF, {Dose("amplify", 0.5): GOLD}, 3, BOOTSTRAP)
    assert (row["corpus"], row["method"], row["strength"], row["changed"], row["value"]) == (
        "made",
        "amplify",
        0.5,
        0.5,
        0.5,
    )
    answers = {LearntFrom("coupled", 5, 0): HALF, LearntFrom("coupled", 5, 1): GOLD, LearntFrom("coupled", 9, 0): GOLD}
    answers[LearntFrom(BIAS, 5, 0)] = HALF
    few, many, bias = learning_rows("made", GOLD, HALF, answers, 3, BOOTSTRAP, seed=0)
    assert (few["labels"], few["value"], few["draws"], few["n"]) == (5, 0.25, 2, 60)
    assert (few["draw_low"], few["draw_high"]) == pytest.approx((0.0125, 0.4875))  # of the two draws
    assert few["ci_low"] == pytest.approx(0.0, abs=1e-9)  # both draws the one without a gain: one resample in four
    assert few["ci_high"] > 0.45
    assert (few["over_bias"], many["value"], bias["value"]) == (0.25, 0.5, 0.0)
    assert many["ci_high"] - many["ci_low"] < few["ci_high"] - few["ci_low"]  # a single draw has no spread but texts'
    assert "over_bias" not in many
    assert "over_bias" not in bias


def test_side_effects_are_paired_with_the_unsteered_model():
    before = Behaviour(np.array([True, True, False, False]), np.full(5, 0.8), np.zeros(10, int), np.array([0, 1]))
    after = Behaviour(np.array([True, False, False, False]), np.full(5, 0.6), np.arange(10) % 2, np.array([0, 2]))
    behaviours = {"unsteered": before, "amplify": after}
    drawn = []

    def bootstrap(metric: str, n: int) -> Bootstrap:
        drawn.append(metric)
        return Bootstrap(range(n), 50)

    table = side_effects(behaviours, ["a", "a", "b", "b"], np.array([0, 2]), bootstrap)
    value = table.set_index(["method", "metric"])["value"]
    assert value["unsteered", "cloze_accuracy"] == 0.5
    assert value["unsteered", "cloze_accuracy_a"] == 1
    assert value["amplify", "cloze_accuracy_gain"] == -0.25
    assert value["amplify", "neutral_changed"] == 0.5
    assert value["amplify", "answer_valid_gain"] == pytest.approx(-0.2)
    assert value["amplify", "keyword_free_accuracy"] == 1
    assert value["amplify", "keyword_free_accuracy_gain"] == 0.5
    assert ("unsteered", "neutral_changed") not in value
    assert len(drawn) == len(set(drawn))


def test_no_keyword_free_texts_give_no_rows():
    behaviour = Behaviour(np.array([True]), np.array([0.5]), np.array([0]), np.zeros(0, int))
    table = side_effects({"unsteered": behaviour}, ["a"], np.zeros(0, int), lambda metric, n: Bootstrap(range(n), 10))
    assert set(table["metric"]) == {"cloze_accuracy", "cloze_accuracy_a", "answer_valid"}


def test_a_shift_undoes_a_prior_and_a_bias_is_learnt():
    rng = np.random.default_rng(0)
    log_probs = rng.normal(size=(60, 3))
    shifted = log_probs + np.array([2.0, 0, -1])
    assert np.allclose(without_prior(shifted, shifted), without_prior(log_probs, log_probs))
    told = np.eye(3)[GOLD] + np.array([1.5, 0, 0])
    assert (told.argmax(1) == GOLD).mean() < 0.5
    assert (with_bias(told, told, GOLD).argmax(1) == GOLD).all()


def test_a_probe_takes_the_layer_that_tells_and_needs_examples():
    rng = np.random.default_rng(0)
    layers = {0: rng.normal(size=(60, 4)), 1: np.eye(4)[GOLD] + 0.1 * rng.normal(size=(60, 4))}
    fit, rows = np.arange(30), np.arange(30, 60)
    logits = probe(ProbeData(layers.__getitem__, fit, GOLD[fit], 4), layers, rows, 0)
    assert (logits.argmax(1) == GOLD[rows]).all()
    assert (logits[:, 3] < -20).all()
    assert probe(ProbeData(layers.__getitem__, fit[:6], GOLD[:6], 4), layers, rows, 0) is None
