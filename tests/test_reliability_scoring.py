"""Reliability: synthetic answerers get what theory says."""

import numpy as np
import pandas as pd
import pytest
from reliability_items import LABELS, QUICK, items, values
from sklearn.metrics import cohen_kappa_score

from interp.surveys.reliability import collecting
from interp.surveys.reliability.collecting import emotion_table
from interp.surveys.reliability.emotion_scoring import score_emotions
from interp.surveys.reliability.emotion_variations import (
    EDITS,
    TEMPLATES,
    emotion_variations,
    expand_emotions,
    label_orders,
)
from interp.surveys.reliability.measures import agreement, cronbachs_alpha, fleiss, split_half
from interp.surveys.reliability.scoring import Reliability, score
from interp.surveys.reliability.variations import expand, one_at_a_time, resolve_personas
from interp.texts.examples import Example


def scored(agrees, n: int = 32, personas=()) -> Reliability:
    """Scores of an answerer; `agrees(question number, facts)` is its probability on the agreeing option."""
    people = resolve_personas(personas)
    asked = list(expand(items(n), one_at_a_time(personas=people), people))
    rows = [agrees(int(a.facts["question"][2:]), a.facts) for a in asked]
    table = pd.DataFrame(
        [{**a.facts, "p_agree": p, "p_disagree": 0.98 - p, "top": True} for a, p in zip(asked, rows, strict=True)]
    )
    return score(table, **QUICK)


# ------------------------------------------------------------------------------------- known answerers


def test_who_always_says_true_is_what_a_constant_answerer_gets():
    found = scored(lambda i, facts: 0.9)
    expected = {"agree": 1, "order": 1, "wording": 1, "format": 1, "negation_direct": 0, "negation_paraphrastic": 0}
    for measure, value in expected.items():
        share = found.measures[measure]
        assert share.value == share.constant == value
    assert values(found)["position_bias"] == values(found)["format_sensitivity"] == 0
    assert values(found)["mass"] == pytest.approx(0.98) and values(found)["top"] == 1
    assert all(np.isnan(found.measures[m].kappa) for m in ("order", "wording", "format"))
    assert all(found.measures[m].kappa == 0 for m in ("negation_direct", "negation_paraphrastic"))


def test_who_always_takes_the_first_option_has_all_the_position_bias():
    found = scored(lambda i, facts: 0.9 if facts["order"] == "given" else 0.08)
    assert values(found)["order"] == 0 and values(found)["position_bias"] == 1
    assert values(found)["agree"] == values(found)["wording"] == 1
    last = scored(lambda i, facts: 0.08 if facts["order"] == "given" else 0.9)
    assert values(last)["position_bias"] == -1 and values(last)["agree"] == 0


def test_the_perfectly_consistent_turn_their_answer_round_with_the_statement():
    found = scored(lambda i, facts: 0.9 if (i % 2 == 0) == (facts["negation"] == "none") else 0.08, personas=["nurse"])
    for measure in ("order", "wording", "format", "persona", "negation_direct", "negation_paraphrastic"):
        assert found.measures[measure].value == found.measures[measure].kappa == 1
    assert values(found)["agree"] == 0.5
    assert values(found)["position_bias"] == values(found)["format_sensitivity"] == 0


def test_the_negation_blind_are_stable_and_below_chance_on_negations():
    found = scored(lambda i, facts: 0.9 if i % 2 == 0 else 0.08)
    assert found.measures["order"].kappa == 1 == values(found)["wording"]
    for measure in ("negation_direct", "negation_paraphrastic"):
        assert found.measures[measure].value == 0 and found.measures[measure].kappa == -1


def test_a_coin_agrees_with_itself_half_of_the_time():
    """Every combination of five fair coins occurs once: independence is exact."""
    coin = {"swapped": 1, "yes_no": 2, "agree": 2, "direct": 3, "paraphrastic": 4}

    def flips(i: int, facts: dict) -> float:
        which = max(coin.get(level, 0) for level in facts.values() if isinstance(level, str))
        return 0.9 if i >> which & 1 else 0.08

    found = scored(flips)
    for measure in ("order", "wording", "negation_direct", "negation_paraphrastic"):
        share = found.measures[measure]
        assert share.value == share.chance == 0.5 and share.kappa == 0
        assert share.low < 0.5 < share.high and share.kappa_low < 0 < share.kappa_high
    assert values(found)["agree"] == 0.5 and values(found)["position_bias"] == 0


def test_ties_are_no_answers_and_are_counted():
    found = scored(lambda i, facts: 0.49 if i < 8 else 0.9)
    assert found.measures["agree"].n == 24 and found.unanswered == 8 * 14
    assert found.skipped["order"] == 8


def test_groups_and_variations_are_scored_alone():
    found = scored(lambda i, facts: 0.9 if i % 2 == 0 or facts["format"] == "cue_response" else 0.08)
    cells = found.items.set_index(["level", "name", "measure"])["value"]
    assert cells["axis", "made up/axis 0", "agree"] == 1 and cells["axis", "made up/axis 1", "agree"] == 0
    assert cells["instrument", "made up", "agree"] == 0.5
    assert cells["variation", "format=cue_response", "consistent"] == 0.5
    assert cells["variation", "format=separator_blank", "consistent"] == 1
    # 8 of the 36 pairs of nine formats hold the one that half of the questions answer otherwise
    assert values(found)["format_sensitivity"] == pytest.approx(8 / 36 / 2)


# ------------------------------------------------------------------------------------- figures by hand


