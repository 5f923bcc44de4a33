"""A push along an emotion's causal features: which of them, where no feature of the lowest layers may be taken."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array

from interp.errors import InterpWarning, UserError
from interp.run import additive
from interp.run.additive import FEATURES, towards


@pytest.fixture
def run(tmp_path, monkeypatch, stack):
    """Twelve causal features, the strongest two of layer 0; in the emotion's texts each is active with its number."""
    effects = pd.DataFrame({"layer": [0, 0, *[1, 2] * 5], "feature": range(12), "effect": np.linspace(1, 0.1, 12)})
    for name in ("run.json", "effects.parquet", "examples.parquet"):
        (tmp_path / name).touch()
    files = SimpleNamespace(
        folder=tmp_path,
        labels=["joy", "fear"],
        record={"model": {"name": "m", "identity": "i"}},
        causal_features=lambda emotion: effects if emotion == "joy" else effects[:2],
        table=lambda name: pd.DataFrame({"role": ["discover"] * 3, "gold": ["joy", "joy", "fear"]}),
    )
    acts = csr_array(np.tile(np.arange(stack.d_sae(0), dtype=np.float32), (3, 1)))
    monkeypatch.setattr(additive, "RunFiles", lambda folder: files)
    monkeypatch.setattr(additive, "as_recorded", lambda *_: None)
    monkeypatch.setattr(additive, "load_features", lambda path: SimpleNamespace(acts=acts))
    return tmp_path


def test_features_below_the_lowest_layer_make_room_for_the_next_ones(run, stack):
    whole = towards(run, stack, "joy")
    assert whole.layers == [0, 1, 2]
    with pytest.warns(InterpWarning, match=f"2 of the {FEATURES} strongest features of joy lie below layer 1"):
        above = towards(run, stack, "joy", lowest=1)
    assert above.layers == [1, 2]
    features = [f for f in range(2, 12) if f % 2 == 0]  # of layer 1; all ten above are taken
    wanted = torch.tensor(features, dtype=torch.float32) @ stack.directions(1, features)
    assert torch.allclose(above.vectors[1], wanted, atol=1e-5)
    assert not torch.allclose(whole.vectors[2], above.vectors[2])


def test_an_emotion_with_none_above_is_refused(run, stack):
    with pytest.raises(UserError, match="All causal features of 'fear' lie below layer 1"):
        towards(run, stack, "fear", lowest=1)
