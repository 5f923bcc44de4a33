"""EXPRESS asked of a steered model."""

import json

import pytest
import torch

from interp import load_model
from interp.errors import UserError
from interp.steering import Steering
from interp.surveys.express.running import ExpressOptions, run_express


def test_the_steered_model_is_asked_the_same_and_compared(tmp_path):
    model = load_model("tiny")
    generator = torch.Generator().manual_seed(0)
    push = Steering(
        "push",
        vectors={5: 30 * torch.randn(model.d_model, generator=generator)},
        provenance={"model": {"identity": model.identity}},
    )
    push.save(tmp_path / "push")
    where = {"out": tmp_path / "run", "steering": tmp_path / "push"}
    options = ExpressOptions("tiny", mode="choose", limit=8, resamples=100, **where)
    steered = run_express(options, model=model)
    answers = [(run.folder / "answers.csv").read_text() for run in (steered.unsteered, steered)]
    assert answers[0] != answers[1]
    assert len(answers[0].splitlines()) == len(answers[1].splitlines()) >= 8
    assert json.loads((steered.folder / "scores.json").read_text())["VRate"] == 1
    assert "push" in steered.page.read_text()


def test_a_steering_that_is_none_is_one_line(tmp_path):
    Steering("none").save(tmp_path)
    with pytest.raises(UserError, match="leaves the model alone"):
        run_express(ExpressOptions("tiny", steering=tmp_path))
