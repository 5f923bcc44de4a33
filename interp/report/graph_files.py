"""Circuits as attribution-graph JSON, which circuit-tracer's and Neuronpedia's graph viewers load.

The layout is that of circuit-tracer's graph files (metadata, qParams, nodes, links). A graph there is of one prompt;
ours is a mean over texts, so its "prompt" is the circuit's words, each a column, and the answer position. Viewers
know few kinds of nodes: heads, MLPs and neurons go as features, and their labels say what they are. Weights are exact
effects in nats, not attributions.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from interp.files.folder import write_json
from interp.report.circuits import DrawnCircuit, Node, short
from interp.run.reading import RunFiles
from interp.run.tables import empty

FOLDER = "circuits"
ANSWER = "(answer)"
OF_KIND = {"feature": 0, "head": 1, "mlp": 2, "neuron": 3}
"""Tells nodes of equal layer and index apart; features keep the index by which dashboards find them."""
APART = 10_000_000


def write_graph_files(folder: Path) -> list[Path]:
    """Writes `circuits/EMOTION.json` for every emotion of a run that has a circuit, and returns their paths."""
    run = RunFiles(folder)
    edges, nodes, words = (run.added(name) for name in ("circuit_edges", "circuit_nodes", "circuit_words"))
    if edges is None or nodes is None:
        return []
    words = empty("circuit_words.parquet") if words is None else words
    written = []
    for label in run.labels:
        own, of_nodes, of_words = (table[table["emotion"] == label] for table in (edges, nodes, words))
        if not own["in_circuit"].any():
            continue
        drawn = DrawnCircuit(own, of_nodes, of_words, label, run.record["model"]["n_layers"], most=len(own))
        path = folder / FOLDER / f"{label}.json"
        write_json(path, attribution_graph(drawn, run.record))
        written.append(path)
    return written


def attribution_graph(drawn: DrawnCircuit, record: Mapping[str, Any]) -> dict[str, Any]:
    """A circuit as such a file holds it."""
    columns = [*drawn.words, ANSWER]
    words: list[Node] = [("word", -1, k) for k in range(len(drawn.words))]
    ids = {node: _id(node, drawn) for node in [*words, *drawn.nodes, drawn.answer]}
    links = [
        {"source": ids[source], "target": ids[target], "weight": float(edge.effect)}
        for source, target, edge in [*drawn.word_edges, *drawn.edges]
    ]
    emotion, name = drawn.emotion, str(record["name"])
    return {
        "metadata": {
            "slug": f"{name}-{emotion}".lower().replace(" ", "-"),
            "scan": str(record["model"]["name"]),
            "transcoder_list": [],
            "prompt_tokens": columns,
            "prompt": " ".join(columns),
            "schema_version": 1,
            "info": {
                "description": f"Circuit of {emotion}: exact effects of edges cut alone, in nats, mean over texts.",
                "generator": {"name": "interp", "version": str(record["versions"]["interp"])},
            },
        },
        "qParams": {"pinnedIds": [], "supernodes": [], "linkType": "both", "clickedId": "", "sg_pos": ""},
        "nodes": [_node(node, ids[node], drawn) for node in ids],
        "links": links,
    }


def _id(node: Node, drawn: DrawnCircuit) -> str:
    """Layer, index and column, as in those files."""
    kind, layer, number = node
    if kind == "word":
        return f"E_{number}_{number}"
    if kind == "answer":
        return f"{drawn.n_layers + 1}_0_{len(drawn.words)}"
    return f"{layer}_{_index(node)}_{len(drawn.words)}"


def _index(node: Node) -> int:
    kind, _, number = node
    return number + APART * OF_KIND[kind]


def _node(node: Node, name: str, drawn: DrawnCircuit) -> dict[str, Any]:
    kind, layer, number = node
    column = number if kind == "word" else len(drawn.words)
    shared = {"node_id": name, "ctx_idx": column, "token_prob": 0.0, "is_target_logit": False}
    shared |= {"run_idx": 0, "reverse_ctx_idx": 0, "jsNodeId": f"{name.rsplit('_', 1)[0]}-{column}"}
    if kind == "word":
        own = {"feature": number, "layer": "E", "feature_type": "embedding", "clerp": drawn.words[number]}
    elif kind == "answer":
        own = {"feature": 0, "layer": str(drawn.n_layers + 1), "feature_type": "logit", "is_target_logit": True}
        own |= {"token_prob": 1.0, "clerp": f'Output "{drawn.emotion}" (p=1.000)'}
    else:
        index = _index(node)
        pair = (layer + index) * (layer + index + 1) // 2 + index  # how these files number a layer's feature
        said = f" ({drawn.effects[node].effect:+.2f} nats)" if node in drawn.effects else ""
        own = {"feature": pair, "layer": str(layer), "feature_type": "cross layer transcoder"}
        own["clerp"] = short(node) + said
    return shared | own
