"""Cost of single heads, neurons, edges and graphs on the weights of real models, against hooked forwards."""

from typing import Any

import torch

from benchmarks.real import own_saes, real_world
from benchmarks.results import hardware, write
from benchmarks.timing import seconds
from benchmarks.worlds import World
from interp import capture, load_model
from interp.engine.capture import Captured
from interp.engine.components import Component, answers_with, columns_of, component_values
from interp.engine.contributions import nodes_of, reference_of
from interp.engine.graphs import graph_answers, kept_edges
from interp.engine.paths import cut_edges, edge_attribution
from interp.saes.stack import SaeStack

MODELS = ("smollm2-135m-instruct", "gemma-3-270m")
PROMPTS, HEADS, NEURONS, FEATURES = 4, 16, 8, 4
GRAPHS = 16
TARGET = 100
"""Hooked forwards that an exact edge should cost at most one of."""
HOOKED = "hooked forward, last logits only"


def circuit_nodes(world: World, saes: SaeStack, captured: Captured) -> list[Component]:
    """Heads, MLPs and neurons spread over the layers, and features that are active."""
    model, generator = world.model, torch.Generator().manual_seed(0)

    def draw(n: int, most: int) -> list[int]:
        return torch.randint(0, most, (n,), generator=generator).tolist()

    layers = torch.linspace(0, model.n_layers - 1, HEADS).long().tolist()
    nodes = [Component(k, "head", h) for k, h in zip(layers, draw(HEADS, model.n_heads), strict=True)]
    nodes += [Component(k, "mlp") for k in layers[:: HEADS // 8]]
    some = layers[:: HEADS // NEURONS]
    nodes += [Component(k, "neuron", n) for k, n in zip(some, draw(NEURONS, model.n_neurons), strict=True)]
    covered = saes.layers[:: max(1, len(saes.layers) // FEATURES)][:FEATURES]
    strongest = [int(saes.encode(k, captured.residuals[k]).mean(0).argmax()) for k in covered]
    return nodes + [Component(k, "feature", f) for k, f in zip(covered, strongest, strict=True)]


@torch.no_grad()
def hooked(world: World, prompt: int, head: Component, value: torch.Tensor) -> torch.Tensor:
    """A whole pass with a head set, the logits of the last position alone: the least that an edge takes by hooks.

    Path patching takes another pass to learn what to set the target to.
    """
    model = world.model
    tokens = model.pad(model.encode([world.prompts[prompt]]))
    columns = columns_of(model, head)

    def put(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        x = inputs[0].clone()
        x[:, -1, columns] = value
        return (x,)

    handle = model.part(("heads", head.layer)).register_forward_pre_hook(put)
    try:
        options = {"input_ids": tokens.ids, "attention_mask": tokens.mask.long(), "logits_to_keep": 1}
        return model.hf(**options).logits[0, -1]
    finally:
        handle.remove()


def measured(world: World, saes: SaeStack) -> dict[str, Any]:
    """Seconds of one component, one edge and one graph on one prompt, and the largest difference of logits."""
    model = world.model
    captured = capture(model, world.prompts, answers=world.answers, keep_cache=True)
    components = circuit_nodes(world, saes, captured)
    nodes = nodes_of(model, saes, components)
    reference, edges = reference_of(model, saes, [captured], nodes), nodes.edges
    targets = torch.zeros(PROMPTS, dtype=torch.long)
    heads = [Component(k, "head", h) for k in range(model.n_layers) for h in range(model.n_heads)]
    kept = torch.stack([kept_edges(nodes, edges[:k]) for k in range(1, len(edges), len(edges) // GRAPHS)])
    head = next(c for c in nodes.components if c.kind == "head" and c.layer >= model.n_layers // 2)
    value = component_values(model, None, captured, [head])[head] * 0
    ours = answers_with(model, captured, {0: {head: None}})[0]
    theirs = torch.stack([hooked(world, p, head, value[p])[captured.answers.first] for p in range(PROMPTS)])

    def cut(through: Any) -> Any:
        return cut_edges(model, saes, captured, nodes, edges, reference, through=through)

    each = PROMPTS * len(edges)
    taken = {
        HOOKED: seconds(lambda: [hooked(world, p, head, value[p]) for p in range(PROMPTS)]) / PROMPTS,
        "a head": seconds(lambda: answers_with(model, captured, {h: {h: None} for h in heads})) / PROMPTS / len(heads),
        "an edge, all else held": seconds(lambda: cut("held")) / each,
        "an edge, recomputed": seconds(lambda: cut("recomputed")) / each,
        "an edge by attribution": seconds(
            lambda: edge_attribution(model, saes, captured, nodes, edges, targets, reference)
        )
        / each,
        "a whole graph": seconds(lambda: graph_answers(model, saes, captured, nodes, kept, reference))
        / PROMPTS
        / len(kept),
    }
    return {
        "nodes": len(nodes),
        "edges": len(edges),
        "heads": len(heads),
        "tokens": sum(captured.n_tokens) / PROMPTS,
        "seconds": taken,
        "logit_gap": float((ours - theirs).abs().max()),
    }


def run() -> None:
    """Writes results/circuits.md and circuits.json, after every model."""
    found: dict[str, Any] = {"hardware": hardware(), "worlds": {}}
    for name in MODELS:
        model = load_model(name)
        saes, which = own_saes(name, model)
        print(f"{name}: {which}")
        found["worlds"][name] = {"saes": which, **measured(real_world(model, saes, PROMPTS), saes)}
        write("circuits", found, render(found))


def render(found: dict[str, Any]) -> list[str]:
    """The Markdown of what was found."""
    lines = [f"# Circuits on real weights\n\n{found['hardware']}. Medians of 5; prompts are vignettes.\n"]
    lines += ["| | target | measured |", "|---|---|---|"]
    for name, world in found["worlds"].items():
        taken = world["seconds"]
        for what in ("an edge, all else held", "an edge, recomputed"):
            lines.append(f"| {name}: {what}, against one {HOOKED} | {TARGET} | {taken[HOOKED] / taken[what]:.0f} |")
    for name, world in found["worlds"].items():
        lines += [
            "",
            f"{name} with {world['saes']}: {world['edges']} edges between {world['nodes']} nodes (heads, MLPs, neurons,"
            f" features), all {world['heads']} heads; {world['tokens']:.0f} tokens a prompt; largest difference of an"
            f" answer's logit to the hooked forward {world['logit_gap']:.1g}.",
            "",
            "| per prompt | us | hooked forward takes |",
            "|---|---|---|",
        ]
        for what, taken in world["seconds"].items():
            lines.append(f"| {what} | {1e6 * taken:.0f} | {world['seconds'][HOOKED] / taken:.0f} times |")
    return lines
