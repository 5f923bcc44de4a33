"""Steering as mathematics: gains of one are the identity, what is applied is what was fitted, files come back whole."""

import json
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_models import LABELS, PROMPTS, build_sae

from interp import capture
from interp.engine import ablate_jointly, answers_under
from interp.errors import UserError
from interp.evaluation.fluency import fluency
from interp.saes.checks import check_saes
from interp.saes.stack import SaeStack
from interp.statistics import Bootstrap
from interp.steering import Gains, SteeredFeature, Steering
from interp.steering.fit import FitData, Plan, fit


def some_gains(gain: float, layers=(1, 2)) -> dict[int, Gains]:
    return {k: Gains(torch.tensor([3, 8, 21, 40]), torch.full((4,), gain)) for k in layers}


def test_gains_of_one_are_the_identity(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    steered = answers_under(any_model, captured, Steering("test", some_gains(1.0)).edits(stack))
    torch.testing.assert_close(steered, captured.answer_logits, atol=1e-4, rtol=0)


def test_gains_of_zero_are_joint_ablation(any_model, stack):
    captured = capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)
    steered = answers_under(any_model, captured, Steering("test", some_gains(0.0)).edits(stack))
    ablated = ablate_jointly(any_model, stack, captured, {k: [3, 8, 21, 40] for k in (1, 2)})
    torch.testing.assert_close(steered, ablated, atol=1e-5, rtol=0)


def test_a_vector_is_added_at_every_position_of_forward_and_generate(llama, stack):
    vector = torch.randn(llama.d_model, generator=torch.Generator().manual_seed(0))
    seen = {}
    with Steering("test", vectors={1: vector}).applied(llama, stack):
        ids = torch.tensor([llama.encode(PROMPTS[:1])[0].ids])
        with llama.edited({1: lambda x: seen.__setitem__("steered", x)}):
            llama.hf(input_ids=ids)
        out = llama.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)
    with llama.edited({1: lambda x: seen.__setitem__("plain", x)}):
        llama.hf(input_ids=ids)
    torch.testing.assert_close(seen["steered"] - seen["plain"], vector.expand_as(seen["plain"]), atol=1e-5, rtol=0)
    with llama.edited({1: lambda x: x + vector}):
        by_hand = llama.hf.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=3, do_sample=False)
    assert torch.equal(out, by_hand)


def test_nothing_remains_after_the_block(llama, stack):
    before = capture(llama, PROMPTS, answers=LABELS).answer_logits
    with pytest.raises(KeyError), Steering("test", some_gains(5.0)).applied(llama, stack):
        assert not torch.equal(before, capture(llama, PROMPTS, answers=LABELS).answer_logits)
        raise KeyError
    assert torch.equal(before, capture(llama, PROMPTS, answers=LABELS).answer_logits)


def test_save_and_load(tmp_path, llama, stack):
    made = Steering(
        "targeted", some_gains(2.5), {0: torch.ones(32)}, provenance={"model": {"identity": llama.identity}, "seed": 3}
    )
    made.save(tmp_path)
    back = Steering.load(tmp_path)
    assert back.method == "targeted" and back.provenance == made.provenance and back.layers == [0, 1, 2]
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    one, other = (answers_under(llama, captured, s.edits(stack)) for s in (made, back))
    assert torch.equal(one, other)


@given(st.lists(st.floats(0.1, 8), min_size=1, max_size=5), st.floats(-2, 2), st.floats(-2, 2))
def test_strengths_multiply(multipliers, first, second):
    """Scaled twice is scaled by the product; 0 leaves every gain at one and every vector at zero, 1 changes nothing."""
    gains = {3: Gains(torch.arange(len(multipliers)), torch.tensor(multipliers, dtype=torch.float64))}
    steering = Steering("made", gains, {1: torch.tensor(multipliers, dtype=torch.float64)})

    def numbers(scaled: Steering) -> torch.Tensor:
        return torch.cat([scaled.gains[3].gains, scaled.vectors[1]])

    twice, once = steering.scaled(first).scaled(second), steering.scaled(first * second)
    torch.testing.assert_close(numbers(twice), numbers(once))
    ones, zeros = torch.ones(len(multipliers)).double(), torch.zeros(len(multipliers)).double()
    torch.testing.assert_close(numbers(steering.scaled(0)), torch.cat([ones, zeros]))
    torch.testing.assert_close(numbers(steering.scaled(1)), numbers(steering))


def test_what_gained_features_are_causal_for_survives(tmp_path):
    known = [SteeredFeature(1, 8, "joy", 0.25), SteeredFeature(2, 3, "fear", 1.5)]
    Steering("targeted", some_gains(2.5), causal=known).save(tmp_path)
    assert Steering.load(tmp_path).causal == known and Steering.load(tmp_path).scaled(0.5).causal == known
    facts = json.loads((tmp_path / "steering.json").read_text())
    assert facts.pop("causal")[0] == {"layer": 1, "feature": 8, "emotion": "joy", "effect": 0.25}
    (tmp_path / "steering.json").write_text(json.dumps(facts))  # as versions wrote it that did not keep them
    back = Steering.load(tmp_path)
    assert back.causal == [] and torch.equal(back.gains[1].gains, some_gains(2.5)[1].gains)


