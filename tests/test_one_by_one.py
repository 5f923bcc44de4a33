"""Features removed one by one, and set: each row is what the single ablation says, and only rows with an effect are."""

import pytest
import torch
from tiny_models import PROMPTS

from interp import capture
from interp.engine import (
    FeatureEdits,
    OneByOne,
    TracedFeatures,
    ablate,
    ablate_one_by_one,
    answers_under,
    insertion,
    patch,
)

LABELS = ["anger", "fear", "joy"]
GOLD = torch.tensor([0, 1, 1, 2, 0])
TRACED = {1: TracedFeatures.of([(5, 0), (40, 1), (5, 1)], 3), 3: TracedFeatures.of([(9, 0), (12, 1), (60, 0)], 3)}


@pytest.fixture
def captured(llama):
    return capture(llama, PROMPTS, answers=LABELS, keep_cache=True, everywhere=[1, 3])


def test_pairs_become_sorted_features_and_a_mask():
    assert TRACED[1].features.tolist() == [5, 40]
    assert TRACED[1].of_emotion.tolist() == [[True, False], [True, True], [False, False]]


def test_each_row_is_a_single_ablation(llama, stack, captured):
    found = ablate_one_by_one(llama, stack, captured, TRACED, GOLD)
    rows = set(zip(*(x.tolist() for x in (found.edits.layer, found.edits.example, found.edits.feature)), strict=True))
    expected = {
        (layer, example, int(feature))
        for layer, (features, of_emotion) in TRACED.items()
        for example, gold in enumerate(GOLD)
        for feature in features[of_emotion[gold]]
        if stack.encode(layer, captured.residuals[layer, example])[feature] > 0
    }
    assert rows == expected and len(found.edits) == len(rows)
    for row, (k, e, f) in enumerate(zip(found.edits.layer, found.edits.example, found.edits.feature, strict=True)):
        alone = ablate(llama, stack, captured, layer=int(k), features=[int(f)])[e, 0]
        torch.testing.assert_close(found.logits[row], alone, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.clean[row], captured.answer_logits[e])


def test_at_all_positions_only_features_that_fire_have_a_row(llama, stack, captured):
    found = ablate_one_by_one(llama, stack, captured, TRACED, GOLD, position="all")
    assert len(found.edits) >= len(ablate_one_by_one(llama, stack, captured, TRACED, GOLD).edits)
    assert (found.logits != found.clean).any(1).all() and found.edits.change.isnan().all()


def test_effects_are_falls_of_log_probability_and_of_the_centred_logit():
    clean, without = torch.tensor([[2.0, 1.0, 0.0], [0.0, 0.0, 3.0]]), torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    none = torch.zeros(2, dtype=torch.long)
    found = OneByOne(FeatureEdits(none, none, none, none.float()), without, clean)
    log_probs = [x.log_softmax(-1) for x in (clean, without)]
    torch.testing.assert_close(found.effects(torch.tensor([0, 2])), (log_probs[0] - log_probs[1])[[0, 1], [0, 2]])
    torch.testing.assert_close(found.logit_effects(), torch.tensor([[4.0, -2.0, -2.0], [-1.0, -1.0, 2.0]]) / 3)
    assert found.flipped.tolist() == [True, False]


def test_nothing_traced_is_no_row(llama, stack, captured):
    for position in ("answer", "all"):
        found = ablate_one_by_one(llama, stack, captured, {}, GOLD, position=position)
        assert len(found.edits) == 0 and found.logits.shape == found.clean.shape == (0, 3)


def test_insertion_equals_patching(llama, stack, captured):
    edits = insertion(stack, {1: {5: 2.0, 40: 0.5}})
    expected = patch(llama, stack, captured, layer=1, features=[5, 40], values=torch.tensor([2.0, 0.5]).expand(5, 2))
    torch.testing.assert_close(answers_under(llama, captured, edits), expected, atol=1e-4, rtol=0)
