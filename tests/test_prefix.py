"""Prompts behind a shared beginning, and captures kept for a whole run: what a plain pass finds."""

import pytest
import torch

from interp.capture import capture, shared_prefix

TEXTS = ["Rain.", "The dog ran down the street in the rain.", "A letter", "Nobody had told us that the road was closed."]
FRAME = "My friend lost the cat, and then, late in the evening, found it again behind the garden wall. Text: "
PROMPTS = [f"{FRAME}{text}\nEmotion:" for text in TEXTS]
WHOLE = ["sad", "sadness", "sadly lost"]


@pytest.mark.parametrize("answers", [["anger", "fear", "joy"], WHOLE])
def test_a_shared_prefix_changes_nothing(any_model, answers):
    """Sliding windows of 8 tokens, learned and rotary positions, padding, answers scored whole."""
    options = {"answers": answers, "keep_cache": True, "everywhere": [1, 3]}
    found = capture(any_model, PROMPTS, **options)
    prefix = shared_prefix(any_model, [e.ids for e in any_model.encode(PROMPTS)])
    assert prefix is not None and len(prefix) >= 16
    for i, prompt in enumerate(PROMPTS):
        alone = capture(any_model, [prompt], **options)  # a single prompt shares with nobody
        assert found.residuals[:, i] == pytest.approx(alone.residuals[:, 0], abs=1e-4)
        assert found.answer_logits[i] == pytest.approx(alone.answer_logits[0], abs=1e-4)
        (cache,) = found.caches
        row, (own,) = cache.examples.index(i), alone.caches
        real = cache.mask[row]
        assert int(real.sum()) == own.mask.shape[1] and cache.position[row] == own.position[0]
        for layer in range(any_model.n_layers):
            torch.testing.assert_close(cache.keys[layer][row][:, real], own.keys[layer][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(cache.values[layer][row][:, real], own.values[layer][0], atol=1e-4, rtol=1e-4)
            torch.testing.assert_close(cache.continued[layer][row], own.continued[layer][0], atol=1e-4, rtol=1e-4)
        for layer in (1, 3):
            torch.testing.assert_close(cache.everywhere[layer][row][real], own.everywhere[layer][0], atol=1e-4, rtol=0)
