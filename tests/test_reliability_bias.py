"""Position bias: what is measured is what it says, a planted biased feature is found, and removing it helps."""

import numpy as np
import pytest
import torch
from tiny_models import LABELS, build_sae

from interp import load_model
from interp.engine import answers_under
from interp.errors import UserError
from interp.saes.stack import SaeStack
from interp.steering import Gains, Steering
from interp.surveys.reliability.bias import Bias, ask, find_bias, write_bias
from interp.texts.examples import Example

NAMES = LABELS[:3]


def texts(n: int) -> list[Example]:
    words = ["dog", "cat", "letter", "friend", "street", "morning"]
    return [
        Example(f"t/{i}", "t", "test", f"The {words[i % 6]} was {i} in the rain.", LABELS[i % 3], f"t/{i}")
        for i in range(n)
    ]


def test_the_preference_is_the_mean_gap_between_first_and_last(llama):
    asked = ask(llama, texts(2), NAMES)
    logits = torch.zeros(6, 3)
    logits[torch.arange(6), asked.first] = 2.0  # always the first: +2 nats, whatever the label
    assert asked.preference(logits).tolist() == pytest.approx([2, 2])
    constant = torch.tensor([[3.0, 1.0, -1.0]] * 6)  # always the same label: no preference for a place
    assert asked.preference(constant).tolist() == pytest.approx([0, 0], abs=1e-6)


def random_saes() -> SaeStack:
    return SaeStack({layer: build_sae("standard", seed=layer) for layer in range(4)}, "test", "test:saes")


@pytest.fixture(scope="module")
def found(models_by_family) -> Bias:
    return find_bias(models_by_family["llama"], random_saes(), texts(24), NAMES, resamples=100, seed=0)


def test_effects_are_those_of_removing_the_feature_in_the_whole_model(llama, found):
    saes, rows = random_saes(), found.features
    assert len(rows) and (rows["q"] < 0.05).all()
    order = np.random.default_rng(0).permutation(24)
    asked = ask(llama, [texts(24)[i] for i in order[0::3]], NAMES)
    plain = asked.preference(asked.captured.answer_logits).mean()
    for row in rows.head(4).itertuples():
        alone = Steering("x", {row.layer: Gains(torch.tensor([row.feature]), torch.zeros(1))})
        without = asked.preference(answers_under(llama, asked.captured, alone.edits(saes))).mean()
        assert row.effect == pytest.approx(plain - without, abs=1e-4)


def test_removing_the_makers_lowers_the_bias_where_it_was_chosen(llama, found, tmp_path):
    saes = random_saes()
    chosen = found.features[found.features["chosen"]]
    assert len(chosen) == sum(len(g.features) for g in found.steering.gains.values())
    assert chosen["makes"].all()
    assert found.change.low <= found.change.value <= found.change.high and found.before.n == 8
    write_bias(found, llama, saes, {"name": "test"}, tmp_path)
    back = Steering.load(tmp_path)
    assert back.layers == found.steering.layers and back.positions == "answer"


def test_a_planted_feature_is_found(llama):
    """Layer 3 is given one feature along the direction in which two orders differ."""
    examples = texts(45)
    asked = ask(llama, examples, NAMES)
    residuals = asked.captured.residuals[3]
    places = torch.arange(len(residuals)) % 3
    gap = residuals[places == 0].mean(0) - residuals[places == 1].mean(0)
    sae = build_sae("standard", seed=9)
    with torch.no_grad():
        sae.W_enc[:, 5] = gap / gap.norm()
        sae.b_enc[5] = -float((residuals @ (gap / gap.norm())).median())
        sae.W_dec[5] = gap / gap.norm()
    saes = SaeStack({3: sae}, "test", "test:saes")
    found = find_bias(llama, saes, examples, NAMES, resamples=100).features
    planted = found[(found["layer"] == 3) & (found["feature"] == 5)]
    assert len(planted) == 1 and planted["q"].iloc[0] < 0.05
    assert planted["firing_difference"].iloc[0] > 0  # it fires where the first label is listed first


def test_too_few_texts_are_one_line(llama, stack):
    with pytest.raises(UserError, match="at least 20 texts"):
        find_bias(llama, stack, texts(5), NAMES)


def test_results_repeat(llama, stack):
    one, other = (find_bias(llama, stack, texts(24), NAMES, resamples=100).as_dict() for _ in range(2))
    assert one == other


def test_the_bundled_model_says_what_it_found():
    from interp import load_corpus, load_saes

    model = load_model("tiny")
    saes = load_saes("tiny", model, layers=[2, 3])
    examples = load_corpus("vignettes", split="fit", limit=24)
    found = find_bias(model, saes, examples, NAMES, resamples=100)
    assert found.before.n == 8 and set(found.features["layer"]) <= {2, 3}
