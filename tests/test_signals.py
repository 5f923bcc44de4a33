"""What layers do, on a small model: beside the engine's own calls."""

import numpy as np
import torch
from conftest import SENTENCES

from interp import capture
from interp.analysis.signals import causal_signals, stratified_sample
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
