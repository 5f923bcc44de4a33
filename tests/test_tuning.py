"""Low-rank fine-tuning, the outside reference: it learns, and leaves the model as it was."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_models import FAMILIES, build_model
from worlds import LABELS, start

from interp import capture
from interp.steering.tuning import LowRankTuning, tuned


@pytest.mark.parametrize("family", FAMILIES)
def test_updates_act_inside_alone_and_are_removed_without_a_trace(tokenizer, family):
    model = build_model(family, tokenizer)
    before = {k: v.clone() for k, v in model.hf.state_dict().items()}
    plain = capture(model, ["The dog ran."], answers=LABELS).answer_logits
    tuning = LowRankTuning(model, rank=2, seed=0)
    with tuning.applied():
        torch.testing.assert_close(capture(model, ["The dog ran."], answers=LABELS).answer_logits, plain)  # up is zero
    for update in tuning.updates:
        torch.nn.init.normal_(update.up)
    with tuning.applied():
        moved = capture(model, ["The dog ran."], answers=LABELS).answer_logits
    assert (moved - plain).abs().max() > 0.1
    assert torch.equal(capture(model, ["The dog ran."], answers=LABELS).answer_logits, plain)
    tuning.remove()
    after = model.hf.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], v) for k, v in before.items())
    assert not any(p.requires_grad for p in model.hf.parameters())


def test_it_stands_beside_the_steerings(world, finished, tmp_path):
    outcome = start(world, tmp_path / "tuned", **{"steering.low_rank": "4"})
    scores = pd.read_parquet(outcome.folder / "evaluation.parquet").set_index(["corpus", "method", "metric"])
    assert ("local", "low_rank_tuning", "macro_f1_gain") in scores.index
    assert scores.loc[("plain text", "low_rank_tuning", "kl"), "value"] > 0
    others = pd.read_parquet(finished / "evaluation.parquet").set_index(["corpus", "method", "metric"])
    pd.testing.assert_frame_equal(scores.loc[others.index], others)  # nobody else is touched by it


def test_it_learns(session):
    rows = session.role("fit")
    prompts = session.prompts([session.examples[r][1].text for r in rows])

    def share() -> float:
        return capture(session.model, prompts, answers=LABELS).answer_log_probabilities[:, 0].exp().mean().item()

    gold = np.zeros(len(rows), int)
    before, tuning = share(), tuned(session.model, prompts, gold, session.answers.first, 4, seed=0)
    with tuning.applied():
        assert share() > before + 0.2
    assert share() == before
