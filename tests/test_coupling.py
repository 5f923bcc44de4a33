"""A coupling as data: what it adds, milder and stronger, without a part, kept and read back, in other tools."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from interp import UserError, capture
from interp.engine.variants import answers_under
from interp.saes.loading import saes_record
from interp.steering import Gate, Steering
from interp.steering.coupling import Coupling
from interp.steering.export import export, loaded
from interp.steering.parts import parts
from interp.steering.steering import TENSORS

LABELS = ["joy", "fear", "anger"]
LAYER, LIMIT = 2, 0.8
PROMPTS = [f"Text: {word} ran home.\nEmotion:" for word in ("Ann", "Ben", "the dog", "nobody")]


def made(dense: bool = False) -> Coupling:
    g = torch.Generator().manual_seed(2)
    return Coupling(
        readers=torch.tensor([3, 8, 21]),
        weights=torch.randn(3, 3, generator=g),
        bias=torch.tensor([0.3, -0.2, 0.0]),
        limit=LIMIT,
        writers=torch.tensor([5, 8]),
        shares=torch.randn(3, 2, generator=g),
        dense=0.1 * torch.randn(32, 3, generator=g) if dense else None,
    )


def steering(dense: bool = False, gated: bool = True) -> Steering:
    gates = {LAYER: Gate(torch.tensor([8, 40]), torch.tensor([1.5, -0.5]), -0.3)} if gated else {}
    return Steering("coupled", couplings={LAYER: made(dense)}, gates=gates)


@pytest.mark.parametrize("dense", [False, True])
def test_what_is_added_is_the_formula(llama, stack, dense):
    x = 3 * torch.randn(6, llama.d_model, generator=torch.Generator().manual_seed(4))
    coupling, acts = made(dense), stack.encode(LAYER, x)
    read = acts[:, coupling.readers] @ coupling.weights + coupling.bias
    if coupling.dense is not None:
        read = read + x @ coupling.dense
    change = read.clamp(-LIMIT, LIMIT) @ coupling.shares @ stack.directions(LAYER, coupling.writers)
    opening = torch.sigmoid(acts[:, [8, 40]] @ torch.tensor([1.5, -0.5]) - 0.3)
    assert_close(steering(dense).edits(stack)[LAYER](x), x + opening[:, None] * change)
    assert_close(steering(dense, gated=False).edits(stack)[LAYER](x), x + change)
    assert (read.abs() > LIMIT).any()


def test_strength_scales_what_is_said(llama, stack):
    x = torch.randn(6, llama.d_model, generator=torch.Generator().manual_seed(4))
    whole, half, none = (steering().scaled(s).edits(stack)[LAYER](x) - x for s in (1.0, 0.5, 0.0))
    assert_close(half, whole / 2)
    assert not none.any()
    assert whole.any()


@pytest.mark.parametrize("dense", [False, True])
def test_it_is_read_back_as_it_was(tmp_path, dense):
    saved = steering(dense)
    saved.save(tmp_path)
    back = Steering.load(tmp_path)
    assert back.layers == [LAYER]
    assert back.sparse
    for name, tensor in saved.couplings[LAYER].tensors().items():
        assert torch.equal(tensor, back.couplings[LAYER].tensors()[name])


@pytest.mark.parametrize("change", ["weights", "shares", "missing", "infinite"])
def test_tensors_that_do_not_fit_are_refused(tmp_path, change):
    steering().save(tmp_path)
    tensors = load_file(tmp_path / TENSORS)
    name = f"couplings.{LAYER}.{'shares' if change == 'shares' else 'weights'}"
    if change == "missing":
        del tensors[name]
    else:
        tensors[name] = torch.full((3, 3), torch.inf) if change == "infinite" else tensors[name][:, :1].contiguous()
    save_file(tensors, tmp_path / TENSORS)
    with pytest.raises(UserError, match="incomplete steering"):
        Steering.load(tmp_path)


def test_features_that_the_sae_lacks_are_refused(llama, stack):
    record = saes_record(stack, {"name": "x"})
    wrong = replace(made(), writers=torch.tensor([5, 10**6]))
    one = Steering("coupled", couplings={LAYER: wrong}, provenance={"saes": record})
    with pytest.raises(UserError, match="has features 0 to"):
        one.check(llama, stack)


def test_each_part_alone_and_all_but_it(llama, stack):
    """Held at its mean a reader adds a constant; alone, all others do."""
    x = torch.randn(40, llama.d_model, generator=torch.Generator().manual_seed(4))
    acts = stack.encode(LAYER, x)
    whole = steering(gated=False)
    coupling = whole.couplings[LAYER]
    found = list(parts(whole, lambda layer, features: acts[:, features].mean(0)))
    assert [(p.layer, p.feature) for p in found] == [(LAYER, f) for f in (3, 8, 21)]
    for i, part in enumerate(found):
        own, mean = acts[:, coupling.readers].clone(), acts[:, coupling.readers].mean(0)
        others = own.clone()
        others[:, i] = mean[i]
        own[:, [j for j in range(3) if j != i]] = mean[[j for j in range(3) if j != i]]
        for one, read in ((part.alone, own), (part.without, others)):
            amounts = (read @ coupling.weights + coupling.bias).clamp(-LIMIT, LIMIT)
            said = coupling.said(stack.directions(LAYER, coupling.writers))
            assert_close(one.edits(stack)[LAYER](x), x + amounts @ said)


def test_the_constant_part_is_what_is_said_when_nothing_is_read(stack):
    constant = steering().constant(stack)
    assert constant.positions == "all"
    assert not constant.sparse
    assert_close(constant.vectors[LAYER], made().bias @ made().said(stack.directions(LAYER, made().writers)))


def test_other_tools_steer_alike(llama, stack, tmp_path):
    """`export` itself compares the logits; here they are seen to differ from the plain model's as well."""
    record = saes_record(stack, {"name": "x"})
    one = Steering("coupled", couplings={LAYER: made()}, gates=steering().gates, provenance={"saes": record})
    export(one, llama, stack, "hf", tmp_path)
    tokens = llama.pad(llama.encode(["The dog ran home."], chat=False))
    plain = llama.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits
    with loaded(tmp_path).steered(llama.hf):
        assert (llama.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long()).logits - plain).abs().max() > 1e-3
    with pytest.raises(UserError, match="--constant"):
        export(one, llama, stack, "lm-eval", tmp_path / "lm")
    export(one.constant(stack), llama, stack, "lm-eval", tmp_path / "lm")


def test_a_rival_that_reads_the_whole_residual_goes_nowhere(llama, stack, tmp_path):
    record = saes_record(stack, {"name": "x"})
    one = Steering("whole_residual", couplings={LAYER: made(dense=True)}, provenance={"saes": record})
    with pytest.raises(UserError, match="no portable form"):
        export(one, llama, stack, "hf", tmp_path)


def test_it_acts_where_it_is_told_to(llama, stack):
    """At the answer position, as the exact engine and as a hooked forward."""
    captured = capture(llama, PROMPTS, answers=LABELS, keep_cache=True)
    record = saes_record(stack, {"name": "x"})
    one = Steering("coupled", couplings={LAYER: made()}, positions="answer", provenance={"saes": record})
    exact = answers_under(llama, captured, one.edits(stack))
    with one.applied(llama, stack):
        hooked = capture(llama, PROMPTS, answers=LABELS)
    assert_close(exact, hooked.answer_logits, atol=1e-4, rtol=0)
