"""The choice of a steering: what helps beyond doubt and does no harm, else none; all on made answers."""

from itertools import pairwise
from unittest.mock import Mock

import numpy as np
import pandas as pd
import pytest
import torch

from interp import Captured, LanguageModel, SaeStack
from interp.statistics import Bootstrap
from interp.steering import Steering
from interp.steering.choosing import Budget, Price, choose
from interp.steering.fit import FitData
from interp.steering.trials import Ground, Trial, possible_methods, score, strongest_features, weakest

LABELS = ["joy", "fear", "anger"]
GOLD = np.arange(150) % 3
# only gold and groups count


def made_data(gold: np.ndarray) -> FitData:
    parts = [(Mock(Captured), torch.from_numpy(gold))]
    return FitData(Mock(LanguageModel), Mock(SaeStack), LABELS, parts, list(range(len(gold))))


DATA = made_data(GOLD)
BUDGET = Budget(harm=0.1, perplexity=1.2)


def trial(method: str, wrong: int, changed: float = 0.0) -> Trial:
    """A made trial that errs on so many examples, evenly spread over emotions and places."""
    answers = GOLD.copy()
    missed = np.random.default_rng(0).permutation(150)[:wrong]
    answers[missed] = (answers[missed] + 1) % 3
    return Trial(method, f"{wrong} wrong", answers, score(DATA, answers), changed, Steering(method))


def chosen(trials: list[Trial], ratios: dict[str, float] | None = None, answered: dict[str, float] | None = None):
    def price(trial: Trial, steering: Steering) -> Price:
        assert steering is trial.steering
        return Price((ratios or {}).get(trial.setting, 1.0), (answered or {}).get(trial.setting, 1.0))

    boot = Bootstrap(DATA.groups, 300)
    return choose(DATA, trials, BUDGET, boot, 0, make=lambda t: t.steering, price=price)


PLAIN = trial("none", 60)


def test_the_best_harmless_trial_is_chosen():
    trials = [PLAIN, trial("amplify", 20), trial("gated", 5, changed=0.5), trial("global", 10)]
    choice = chosen(trials)
    assert choice.chosen is choice.reference is trials[3]
    assert set(choice.kept) == {"amplify", "gated", "global"}
    assert choice.table()["chosen"].tolist() == [False, False, False, True]
    assert "global (10 wrong)" in choice.reason(True)
    assert "3 settings tried" in choice.reason(True)
    assert choice.of_choosing.ci_low > 0
    assert choice.facts(True)["n_fit"] == 150


def test_a_trial_that_costs_too_much_language_is_passed_over_and_said():
    trials = [PLAIN, trial("amplify", 20), trial("amplify", 10)]
    choice = chosen(trials, {"10 wrong": 1.5, "20 wrong": 1.1})
    assert choice.chosen is trials[1]
    assert choice.refused == 1
    assert choice.price == Price(1.1)
    assert choice.kept == {"amplify": trials[1]}
    assert "1 better settings cost more language or answers than allowed" in choice.reason(True)


@pytest.mark.parametrize("others", [[], [("amplify", 60)], [("amplify", 59)], [("amplify", 90)]])
def test_none_is_chosen_where_nothing_helps_beyond_doubt(others):
    trials = [PLAIN, *(trial(*other) for other in others)]
    choice = chosen(trials)
    assert choice.chosen is PLAIN
    assert choice.price == Price()
    assert choice.reference is (trials[1] if others else None)
    said = choice.reason(False)
    assert ("Nothing beat" in said) if others else said.endswith("no causal feature was found.")


@pytest.mark.parametrize(("coupled_wrong", "wins"), [(3, True), (11, False)])
def test_of_few_examples_a_method_settled_on_is_taken_or_none(coupled_wrong, wins):
    gold = np.arange(30) % 3

    def answered(method: str, wrong: int) -> Trial:
        answers = gold.copy()
        answers[:wrong] = (answers[:wrong] + 1) % 3
        return Trial(method, f"{wrong} wrong", answers, 1 - wrong / 30, 0.0, Steering(method))

    trials = [answered("none", 12), answered("coupled", coupled_wrong), answered("global", 0)]
    choice = choose(
        made_data(gold),
        trials,
        BUDGET,
        Bootstrap(range(30), 300),
        0,
        make=lambda t: t.steering,
        price=lambda *_: Price(),
    )
    assert choice.chosen is trials[1 if wins else 0]
    assert "settled on for so few labels" in choice.reason(True)
    assert choice.of_choosing == choice.improvements[1]
    with_many = chosen([PLAIN, trial("coupled", 30), trial("global", 10)])
    assert with_many.chosen.method == "global"


def test_features_are_taken_from_every_emotion_in_turn():
    rows = [(1, 5, "joy", 3.0), (2, 6, "joy", 2.0), (2, 7, "fear", 0.5), (1, 5, "fear", 0.4), (3, 8, "joy", 0.1)]
    causal = pd.DataFrame(rows, columns=["layer", "feature", "emotion", "effect"])
    found = [(f.layer, f.feature, f.emotion) for f in strongest_features(causal, 4)]
    assert found == [(1, 5, "joy"), (2, 7, "fear"), (2, 6, "joy"), (3, 8, "joy")]
    for shorter, longer in pairwise(strongest_features(causal, n) for n in range(5)):
        assert longer[: len(shorter)] == shorter


def test_the_weakest_emotion_is_that_of_lowest_recall_among_those_asked():
    answers = GOLD.copy()
    answers[GOLD == 1], answers[np.flatnonzero(GOLD == 2)[:10]] = 0, 0
    assert weakest(DATA, answers, set(LABELS)) == "fear"
    assert weakest(DATA, answers, {"joy", "anger"}) == "anger"
    assert weakest(DATA, answers, {"shame"}) is None


def test_a_steering_after_which_no_label_is_answered_any_more_is_refused():
    trials = [PLAIN, trial("global", 10), trial("amplify", 20)]
    choice = chosen(trials, answered={"10 wrong": 0.87})
    assert choice.chosen is trials[2]
    assert "1 better settings cost more language or answers than allowed" in choice.reason(True)


def test_methods_need_features_and_anchors():
    assert possible_methods(Ground(DATA, [])) == []
