"""Edges cut one at a time against path patching by plain hooks on the whole model, and graphs against both."""

import pytest
import torch
from hooked import hooked_answers, hooked_variant, named
from tiny_models import LABELS, PROMPTS

from interp import capture
from interp.engine.capture import Captured
from interp.engine.components import Component, answers_with, columns_of
from interp.engine.contributions import Nodes, Reference, nodes_of, parts_of, reference_of
from interp.engine.graphs import graph_answers, kept_edges
from interp.engine.paths import cut_edges, edge_attribution
from interp.errors import UserError

SOME = [
    Component(0, "head", 1),
    Component(0, "mlp"),
    Component(1, "head", 0),
    Component(1, "head", 2),
    Component(1, "mlp"),
    Component(1, "neuron", 3),
    Component(1, "neuron", 9),
    Component(2, "head", 3),
    Component(2, "feature", 5),
    Component(2, "feature", 11),
    Component(3, "head", 0),
    Component(3, "mlp"),
    Component(3, "feature", 6),
]


def whole(model, features=()) -> list[Component]:
    """All that a model is made of."""
    layers = range(model.n_layers)
    return [Component(k, "head", h) for k in layers for h in range(model.n_heads)] + [
        *(Component(k, "mlp") for k in layers),
        *(Component(k, "feature", f) for k, f in features),
    ]


