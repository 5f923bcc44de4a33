"""Circuits of emotions: which components cause an answer, by which edges, how much a few edges keep, whose they share.

A component is *causal* for an emotion as a feature is: its exact effect on the gold answer's log-probability has an
interval above zero, and it lowers that answer more where the emotion is than where it is not (`specificity`,
Benjamini-Hochberg over all components of its kind). It must move that answer itself, and not only by moving another:
set to its mean, what brings anger lowers fear in texts of fear, too, where it had been silent (`OWN`).

A *circuit* is the smallest graph of the strongest edges, by exact effect, that keeps `SHARE` of what all edges between
an emotion's nodes keep of the answer's logit difference.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.analysis.labelled import LabelledExamples
from interp.analysis.rules import Q_LEVEL
from interp.analysis.specificity import q_values, specificity
from interp.engine.components import Component, Kind
from interp.statistics import Estimate

Array = np.ndarray
SHARE = 0.8
"""Of what all edges between an emotion's nodes keep: so much its circuit keeps."""
OWN = 0.75
"""Of the largest mean move of any answer's centred logit in an emotion's texts: so much its own answer moves."""
RANKINGS = ("exact", "attribution", "random")
MOST_OF_A_KIND: Mapping[Kind, float] = {"head": 1.0, "mlp": 1.0, "neuron": 0.25, "feature": 0.25}
"""Largest share of the nodes that are of a kind: neurons and features lie within what MLPs and layers write."""
NODE = ("layer", "kind", "number")
KEY = ("emotion", *NODE)


def logit_difference(logits: Float[Array, "*row answer"], emotion: int) -> Float[Array, "*row"]:
    """An answer's logit less the mean of the others'."""
    others = [k for k in range(logits.shape[-1]) if k != emotion]
    return np.asarray(logits[..., emotion] - logits[..., others].mean(-1))


def log_softmax(logits: Float[Array, "*row answer"]) -> Float[Array, "*row answer"]:
    from scipy.special import log_softmax as scipy_log_softmax

    return np.asarray(scipy_log_softmax(logits, axis=-1))


def component_effects(
    clean: Float[Array, "example answer"],
    without: Float[Array, "example component answer"],
    components: Sequence[Component],
    examples: LabelledExamples,
    pools: Mapping[Kind, int],
) -> pd.DataFrame:
    """Exact effects of single components on every emotion's answer in its own examples, and which of them are causal.

    Args:
        clean, without: answer logits, as they are and with each component alone at its reference.
        pools: per kind, how many components there are that could have been looked at.

    Returns:
        Columns emotion, layer, kind, number, n, effect (nats) with its interval, flip_rate, logit_effect,
        logit_effect_elsewhere (fall of the emotion's centred logit in its own and in other examples), moves_most (the
        answer whose centred logit moves most in its own), p, q, causal.
    """
    scores, edited = log_softmax(clean), log_softmax(without)
    falls = clean[:, None] - without
    falls = falls - falls.mean(-1, keepdims=True)
    names = [one_row(c) for c in components]
    tables = []
    for emotion, label in enumerate(examples.labels):
        members = examples.members(emotion)
        if not len(members):
            continue
        effect = scores[members, None, emotion] - edited[members][:, :, emotion]
        mean, low, high = examples.bootstrap(members, f"components {label}").means(effect)
        flips = edited[members].argmax(-1) != scores[members].argmax(-1)[:, None]
        inside, elsewhere, p = specificity(falls[:, :, emotion], examples.gold == emotion, examples.groups)
        columns = {"n": len(members), "effect": mean, "ci_low": low, "ci_high": high, "flip_rate": flips.mean(0)}
        columns |= {"logit_effect": inside, "logit_effect_elsewhere": elsewhere, "p": p}
        moves = np.abs(falls[members].mean(0))  # [component, answer]
        columns["moves_most"] = np.asarray(examples.labels, dtype=object)[moves.argmax(1)]
        columns["own"] = moves[:, emotion] >= OWN * moves.max(1)
        tables.append(pd.DataFrame(names).assign(emotion=label, **columns))
    table = pd.concat(tables, ignore_index=True)
    table["q"] = 1.0
    for kind, own in table.groupby("kind"):
        pool = pools.get(kind, 0) * len(examples.labels)
        table.loc[own.index, "q"] = q_values(own["p"].to_numpy(), pool)
    table["causal"] = (table["ci_low"] > 0) & (table["q"] < Q_LEVEL) & table["own"]
    return table.drop(columns="own")


def one_row(component: Component) -> dict[str, object]:
    """Columns that name a component."""
    return {"layer": component.layer, "kind": component.kind, "number": component.number}


def component_of(row: pd.Series, prefix: str = "") -> Component:
    """The component that a row names."""
    return Component(int(row[f"{prefix}layer"]), row[f"{prefix}kind"], int(row[f"{prefix}number"]))


def chosen_nodes(effects: pd.DataFrame, emotion: str, most: int) -> list[Component]:
    """The nodes of an emotion's graph: its strongest components, causal ones before all others, few of some kinds.

    Those that work against the answer are among them, and those whose effect is not beyond doubt: what a graph of them
    keeps is measured on other texts.
    """
    own = effects[effects["emotion"] == emotion]
    strength = own["effect"].abs()
    ordered = own.assign(strength=strength).sort_values(["causal", "strength"], ascending=False, kind="stable")
    chosen: list[Component] = []
    for _, row in ordered.iterrows():
        one = component_of(row)
        alike = sum(c.kind == one.kind for c in chosen)
        if len(chosen) < most and alike < max(1, round(MOST_OF_A_KIND[one.kind] * most)):
            chosen.append(one)
    return sorted(chosen, key=lambda c: c.order)