def test_a_fit_and_what_comes_of_it_are_one_formula(llama, stack):
    """The last step's edit, gates, gains and vectors together, is that of the steering that is kept."""
    captured = capture(llama, PROMPTS * 4, answers=LABELS, keep_cache=True)
    others = capture(llama, [p.replace("Text", "Note") for p in PROMPTS * 4], answers=LABELS, keep_cache=True)
    data = FitData(llama, stack, LABELS, [(captured, torch.arange(20) % 6)], anchors={"others": [others]})
    features = [SteeredFeature(1, f, "joy", 1.0) for f in (3, 8)]
    logits = {}

    def note(step, examples, anchors):
        logits["examples"], logits["anchors"] = examples, anchors

    steering = fit(data, Plan("gated", "x", features, [1, 2], gated=True, pull=0.0), steps=10, note=note)
    assert steering.gates.keys() == steering.vectors.keys() == {1, 2} and steering.gains.keys() == {1}
    assert steering.causal == features
    for name, texts in (("examples", captured), ("anchors", others)):
        again = answers_under(llama, texts, steering.edits(stack))
        torch.testing.assert_close(again, logits[name], atol=1e-4, rtol=0)
    assert (logits["examples"] - captured.answer_logits).abs().max() > 0.01


@pytest.mark.parametrize(
    "damage",
    [
        lambda f: (f / "steering.json").unlink(),
        lambda f: (f / "steering.json").write_text("{"),
        lambda f: (f / "steering.json").write_text('{"format": 9}'),
        lambda f: (f / "steering.safetensors").write_bytes(b"\x80\x04pickle"),
    ],
    ids=["missing", "truncated", "other version", "not safetensors"],
)
def test_damaged_files_are_refused(tmp_path, damage):
    Steering("none").save(tmp_path)
    damage(tmp_path)
    with pytest.raises(UserError):
        Steering.load(tmp_path)


def test_a_steering_of_another_model_is_refused(llama, stack):
    foreign = Steering("test", some_gains(2.0), provenance={"model": {"identity": "sha256:other"}})
    with pytest.raises(UserError, match="made for model"), foreign.applied(llama, stack):
        pass


def test_fitting_lowers_the_loss_and_gains_stay_near_one_under_a_strong_pull(llama, stack):
    captured = capture(llama, PROMPTS * 4, answers=LABELS, keep_cache=True)
    data = FitData(llama, stack, LABELS, [(captured, torch.arange(20) % 6)])
    top = stack.encode(1, captured.residuals[1]).sum(0).topk(6).indices.tolist()
    features = [SteeredFeature(1, f, "joy", 1.0) for f in top]
    losses = []

    def note(step, logits, anchors):
        losses.append(torch.nn.functional.cross_entropy(logits, data.gold).item())

    def gains(pull: float, note=None) -> torch.Tensor:
        return fit(data, Plan("global", "x", features, pull=pull), steps=20, note=note).gains[1].gains

    free, held = gains(0.0, note), gains(100.0)
    assert losses[-1] < losses[0]
    assert (held.log().abs().max() < free.log().abs().max()) and held.log().abs().max() < 0.2


def test_fluency_of_no_steering_is_one_and_of_a_wild_one_is_not(llama, stack):
    documents = ["The dog ran down the street in the rain.", "A letter came in the morning. " * 3]
    bootstrap = Bootstrap(range(2), 100, 0)
    plain = fluency(llama, documents, lambda: Steering("none").applied(llama, stack), bootstrap)
    assert plain.perplexity_ratio.value == pytest.approx(1, abs=1e-6) and plain.kl.value == pytest.approx(0, abs=1e-6)
    wild = Steering("test", vectors={1: torch.randn(32) * 20})
    steered = fluency(llama, documents, lambda: wild.applied(llama, stack), bootstrap)
    assert steered.kl.value > 0.05 and steered.perplexity == pytest.approx(plain.perplexity)


def test_an_sae_of_another_width_is_refused(llama):
    with pytest.raises(UserError, match="for another model"):
        check_saes(SaeStack({0: build_sae(d_in=48)}, "test", "x"), llama)


def test_an_sae_of_another_place_is_refused(llama):
    sae = build_sae(metadata={"sae_lens_version": "6.54.12", "hook_name": "blocks.0.hook_mlp_out"})
    with pytest.raises(UserError, match="not the residual"):
        check_saes(SaeStack({0: sae}, "test", "x"), llama)


@pytest.mark.parametrize(
    ("hook", "layer", "fits"),
    [
        ("blocks.1.hook_resid_post", 1, True),
        ("blocks.2.hook_resid_pre", 1, True),
        ("model.layers.1", 1, True),
        ("blocks.2.hook_resid_post", 1, False),
        ("blocks.1.hook_resid_pre", 1, False),
        ("model.layers.0", 1, False),
    ],
)
def test_an_sae_of_another_layer_is_refused(llama, hook, layer, fits):
    sae = build_sae(metadata={"sae_lens_version": "6.54.12", "hook_name": hook})
    for force in (False, True):
        with warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            try:
                check_saes(SaeStack({layer: sae}, "test", "x"), llama, force=force)
                said = " ".join(str(n.message) for n in notes)
            except UserError as error:
                said = str(error)
        assert ("another layer" in said) != fits


def test_steering_files_hold_no_pickle(tmp_path):
    Steering("amplify", some_gains(2.0)).save(tmp_path)
    header = (tmp_path / "steering.safetensors").read_bytes()
    assert json.loads(header[8 : 8 + int.from_bytes(header[:8], "little")])
