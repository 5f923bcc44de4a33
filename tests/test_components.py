"""Heads, neurons, modules and features set at the answer position: against plain hooks on the whole model."""

import pytest
import torch
from hooked import hooked_variant
from tiny_models import LABELS, PROMPTS

from interp import capture
from interp.engine.attribution import answer_gradients
from interp.engine.capture import Captured
from interp.engine.components import (
    Component,
    answers_with,
    component_values,
    passed_with,
    site_gradients,
    site_values,
)
from interp.errors import UserError


def exact(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.fixture
def captured(any_model) -> Captured:
    return capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)


def variants(model) -> dict[str, dict[Component, torch.Tensor | None]]:
    """Single and joint, to zero and to values, in one layer and across layers."""
    generator = torch.Generator().manual_seed(3)
    head, neuron = Component(1, "head", 2), Component(2, "neuron", 5)
    set_to = torch.randn(model.d_head, generator=generator)
    return {
        "nothing": {},
        "head": {head: None},
        "first block": {Component(0, "head", 0): None, Component(0, "neuron", 3): torch.tensor([0.7])},
        "head set": {head: set_to},
        "neuron": {neuron: None},
        "mlp": {Component(3, "mlp"): None},
        "attention": {Component(0, "attention"): torch.randn(model.d_model, generator=generator)},
        "feature": {Component(2, "feature", 9): torch.tensor([1.5])},
        "two heads": {head: None, Component(1, "head", 0): set_to},
        "across": {
            head: None,
            neuron: torch.tensor([-0.4]),
            Component(3, "head", 1): None,
            Component(1, "feature", 4): torch.tensor([2.0]),
            Component(3, "feature", 7): None,
            Component(3, "feature", 8): torch.tensor([1.0]),
            Component(2, "mlp"): None,
        },
    }


@pytest.mark.parametrize("rows", [2, 4, None])
def test_set_components_equal_plain_hooks(any_model, stack, captured, rows):
    found = answers_with(any_model, captured, variants(any_model), saes=stack, rows_in_flight=rows)
    for name, variant in variants(any_model).items():
        for i, prompt in enumerate(PROMPTS):
            exact(found[name][i], hooked_variant(any_model, stack, prompt, variant, LABELS))


def test_each_example_may_have_a_value_of_its_own(any_model, stack, captured):
    component = Component(1, "head", 3)
    values = torch.randn(len(PROMPTS), any_model.d_head, generator=torch.Generator().manual_seed(1))
    found = answers_with(any_model, captured, {"own": {component: values}})["own"]
    for i, prompt in enumerate(PROMPTS):
        exact(found[i], hooked_variant(any_model, stack, prompt, {component: values[i]}, LABELS))


def test_a_value_set_to_what_it_is_changes_nothing(any_model, stack, captured):
    components = [Component(k, kind, 1) for k in range(4) for kind in ("head", "neuron", "feature")]
    components += [Component(2, "attention"), Component(2, "mlp")]
    values = component_values(any_model, stack, captured, components)
    found = answers_with(any_model, captured, {c: {c: values[c]} for c in components} | {"all": values}, saes=stack)
    for logits in found.values():
        exact(logits, captured.answer_logits)


def test_what_is_watched_is_what_passes_the_whole_model(any_model, stack, captured):
    """Also below the edit, where nothing changes, and at the edit itself."""
    from hooked import named

    head, feature = Component(1, "head", 2), Component(1, "feature", 4)
    sites = [("heads", 0), ("heads", 1), ("neurons", 2), ("heads", 3), 0, 1, 3]
    variants = {"none": {}, "head": {head: None}, "feature": {feature: torch.tensor([3.0])}}
    found = passed_with(any_model, captured, variants, sites, saes=stack)
    clean = site_values(any_model, captured, sites)
    for site in sites:
        exact(found["none"].seen[site], clean[site])
    for i, prompt in enumerate(PROMPTS):
        seen: dict = {}
        handles = []
        for site in sites:
            kind, layer = ("feature", site) if isinstance(site, int) else (site[0][:-1], site[1])
            module = named(any_model, kind, layer)
            if kind == "feature":
                continue
            handles.append(
                module.register_forward_pre_hook(lambda m, x, site=site, seen=seen: seen.update({site: x[0][0, -1]}))
            )
        try:
            hooked_variant(any_model, stack, prompt, {feature: torch.tensor([3.0])}, LABELS)
        finally:
            for handle in handles:
                handle.remove()
        for site, value in seen.items():
            exact(found["feature"].seen[site][i], value)
    acts = stack.encode(1, found["feature"].seen[1])[:, 4]
    moved = (found["feature"].seen[1] - clean[1]) @ stack.directions(1)[4] / stack.directions(1)[4].norm() ** 2
    exact(moved, 3.0 - stack.encode(1, clean[1])[:, 4])
    assert acts.shape == (len(PROMPTS),)


def test_gradients_equal_those_of_residuals_and_of_small_steps(any_model, captured):
    targets = torch.tensor([0, 1, 2, 3, 4])
    sites = [("heads", 1), ("neurons", 2), 0, 3]
    slopes = site_gradients(any_model, captured, targets, sites)
    expected = answer_gradients(any_model, captured, targets)
    exact(slopes[0], expected[0])
    exact(slopes[3], expected[3])
    head, neuron = Component(1, "head", 0), Component(2, "neuron", 6)
    values = component_values(any_model, None, captured, [head, neuron])
    before = captured.answer_log_probabilities.gather(1, targets[:, None])[:, 0]
    for component, slope in ((head, slopes["heads", 1][:, : any_model.d_head]), (neuron, slopes["neurons", 2][:, 6:7])):
        step = 1e-2
        direction = torch.ones_like(values[component]) * step
        after = answers_with(any_model, captured, {0: {component: values[component] + direction}})[0]
        moved = after.log_softmax(-1).gather(1, targets[:, None])[:, 0] - before
        torch.testing.assert_close(moved, (slope * direction).sum(-1), atol=2e-3, rtol=0.1)


def test_whole_words_are_scored_under_edits_too(any_model):
    from hooked import named
    from whole_passes import WORDS, word_log_probs

    captured = capture(any_model, PROMPTS[:3], answers=WORDS, keep_cache=True)
    found = answers_with(any_model, captured, {0: {Component(1, "head", 1): None}})[0].log_softmax(-1)
    width = any_model.d_head
    for i, prompt in enumerate(PROMPTS[:3]):
        n = len(any_model.encode([prompt])[0].ids)

        def without(module, inputs, n=n):
            x = inputs[0].clone()
            x[:, n - 1, width : 2 * width] = 0
            return (x,)

        handle = named(any_model, "head", 1).register_forward_pre_hook(without)
        try:
            exact(found[i], word_log_probs(any_model, prompt))
        finally:
            handle.remove()


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (Component(9, "head", 0), "llama has layers 0 to 3; got head 9.0."),
        (Component(1, "head", 4), "llama has heads 0 to 3 a layer; got head 1.4."),
        (Component(1, "neuron", 64), "llama has neurons 0 to 63 a layer; got neuron 1.64."),
        (Component(1, "feature", 64), "features 0 to 63"),
        (Component(-1, "mlp"), "got mlp -1"),
    ],
)
def test_components_that_are_not_there_are_refused(llama, stack, component, said):
    captured = capture(llama, PROMPTS[:1], answers=LABELS, keep_cache=True)
    with pytest.raises(UserError, match=said):
        answers_with(llama, captured, {0: {component: None}}, saes=stack)
