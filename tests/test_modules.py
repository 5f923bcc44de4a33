"""Attention and MLP ablation against plain hooks on the whole model, every family."""

import pytest
import torch
from tiny_models import SENTENCES
from whole_words import WORDS, word_log_probs

from interp import capture
from interp.engine.modules import ablate_module, module_outputs

PROMPTS = [f"Text: {s}\nEmotion:" for s in SENTENCES[:3]]


@pytest.mark.parametrize("part", ["attention", "mlp"])
@pytest.mark.parametrize("layer", [0, 2])
def test_module_ablation_equals_the_whole_model(any_model, layer, part):
    captured = capture(any_model, PROMPTS, answers=WORDS, keep_cache=True)
    module = any_model.part((part, layer))
    mean = module_outputs(any_model, captured, layer=layer, part=part).mean(0)
    for value in (None, mean):
        found = ablate_module(any_model, captured, layer=layer, part=part, value=value).log_softmax(-1)
        for i, prompt in enumerate(PROMPTS):
            n = len(any_model.encode([prompt])[0].ids)

            def hook(module, inputs, output, n=n, value=value):
                new = (output[0] if isinstance(output, tuple) else output).clone()
                new[:, n - 1] = 0 if value is None else value
                return (new, *output[1:]) if isinstance(output, tuple) else new

            handle = module.register_forward_hook(hook)
            try:
                expected = word_log_probs(any_model, prompt)
            finally:
                handle.remove()
            torch.testing.assert_close(found[i], expected, atol=1e-4, rtol=0)
