"""Signals of layers: causal ones beside the engine's own calls, the others on data whose truth is known."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from tiny_models import SENTENCES

from interp import capture
from interp.analysis.signals import (
    causal_signals,
    content_overlap,
    control_labels,
    neighbour_agreement,
    probe_right,
    stratified_sample,
)
from interp.engine import ablate_jointly

LABELS = ("anger", "fear", "joy")
GOLD = torch.tensor([0, 1, 1, 2, 0])


def of_gold(logits):
    return logits.log_softmax(-1).gather(1, GOLD[:, None])[:, 0].double()


def test_evidence_is_a_read_out_and_the_joint_effect_a_joint_ablation(llama, stack):
    captured = capture(llama, [f"Text: {s}\nEmotion:" for s in SENTENCES], answers=LABELS, keep_cache=True)
    features = {1: [3, 8, 50], 3: [2, 60]}
    found = causal_signals(llama, stack, captured, GOLD, features)
    clean = of_gold(captured.answer_logits)
    for layer, of_layer in features.items():
        lost = clean - of_gold(ablate_jointly(llama, stack, captured, {layer: of_layer}))
        torch.testing.assert_close(found["joint_ablation"][:, layer], lost, atol=1e-4, rtol=0)
    torch.testing.assert_close(found["direct_evidence"][:, 3], clean, atol=1e-4, rtol=0)  # the last layer
    assert found["direct_evidence"][:, [0, 2]].isnan().all()


def test_a_sample_has_of_every_emotion_the_same_share():
    gold = np.repeat([0, 1, 2], [300, 60, 6])
    chosen = stratified_sample(gold, 61, seed=0)
    assert len(chosen) == 61 and (np.diff(chosen) > 0).all()
    assert np.bincount(gold[chosen]).tolist() == [50, 10, 1]
    assert stratified_sample(gold, 400, seed=0).tolist() == list(range(366))


def test_overlap_of_equal_and_of_disjoint_active_sets():
    same = csr_array(np.tile(np.eye(1, 8), (10, 1)))
    assert content_overlap(same, 0) == pytest.approx(np.ones(10))
    assert content_overlap(csr_array(np.eye(10)), 0) == pytest.approx(np.zeros(10))


def test_probe_is_scored_on_folds_it_has_not_seen():
    rng = np.random.default_rng(0)
    gold = np.repeat([0, 1], 40)
    assert probe_right(rng.normal(size=(80, 60)), gold, 0).mean() < 0.7  # separable in-sample, by chance
    assert probe_right(rng.normal(size=(80, 2)) + 4 * gold[:, None], gold, 0).mean() > 0.95


def test_a_control_task_can_be_solved_by_reading_the_first_word():
    rng = np.random.default_rng(0)
    words = ["I", "The", "My", "When", "She", "It"]
    first = rng.integers(6, size=300)
    labels = control_labels([f"{words[i]} went on." for i in first], 3, seed=0)
    assert all(len(set(labels[first == i])) == 1 for i in range(6))
    assert np.array_equal(labels, control_labels([f"{words[i].lower()} else" for i in first], 3, seed=0))
    assert probe_right(np.eye(6)[first], labels, 0).mean() == 1.0
    assert probe_right(rng.normal(size=(300, 6)), labels, 0).mean() < 0.6


def test_agreement_of_equal_and_of_unrelated_layers():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 16))
    rotation = np.linalg.qr(rng.normal(size=(16, 16)))[0]
    np.testing.assert_allclose(neighbour_agreement(x, 3 * x @ rotation), 1, atol=1e-9)
    assert abs(neighbour_agreement(x, rng.normal(size=(80, 16))).mean()) < 0.1