def edge_effects(
    clean: Float[Array, "member answer"],
    without: Float[Array, "member edge answer"],
    members: Array,
    emotion: int,
    examples: LabelledExamples,
) -> pd.DataFrame:
    """Mean effect of every edge on an emotion's answer in its own examples: columns n, effect, ci_low, ci_high."""
    fall = log_softmax(clean)[:, None, emotion] - log_softmax(without)[:, :, emotion]
    mean, low, high = examples.bootstrap(members, f"edges {examples.labels[emotion]}").means(fall)
    return pd.DataFrame({"n": len(members), "effect": mean, "ci_low": low, "ci_high": high})


def sizes(n_edges: int) -> list[int]:
    """How many edges are kept together: 1, 2, 4, ... and in steps between from 16 on, up to all of them."""
    steps = [k for j in range(14) for k in ((2**j,) if j < 4 else (2**j, 3 * 2 ** (j - 1)))]
    return sorted({k for k in steps if k < n_edges} | ({n_edges} if n_edges else set()))


class Ranking(NamedTuple):
    """Edges in the order in which they are kept, by what the order is; `draw` numbers random ones."""

    by: str
    draw: int
    order: list[int]


def rankings(
    exact: Float[Array, " edge"], attribution: Float[Array, " edge"], seed: int, draws: int = 3
) -> list[Ranking]:
    """Largest edges first, whichever way they work."""
    rng = np.random.default_rng(seed)
    found = [Ranking("exact", 0, largest(exact)), Ranking("attribution", 0, largest(attribution))]
    return found + [Ranking("random", d, rng.permutation(len(exact)).tolist()) for d in range(draws)]


def largest(values: Float[Array, " edge"]) -> list[int]:
    return [int(i) for i in np.argsort(-np.abs(values), kind="stable")]


def faithfulness(
    kept: Mapping[tuple[str, int], Float[Array, "draw member"]],
    empty: Float[Array, " member"],
    whole: Float[Array, " member"],
    members: Array,
    label: str,
    examples: LabelledExamples,
) -> pd.DataFrame:
    """Share of the logit difference that the k largest edges keep, by ranking.

    0: what all nodes at their means answer; 1: the model. Sums over examples are divided, both resampled together.

    Args:
        kept: logit difference of graphs, by ranking and number of edges.
        empty, whole: of the graph without an edge, and of the model.

    Returns:
        Columns emotion, ranking, k, n, value, ci_low, ci_high; NaN where the model's answer does not differ from what
        the means say.
    """
    bootstrap, lines = examples.bootstrap(members, f"faithfulness {label}"), []
    for (ranking, k), differences in kept.items():
        found = bootstrap.ratio(differences.mean(0) - empty, whole - empty)
        if bootstrap.mean(whole - empty).ci_low <= 0:
            found = Estimate(np.nan, np.nan, np.nan, len(members))
        lines.append({"emotion": label, "ranking": ranking, "k": k, **found.row()})
    return pd.DataFrame(lines)


def circuit_size(curve: pd.DataFrame) -> int:
    """Edges of the circuit, from an emotion's rows of `faithfulness`; 0 where no share can be told."""
    exact = curve[curve["ranking"] == "exact"].sort_values("k")
    if exact.empty or not exact["value"].iloc[-1] > 0:
        return 0
    enough = exact[exact["value"] >= SHARE * exact["value"].iloc[-1]]
    return int(enough["k"].iloc[0])


def overlap(circuits: Mapping[str, tuple[set[Component], set[tuple[object, object]]]]) -> pd.DataFrame:
    """What two emotions' circuits share: |both| / |either| (Jaccard), of nodes and of edges.

    Args:
        circuits: by emotion, its nodes and its edges (source, target).

    Returns:
        Columns emotion, other, nodes, edges, shared_nodes, shared_edges; NaN where both are empty.
    """
    lines = []
    for emotion, (nodes, edges) in circuits.items():
        for other, (their_nodes, their_edges) in circuits.items():
            if emotion != other:
                of_edges = {(s, t) for s, t in edges}, {(s, t) for s, t in their_edges}
                lines.append(
                    {
                        "emotion": emotion,
                        "other": other,
                        "nodes": _jaccard(nodes, their_nodes),
                        "edges": _jaccard(*of_edges),
                        "shared_nodes": len(nodes & their_nodes),
                        "shared_edges": len(of_edges[0] & of_edges[1]),
                    }
                )
    return pd.DataFrame(lines)


def _jaccard(a: set, b: set) -> float:  # type: ignore[type-arg]
    return len(a & b) / len(a | b) if a | b else float("nan")


def like(nodes: Sequence[Component], others: Sequence[Component], seed: int) -> list[Component]:
    """As many random components of the same kinds that are none of these; fewer where there are no more."""
    rng, free = np.random.default_rng(seed), sorted({*others} - {*nodes}, key=lambda c: c.order)
    chosen: list[Component] = []
    for kind in sorted({c.kind for c in nodes}):
        own = [c for c in free if c.kind == kind]
        wanted = sum(c.kind == kind for c in nodes)
        chosen += [own[i] for i in rng.permutation(len(own))[:wanted]]
    return sorted(chosen, key=lambda c: c.order)
