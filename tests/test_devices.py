"""The engine follows each layer's device: a model spread over two simulated devices gives the numbers of one."""

import pytest
import torch
from tiny_models import PROMPTS, build_model, build_sae
from two_devices import Placed, label, spread

from interp import capture
from interp.engine import FeatureEdits, ablate, ablate_everywhere, ablate_jointly, answer_gradients, edited_logits
from interp.saes.stack import SaeStack
from interp.steering import Steering
from interp.steering.steering import Gains

PLAIN, WHOLE = ["anger", "fear", "joy"], [" sad", " sadness", " joy"]
FAMILIES = ["gpt2", "llama", "gemma2", "gemma3", "gpt_neox"]


def everything(model, answers) -> list[torch.Tensor]:
    """What the engine computes, on the CPU."""
    device = model.device
    saes = {layer: build_sae(seed=layer) for layer in range(4)}
    for sae in saes.values():
        for parameter in sae.parameters():
            label(parameter, device)
    stack = SaeStack(saes, "test", "test:saes")
    captured = capture(model, PROMPTS, answers=answers, keep_cache=True, everywhere=[1])
    example = torch.tensor([0, 3, 2, 2, 4], device=device)
    layer = torch.tensor([0, 1, 3, 2, 0], device=device)
    edits = FeatureEdits(layer, example, layer * 7, torch.ones(5, device=device))
    features = [1, 5, 9, 33]
    steering = Steering("amplify", {k: Gains(torch.tensor(features), torch.full((4,), 2.0)) for k in (0, 3)})
    found = [
        captured.residuals,
        captured.answer_logits,
        edited_logits(model, stack, captured, edits),
        ablate(model, stack, captured, layer=1, features=features),
        ablate_jointly(model, stack, captured, {0: features, 2: features}),
        ablate_everywhere(model, stack, captured, layer=1, example=example, feature=layer * 7),
        answer_gradients(model, captured, example % 3),
    ]
    with torch.no_grad(), steering.applied(model, stack):
        found.append(capture(model, PROMPTS, answers=answers).answer_logits)
    return [x.cpu() for x in found]


@pytest.mark.parametrize("answers", [PLAIN, WHOLE], ids=["first_token", "whole_words"])
@pytest.mark.parametrize("family", FAMILIES)
def test_two_devices_give_the_numbers_of_one(tokenizer, family, answers, monkeypatch):
    monkeypatch.setattr("interp.engine.suffix.free_memory", lambda device: 10**9)
    expected = everything(build_model(family, tokenizer), answers)
    model = build_model(family, tokenizer)
    with Placed():
        spread(model, ["cuda:0", "cuda:1"])
        found = everything(model, answers)
    for x, y in zip(found, expected, strict=True):
        torch.testing.assert_close(x, y, atol=1e-5, rtol=0)


def test_the_simulation_refuses_what_real_devices_refuse():
    with Placed():
        x, y = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1")
        assert x.device == torch.device("cuda:0") and (x + 1).device == x.device
        with pytest.raises(RuntimeError, match="two devices"):
            x + y
        with pytest.raises(RuntimeError, match="not on the CPU"):
            x.numpy()
        assert torch.equal(x + y.to(x.device), torch.full((2,), 2.0, device="cuda:0"))