def exact(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


@pytest.fixture
def captured(any_model) -> Captured:
    return capture(any_model, PROMPTS, answers=LABELS, keep_cache=True)


def active(stack, captured: Captured, layers=(1, 2)) -> list[tuple[int, int]]:
    """The two commonest features of some layers."""
    return [(k, int(f)) for k in layers for f in (stack.encode(k, captured.residuals[k]) > 0).sum(0).topk(2).indices]


# ------------------------------------------------------------------------------------------ brute force


@torch.no_grad()
def seen_by_hooks(model, prompt: str, edits=(), ask=()) -> dict:
    """What modules take in and put out at the last position of a whole pass, by (module, "in" or "out")."""
    found: dict = {}
    handles = []
    for what in ask:
        module, side = what
        if side == "in":
            handles.append(
                module.register_forward_pre_hook(
                    lambda m, a, k, what=what: found.update({what: (a[0] if a else k["hidden_states"])[0, -1]}),
                    with_kwargs=True,
                )
            )
        else:
            handles.append(
                module.register_forward_hook(
                    lambda m, a, o, what=what: found.update({what: (o[0] if isinstance(o, tuple) else o)[0, -1]})
                )
            )
    try:
        found["answers"] = hooked_answers(model, prompt, dict(edits), LABELS)
    finally:
        for handle in handles:
            handle.remove()
    return found


def contribution_by_hooks(model, stack, prompt: str, one: Component, neurons=()) -> torch.Tensor:
    """What a component adds to the residual: its part of what is put out, scaled as the norm behind scales the sum."""
    block = model.blocks[one.layer]
    if one.kind == "feature":
        residual = seen_by_hooks(model, prompt, ask=[(block, "out")])[block, "out"]
        return stack.encode(one.layer, residual)[one.number] * stack.directions(one.layer)[one.number]
    kind = "attention" if one.kind == "head" else "mlp"
    module, projection = (
        named(model, kind, one.layer),
        named(model, "head" if one.kind == "head" else "neuron", one.layer),
    )
    after = {"attention": "post_attention_layernorm", "mlp": "post_feedforward_layernorm"}[kind]
    seen = seen_by_hooks(model, prompt, ask=[(module, "out"), (projection, "in")])
    total, inner = seen[module, "out"], seen[projection, "in"]

    def alone(component: Component) -> torch.Tensor:
        only = torch.zeros_like(inner)
        only[columns_of(model, component)] = inner[columns_of(model, component)]
        return projection(only) - projection(torch.zeros_like(inner))

    own = total - sum((alone(n) for n in neurons), torch.zeros_like(total)) if one.kind == "mlp" else alone(one)
    if hasattr(block, "post_feedforward_layernorm"):
        return own * getattr(block, after)(total) / total
    return own


def neurons_of(components, layer: int) -> list[Component]:
    return [c for c in components if c.kind == "neuron" and c.layer == layer]


@torch.no_grad()
def path_patched(
    model, stack, prompt: str, nodes: Nodes, source: Component, target: Component | None, lost
) -> torch.Tensor:
    """An edge cut by whole passes: what the target makes of a residual without the source, put into a clean pass."""
    features = [c for c in nodes.components if c.kind == "feature"]

    def lacking(upto: int, residuals) -> torch.Tensor:
        """What the residual after a layer lacks, features between being held."""
        gone = lost
        for layer in range(source.layer, upto + 1):
            own = [f for f in features if f.layer == layer and f.order > source.order and source.kind != "feature"]
            own += [f for f in features if f.layer == layer > source.layer and source.kind == "feature"]
            clean = residuals[layer]
            fall = stack.encode(layer, clean) - stack.encode(layer, clean - gone)
            gone = gone - sum((fall[f.number] * stack.directions(layer)[f.number] for f in own), torch.zeros_like(gone))
        return gone

    blocks = model.blocks
    seen = seen_by_hooks(model, prompt, ask=[(b, "out") for b in blocks])
    residuals = [seen[b, "out"] for b in blocks]
    if target is None:
        final = {("feature", model.n_layers - 1): lambda x: x - lacking(model.n_layers - 1, residuals)}
        return hooked_answers(model, prompt, final, LABELS)
    if target.kind == "feature":
        others_held = lacking(target.layer - 1, residuals)
        if source.layer == target.layer:
            others_held = lost
        acts = stack.encode(target.layer, residuals[target.layer] - others_held)[target.number]
        return hooked_variant(model, stack, prompt, {target: acts[None]}, LABELS)
    block = blocks[target.layer]
    gone = lacking(target.layer - 1, residuals) if source.layer < target.layer else lost
    inner = named(model, "head" if target.kind == "head" else "neuron", target.layer)
    outer = named(model, "attention" if target.kind == "head" else "mlp", target.layer)
    if target.kind == "head":
        before = {} if target.layer == 0 else {("feature", target.layer - 1): lambda x: x - gone}
        changed = seen_by_hooks(model, prompt, before, ask=[(inner, "in")])
        value = changed[inner, "in"][columns_of(model, target)]
        return hooked_variant(model, stack, prompt, {target: value}, LABELS)
    norm = next(
        getattr(block, n)
        for n in ("pre_feedforward_layernorm", "ln_2", "post_attention_layernorm")
        if hasattr(block, n)
    )
    handle = norm.register_forward_pre_hook(lambda m, a: (_less(a[0], gone),))
    try:
        changed = seen_by_hooks(model, prompt, ask=[(inner, "in"), (outer, "out")])
    finally:
        handle.remove()
    if target.kind == "neuron":
        value = changed[inner, "in"][columns_of(model, target)]
        return hooked_variant(model, stack, prompt, {target: value}, LABELS)
    clean = seen_by_hooks(model, prompt, ask=[(inner, "in")])[inner, "in"]
    fixed = changed[inner, "in"].clone() * 0
    for n in neurons_of(nodes.components, target.layer):  # nodes of their own: not this edge's to change
        fixed[columns_of(model, n)] = (clean - changed[inner, "in"])[columns_of(model, n)]
    value = changed[outer, "out"] + inner(fixed) - inner(torch.zeros_like(fixed))
    return hooked_variant(model, stack, prompt, {target: value}, LABELS)


def _less(x, gone):
    x = x.clone()
    x[:, -1] -= gone
    return x


def test_contributions_are_what_hooks_see(any_model, stack, captured):
    nodes = nodes_of(any_model, stack, SOME)
    parts = parts_of(any_model, stack, captured, nodes)
    for k, one in enumerate(nodes.components):
        expected = contribution_by_hooks(any_model, stack, PROMPTS[2], one, neurons_of(SOME, one.layer))
        exact(parts.adds[2, k], expected)


@pytest.mark.parametrize("against", ["nothing", "mean"])
def test_a_cut_edge_equals_path_patching_by_hooks(any_model, stack, captured, against):
    nodes = nodes_of(any_model, stack, SOME)
    reference = reference_of(any_model, stack, [captured], nodes) if against == "mean" else None
    found = cut_edges(any_model, stack, captured, nodes, nodes.edges, reference)
    example = 1
    for column, (u, v) in enumerate(nodes.edges):
        source = nodes.components[u]
        lost = contribution_by_hooks(any_model, stack, PROMPTS[example], source, neurons_of(SOME, source.layer))
        lost = lost if reference is None else lost - reference.adds[u]
        target = None if v == len(nodes) else nodes.components[v]
        expected = path_patched(any_model, stack, PROMPTS[example], nodes, source, target, lost)
        exact(found.logits[example, column], expected)


def test_recomputed_what_arrives_is_what_the_whole_model_makes_of_the_removal(any_model, stack, captured):
    nodes = nodes_of(any_model, stack, [c for c in SOME if c != Component(1, "mlp")])
    found = cut_edges(any_model, stack, captured, nodes, nodes.edges, through="recomputed")
    assert found.through == "recomputed"
    for i in (0, 3):
        for column, (u, v) in enumerate(nodes.edges):
            source = nodes.components[u]
            if v == len(nodes):
                expected = hooked_variant(any_model, stack, PROMPTS[i], {source: None}, LABELS)
                exact(found.logits[i, column], expected)
                continue
            target = nodes.components[v]
            kind = {"head": "head", "neuron": "neuron", "mlp": "mlp", "feature": "feature"}[target.kind]
            module = named(any_model, kind, target.layer)
            side = "in" if kind in ("head", "neuron") else "out"
            handles: dict = {}

            def watch(m, a, o=None, side=side, handles=handles):
                handles["x"] = (a[0] if side == "in" else (o[0] if isinstance(o, tuple) else o))[0, -1].clone()

            hook = module.register_forward_pre_hook(watch) if side == "in" else module.register_forward_hook(watch)
            try:
                hooked_variant(any_model, stack, PROMPTS[i], {source: None}, LABELS)
            finally:
                hook.remove()
            if target.kind == "feature":
                value = stack.encode(target.layer, handles["x"])[target.number, None]
            else:
                value = handles["x"][columns_of(any_model, target)]
            exact(found.logits[i, column], hooked_variant(any_model, stack, PROMPTS[i], {target: value}, LABELS))


# ------------------------------------------------------------------------------------------ graphs


def test_a_whole_graph_is_the_model_and_an_empty_one_the_mean(any_model, stack, captured):
    for features in ([], active(stack, captured)):
        nodes = nodes_of(
            any_model, stack, [*whole(any_model, features), Component(1, "neuron", 3), Component(2, "neuron", 5)]
        )
        reference = reference_of(any_model, stack, [captured], nodes)
        kept = torch.stack([kept_edges(nodes, nodes.edges), kept_edges(nodes, [])])
        found = graph_answers(any_model, stack, captured, nodes, kept, reference)
        exact(found[:, 0], captured.answer_logits)
        if not features:
            entered = torch.cat([cache.embedded[:, 0] for cache in captured.caches])
            order = [i for cache in captured.caches for i in cache.examples]
            own = (entered - entered.mean(0))[torch.tensor(order).argsort()]  # GPT-2's positions, else nothing
            mean = captured.residuals[-1].mean(0) + own
            exact(found[:, 1], captured.answers.score(any_model, mean[:, None]))


def test_a_graph_that_lacks_one_edge_is_that_edge_cut(any_model, stack, captured):
    nodes = nodes_of(any_model, stack, [*whole(any_model, active(stack, captured)), Component(1, "neuron", 3)])
    reference = reference_of(any_model, stack, [captured], nodes)
    generator = torch.Generator().manual_seed(0)
    some = [nodes.edges[i] for i in torch.randperm(len(nodes.edges), generator=generator)[:60]]
    some += [
        (u, v)
        for u, v in nodes.edges
        if v < len(nodes) and "feature" in (nodes.components[v].kind, nodes.components[u].kind)
    ][::9]
    kept = torch.stack([kept_edges(nodes, [e for e in nodes.edges if e != edge]) for edge in some])
    found = graph_answers(any_model, stack, captured, nodes, kept, reference)
    expected = cut_edges(any_model, stack, captured, nodes, some, reference)
    exact(found, expected.logits)


def test_all_edges_of_a_node_cut_together_is_the_node_at_its_mean(any_model, stack, captured):
    if any_model.norm(0, "attention_after") is not None:
        pytest.skip("a norm behind the module: a node at its mean also moves the scale of the others")
    nodes = nodes_of(any_model, stack, whole(any_model))
    reference = reference_of(any_model, stack, [captured], nodes)
    gone = [Component(1, "head", 2), Component(2, "mlp")]
    places = [nodes.components.index(c) for c in gone]
    kept = [
        kept_edges(nodes, [e for e in nodes.edges if e[0] not in cut]) for cut in ([places[0]], [places[1]], places)
    ]
    found = graph_answers(any_model, stack, captured, nodes, torch.stack(kept), reference)
    values = {c: reference.values[k] for c, k in zip(gone, places, strict=True)}
    variants = {0: {gone[0]: values[gone[0]]}, 1: {gone[1]: values[gone[1]]}, 2: values}
    for k, logits in answers_with(any_model, captured, variants).items():
        exact(found[:, k], logits)


def test_attribution_is_the_effect_of_a_small_edge(any_model, stack, captured):
    """What is lost scaled down until effects are linear: the estimate of the whole is then its multiple."""
    nodes = nodes_of(any_model, stack, [c for c in SOME if c.kind != "feature"])
    targets = torch.tensor([0, 1, 2, 3, 4])
    whole_estimate = edge_attribution(any_model, stack, captured, nodes, nodes.edges, targets)
    parts = parts_of(any_model, stack, captured, nodes)
    share, i = 0.02, 2
    near = Reference(parts.before[:, i], parts.middle[:, i], {}, {}, parts.raw[i], parts.adds[i] * (1 - share))
    alone = capture(any_model, [PROMPTS[i]], answers=LABELS, keep_cache=True)
    cut = cut_edges(any_model, stack, alone, nodes, nodes.edges, near)
    fall = (alone.answer_logits.log_softmax(-1) - cut.logits.log_softmax(-1)[0])[:, targets[i]]
    torch.testing.assert_close(fall / share, whole_estimate[i], atol=0.03, rtol=0.1)


# ------------------------------------------------------------------------------------------ refused


def test_what_is_no_graph_is_refused(llama, stack):
    captured = capture(llama, PROMPTS[:2], answers=LABELS, keep_cache=True)
    with pytest.raises(UserError, match="got attention 1"):
        nodes_of(llama, stack, [Component(1, "attention")])
    nodes = nodes_of(llama, stack, SOME)
    with pytest.raises(ValueError, match="no such edges"):
        cut_edges(llama, stack, captured, nodes, [(3, 1)])
    with pytest.raises(ValueError, match="no such edges"):
        kept_edges(nodes, [(2, 2)])
    words = capture(llama, PROMPTS[:2], answers=["joy", "joyful"], keep_cache=True)
    if words.answers.whole:
        with pytest.raises(UserError, match="differ in their first token"):
            cut_edges(llama, stack, words, nodes, [(0, 1)])