def test_kappa_share_and_chance_by_hand():
    before = np.array([1] * 5 + [0] * 5)
    after = np.array([1] * 4 + [0] + [1] * 2 + [0] * 3)
    found = agreement(before, after, list(range(10)), resamples=2000)
    assert found.value == pytest.approx(0.7) and found.chance == pytest.approx(0.5)
    assert found.kappa == pytest.approx(0.4) == cohen_kappa_score(before, after)
    assert 0.25 < found.low < 0.7 < found.high <= 1 and found.kappa_low < 0.4 < found.kappa_high


def test_intervals_resample_whole_questions():
    before, after = np.tile([1, 0], 50), np.ones(100, int)
    alone = agreement(before, after, list(range(100)))
    together = agreement(before, after, [i // 2 for i in range(100)])
    assert together.clusters == 50 and together.low == together.high == 0.5 and alone.low < 0.45


def test_alpha_and_split_half_by_hand():
    scores = np.array([[1.0, 2], [2, 4], [3, 6]])  # item variances 1 and 4, variance of the sum 9
    assert cronbachs_alpha(scores) == pytest.approx(2 * (1 - 5 / 9))
    assert split_half(scores) == pytest.approx(1)
    uncorrelated = np.array([[0.0, 0], [0, 1], [1, 0], [1, 1]])
    assert cronbachs_alpha(uncorrelated) == pytest.approx(0) == split_half(uncorrelated)
    assert np.isnan(cronbachs_alpha(np.ones((3, 4)))) and np.isnan(split_half(np.ones((2, 4))))


def test_fleiss_by_hand():
    answers = np.array([[0, 0, 0], [1, 1, 0]])  # agreement 1 and 1/3; label shares 2/3 and 1/3
    assert fleiss(answers, [0, 1], resamples=100).value == pytest.approx((2 / 3 - 5 / 9) / (4 / 9))
    assert np.isnan(fleiss(np.zeros((4, 3), int), range(4), resamples=100).value)


# ------------------------------------------------------------------------------------- emotions


def emotions_scored(chooses, n: int = 8):
    """`chooses(gold, listed labels, facts)` is the label answered."""
    examples = [Example(f"t/{i}", "t", "test", f"Text {i}", LABELS[i % 4], f"t/{i}") for i in range(n)]
    orders = label_orders(4)
    asked = list(expand_emotions(examples, LABELS, emotion_variations(orders), orders))
    rows = []
    for a in asked:
        listed = [LABELS[i] for i in orders[a.facts["order"]]]
        chosen = chooses(a.facts["gold"], listed, a.facts)
        rows.append(collecting.AnswerRow([0.7 if label == chosen else 0.1 for label in LABELS], True, "first token", 0))
    return score_emotions(emotion_table(asked, rows, LABELS), LABELS, orders, **QUICK)


def test_who_recognises_emotions_does_so_in_every_order():
    found = values(emotions_scored(lambda gold, listed, facts: gold))
    assert {m: found[m] for m in found if m.startswith("accuracy")} == dict.fromkeys(
        ("accuracy", "accuracy_worst_order", "accuracy_every_order", "accuracy_averaged"), 1
    )
    assert found["flip_rate"] == found["any_flip"] == found["position_bias"] == 0 and found["fleiss_kappa"] == 1


def test_who_takes_the_first_label_has_recognised_nothing():
    result = emotions_scored(lambda gold, listed, facts: listed[0])
    found = values(result)
    orders = label_orders(4)
    moved = [order for order in orders.values() if order[0] != 0]
    assert found["flip_rate"] == pytest.approx(len(moved) / (len(orders) - 1))
    assert found["any_flip"] == found["position_bias"] == 1
    assert found["accuracy"] == 0.25 and found["accuracy_every_order"] == 0
    assert result.measures["fleiss_kappa"].value < 0
    assert values(emotions_scored(lambda gold, listed, facts: listed[-1]))["position_bias"] == -1


def test_averaging_over_orders_mends_an_answer_that_one_order_spoils():
    found = values(emotions_scored(lambda gold, listed, facts: "joy" if facts["order"] == "rotation_1" else gold))
    assert found["accuracy_averaged"] == found["accuracy"] == 1 and found["accuracy_worst_order"] == 0.25
    by_variation = emotions_scored(lambda gold, listed, facts: "joy" if facts["edit"] == "upper_case" else gold).items
    cells = by_variation.set_index(["name", "measure"])["value"]
    assert cells["edit=upper_case", "accuracy"] == cells["edit=upper_case", "consistent"] == 0.25
    assert cells["edit=lower_case", "consistent"] == 1


def test_label_orders_are_rotations_then_others():
    orders = label_orders(6, permutations=3, seed=1)
    assert len(orders) == len(set(orders.values())) == 9 and orders["rotation_2"] == (2, 3, 4, 5, 0, 1)
    assert orders == label_orders(6, permutations=3, seed=1) != label_orders(6, permutations=3, seed=2)
    assert len(label_orders(3)) == 6 and len(label_orders(2)) == 2


def test_emotion_prompts_change_what_they_say_they_change():
    example = Example("t/0", "t", "test", "Rain again", "joy", "t/0")
    orders = label_orders(4)
    prompts = {}
    for asked in expand_emotions([example], LABELS, emotion_variations(orders), orders):
        prompts[tuple(v for k, v in asked.facts.items() if k in ("order", "names", "template", "edit"))] = asked
    assert (
        len(prompts) == len({str(a.prompt) for a in prompts.values()}) == len(orders) + len(TEMPLATES) + len(EDITS) - 1
    )
    turned = str(prompts["rotation_1", "own", "plain", "none"].prompt)
    assert "Options: fear, joy, sadness, anger\n" in turned
    assert prompts["given", "synonyms", "plain", "none"].options == ("fury", "terror", "happiness", "sorrow")
    assert '"Rain again"' in str(prompts["given", "own", "plain", "quotation_marks"].prompt)
