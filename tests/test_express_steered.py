"""EXPRESS asked of a steered model."""

import json

import pytest
import torch

from interp import load_model
from interp.errors import UserError
from interp.steering import Steering
from interp.surveys.express.running import Options
from interp.surveys.express.steered import run_steered


def test_the_steered_model_is_asked_the_same_and_compared(tmp_path):
    model = load_model("tiny")
    generator = torch.Generator().manual_seed(0)
    push = Steering(
        "push",
        vectors={5: 30 * torch.randn(model.d_model, generator=generator)},
        provenance={"model": {"identity": model.identity}},
    )
    push.save(tmp_path / "push")
    options = Options("tiny", mode="choose", limit=8, out=tmp_path / "run", resamples=100)
    plain, steered, page = run_steered(options, tmp_path / "push", model=model)
    answers = [(f / "answers.csv").read_text() for f in (plain.folder, steered.folder)]
    assert answers[0] != answers[1] and len(answers[0].splitlines()) == len(answers[1].splitlines()) >= 8
    assert json.loads((steered.folder / "scores.json").read_text())["VRate"] == 1
    assert "push" in page.read_text()


def test_a_steering_that_is_none_is_one_line(tmp_path):
    Steering("none").save(tmp_path)
    with pytest.raises(UserError, match="leaves the model alone"):
        run_steered(Options("tiny"), tmp_path)
