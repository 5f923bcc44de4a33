"""Texts that are written together: each as it would be alone, whoever joins and leaves."""

import pytest
import torch
from steerings import additive_steering, mixed_steering
from tiny_models import FAMILIES

from interp.models.caching import cache_in, cache_name
from interp.steering import Steering
from interp.steering.rolling import RollingBatch, RowSteering


class Text:
    """Takes the likeliest token and remembers what it chose from."""

    def __init__(self, ids, most, steering=None) -> None:
        self.ids, self.most, self.steering = ids, most, steering or RowSteering()
        self.written, self.logits = [], []

    def take(self, logits):
        self.logits.append(logits)
        if len(self.logits) == self.most:
            return None
        self.written.append(int(logits.argmax()))
        return self.written[-1]


def alone(model, text, steering, stack):
    """The library's own way: a pass a token, or `generate`, inside `applied`."""
    out = []
    past, step = None, torch.tensor([text.ids])
    with steering.applied(model, stack), model.prompted(len(text.ids)), torch.no_grad():
        for token in [*text.written, None]:
            passed = model.hf(input_ids=step, use_cache=True, **{cache_name(model.hf): past})
            past = cache_in(passed)
            out.append(passed.logits[0, -1].float())
            step = torch.tensor([[token or 0]])
    return torch.stack(out)


def steerings():
    return {
        "none": Steering("none"),
        "all": mixed_steering(),
        "generated": mixed_steering("generated"),
        "answer": mixed_steering("answer"),
        "vectors": additive_steering(),
        "stronger": additive_steering().scaled(2),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_every_text_is_written_as_it_would_be_alone(models_by_family, family, stack):
    """Prompts of 1 to 23 tokens (windows of sliding attention hold 8), six steerings, joining at four times."""
    model = models_by_family[family]
    kinds = steerings()
    rows = {name: RowSteering.of(steering, model, stack) for name, steering in kinds.items()}
    generator = torch.Generator().manual_seed(0)
    lengths = [5, 23, 1, 12, 3, 17, 9, 2, 14, 6]
    plans = [
        (
            name := [*kinds][i % len(kinds)],
            Text(torch.randint(2, 400, (n,), generator=generator).tolist(), 4 + i, rows[name]),
        )
        for i, n in enumerate(lengths)
    ]
    texts = [text for _, text in plans]
    batch = RollingBatch(model)
    batch.join(texts[:4])
    batch.step()
    batch.join(texts[4:5])
    batch.step()
    batch.step()
    batch.leave([texts[3]])
    batch.join(texts[5:8])
    while batch.texts:
        batch.step()
    batch.join(texts[8:])
    while batch.texts:
        batch.step()
    for name, text in plans:
        assert len(text.logits) == (4 if text is texts[3] else text.most)
        expected = alone(model, text, kinds[name], stack)[: len(text.logits)]
        torch.testing.assert_close(torch.stack(text.logits), expected, atol=2e-4, rtol=1e-4)


def test_a_steering_does_something(llama, stack):
    ids = [5, 90, 33]
    plain, steered = Text(ids, 3), Text(ids, 3, RowSteering.of(additive_steering(), llama, stack))
    batch = RollingBatch(llama)
    batch.join([plain, steered])
    assert (plain.logits[0] - steered.logits[0]).abs().max() > 0.1
