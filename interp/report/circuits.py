"""Figures and tables of circuits: graphs, what few edges keep, what circuits share."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.report.contents import Columns, PageColumn, PageTable
from interp.report.looks import BLUES, COLOURS, INK, THIN, add_curve, add_heat, colours, faded, styled

EDGES_DRAWN, WORDS_DRAWN, WORD_EDGES = 60, 10, 24
SUPPORTS, OPPOSES = "#0072B2", "#D55E00"
BANDS = {"head": (-1.0, -0.3), "mlp": (-0.12, 0.12), "neuron": (0.26, 0.56), "feature": (0.68, 1.0)}
"""Where nodes of a kind stand, from left to right."""
SYMBOLS = {
    "head": "circle",
    "mlp": "square",
    "neuron": "diamond",
    "feature": "hexagon",
    "word": "circle-open",
    "answer": "star",
}
WITHIN = {"head": 0.0, "mlp": 0.4, "neuron": 0.4, "feature": 0.75}
RANKING_COLOURS = {"exact": "#0072B2", "attribution": "#E6A700", "random": "#8C8C8C"}
CURVES = 3

Node = tuple[str, int, int]
"""Kind, layer, number; of a word, its place."""


def short(node: Node) -> str:
    """A node as its label says it."""
    kind, layer, number = node
    return f"mlp {layer}" if kind == "mlp" else f"{kind} {layer}.{number}"


class DrawnCircuit:
    """A circuit as it is drawn: where its nodes stand, and its edges with their effects.

    Args:
        edges, nodes, words: an emotion's rows of the run's tables.
        most: edges that are drawn.
    """

    def __init__(
        self,
        edges: pd.DataFrame,
        nodes: pd.DataFrame,
        words: pd.DataFrame,
        emotion: str,
        n_layers: int,
        most: int = EDGES_DRAWN,
    ) -> None:
        self.emotion, self.n_layers = emotion, n_layers
        shown = edges[edges["in_circuit"].astype(bool)].sort_values("rank").head(most)
        self.answer: Node = ("answer", n_layers, 0)
        self.edges: list[tuple[Node, Node, Any]] = []
        for row in shown.itertuples():
            source = (str(row.source_kind), int(row.source_layer), int(row.source_number))
            target = (str(row.target_kind), int(row.target_layer), int(row.target_number))
            self.edges.append((source, self.answer if target[0] == "answer" else target, row))
        inside = {node for source, target, _ in self.edges for node in (source, target)} - {self.answer}
        self.effects = {(str(r.kind), int(r.layer), int(r.number)): r for r in nodes.itertuples()}
        heads = {node for node in inside if node[0] == "head"}
        of_circuit = [("head", int(k), int(u)) in heads for k, u in zip(words["layer"], words["number"], strict=True)]
        of_heads = words[np.array(of_circuit, bool)]
        strength = of_heads.assign(size=of_heads["effect"].abs()).groupby("word")["size"].sum()
        self.words = sorted(strength.sort_values(ascending=False, kind="stable").index[:WORDS_DRAWN])
        known = of_heads[of_heads["word"].isin(self.words)]
        known = known.reindex(known["effect"].abs().sort_values(ascending=False, kind="stable").index[:WORD_EDGES])
        self.word_edges = [
            (("word", -1, self.words.index(r.word)), ("head", int(r.layer), int(r.number)), r)
            for r in known.itertuples()
        ]
        self.all_heads = {str(r.word): r for r in words[words["layer"] == -1].itertuples()}
        self.nodes = sorted(inside, key=lambda n: (n[1], WITHIN[n[0]], n[2]))
        self.places = self._places()

    def _places(self) -> dict[Node, tuple[float, float]]:
        places: dict[Node, tuple[float, float]] = {self.answer: (0.0, self.n_layers + 0.6)}
        rows: dict[tuple[str, int], list[Node]] = {}
        for node in self.nodes:
            rows.setdefault(node[:2], []).append(node)
        for (kind, layer), own in rows.items():
            low, high = BANDS[kind]
            for k, node in enumerate(own):
                shift = 0.0 if len(own) > 1 else 0.5 * (((layer * 7) % 5) / 2 - 1) * (high - low) * 0.7
                x = (low + high) / 2 + shift if len(own) == 1 else low + (high - low) * k / (len(own) - 1)
                places[node] = (x, layer + WITHIN[kind])
        lowest = min((y for _, y in places.values()), default=0.0) - max(1.2, 0.06 * self.n_layers)
        for k in range(len(self.words)):
            places["word", -1, k] = (-1 + 2 * (k + 0.5) / len(self.words), lowest)
        return places

    def note(self, node: Node) -> str:
        """What a node's card says: a title, then a line each."""
        kind, _, number = node
        if kind == "word":
            word = self.words[number]
            lines = [f'"{word}"']
            if word in self.all_heads:
                r = self.all_heads[word]
                lines.append(
                    f"All heads together bring {r.effect:+.3f} nats [{r.ci_low:.3f}, {r.ci_high:.3f}] from it, mean"
                )
                lines[-1] += f" over {r.n} texts, {r.n_with} of which hold it."
            own = [(t, e) for s, t, e in self.word_edges if s == node]
            return "\n".join([*lines, *(f"{short(t)}: {e.effect:+.3f} nats" for t, e in own)])
        if kind == "answer":
            into = [(s, e) for s, t, e in self.edges if t == node]
            return "\n".join([f"Answer: {self.emotion}", *(f"from {short(s)}: {e.effect:+.3f} nats" for s, e in into)])
        lines = [f"{short(node).capitalize()}, {self.emotion}"]
        if node in self.effects:
            r = self.effects[node]
            lines.append(f"Set to its mean: {r.effect:+.3f} nats [{r.ci_low:.3f}, {r.ci_high:.3f}], n = {r.n}.")
            told = f"q = {r.q:.2g}"
            lines.append(f"Causal for {self.emotion} ({told})." if r.causal else f"Not the emotion's own ({told}).")
            if r.moves_most != self.emotion:
                lines.append(f"It moves the answer {r.moves_most} most.")
        for title, ends in (
            ("Reads", [(s, e) for s, t, e in self.edges if t == node]),
            ("Is read by", [(t, e) for s, t, e in self.edges if s == node]),
        ):
            lines += [
                f"{title} {short(other) if other[0] != 'answer' else 'the answer'}: {e.effect:+.3f} nats"
                for other, e in ends[:12]
            ]
        words = [(self.words[s[2]], e) for s, t, e in self.word_edges if t == node]
        return "\n".join([*lines, *(f'Brings from "{w}": {e.effect:+.3f} nats' for w, e in words)])


def graph(drawn: DrawnCircuit, labels: Sequence[str], cards: Collection[tuple[int, int]] = frozenset()) -> go.Figure:
    """Layers upward, words at the bottom, the answer on top.

    The `customdata` of a feature with a card is its layer and index, that of any other node its note.

    Args:
        cards: layer and index of the features that have one.
    """
    figure = go.Figure()
    every = [*drawn.word_edges, *drawn.edges]
    strongest = max((abs(e.effect) for _, _, e in drawn.edges), default=1.0)
    of_words = max((abs(e.effect) for _, _, e in drawn.word_edges), default=1.0)
    middles: list[tuple[float, float, str]] = []
    for source, target, edge in every:
        (x0, y0), (x1, y1) = drawn.places[source], drawn.places[target]
        share = abs(edge.effect) / (of_words if source[0] == "word" else strongest)
        colour = SUPPORTS if edge.effect > 0 else OPPOSES
        figure.add_scatter(
            x=[x0, x1],
            y=[y0, y1],
            mode="lines",
            line={"width": 0.6 + 5 * share, "color": faded(colour, 0.25 + 0.55 * share)},
            hoverinfo="skip",
            showlegend=False,
        )
        said = drawn.words[source[2]] if source[0] == "word" else short(source)
        to = f"the answer {drawn.emotion}" if target[0] == "answer" else short(target)
        middles.append(
            (
                (x0 + x1) / 2,
                (y0 + y1) / 2,
                f"{said} to {to}: {edge.effect:+.3f} nats [{edge.ci_low:.3f}, {edge.ci_high:.3f}]",
            )
        )
    if middles:
        x, y, text = zip(*middles, strict=True)
        figure.add_scatter(
            x=x,
            y=y,
            mode="markers",
            marker={"size": 9, "opacity": 0},
            text=text,
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    palette = colours(labels)
    kinds = {"head": "attention head", "mlp": "MLP", "neuron": "neuron", "feature": "SAE feature"}
    largest = max((abs(drawn.effects[n].effect) for n in drawn.nodes if n in drawn.effects), default=1.0)
    for kind, title in kinds.items():
        own = [node for node in drawn.nodes if node[0] == kind]
        if not own:
            continue
        sizes = [9 + 13 * (abs(drawn.effects[n].effect) / largest) ** 0.5 if n in drawn.effects else 9 for n in own]
        solid = [n in drawn.effects and bool(drawn.effects[n].causal) for n in own]
        figure.add_scatter(
            x=[drawn.places[n][0] for n in own],
            y=[drawn.places[n][1] for n in own],
            mode="markers+text",
            name=title,
            text=[short(n).split(" ")[1] for n in own],
            textposition="middle right",
            textfont={"size": 10},
            marker={
                "symbol": [SYMBOLS[kind] + ("" if s else "-open") for s in solid],
                "size": sizes,
                "color": KIND_COLOURS[kind],
            },
            customdata=[[n[1], n[2]] if kind == "feature" and n[1:] in cards else drawn.note(n) for n in own],
            hovertext=[drawn.note(n).replace("\n", "<br>") for n in own],
            hovertemplate="%{hovertext}<extra></extra>",
        )
    ends = [("word", -1, k) for k in range(len(drawn.words))]
    if ends:
        figure.add_scatter(
            x=[drawn.places[n][0] for n in ends],
            y=[drawn.places[n][1] for n in ends],
            mode="markers+text",
            name="word",
            text=drawn.words,
            textposition=["bottom center" if k % 2 == 0 else "top center" for k in range(len(ends))],
            marker={"symbol": "circle", "size": 7, "color": INK},
            customdata=[drawn.note(n) for n in ends],
            hovertext=[drawn.note(n).replace("\n", "<br>") for n in ends],
            hovertemplate="%{hovertext}<extra></extra>",
            showlegend=False,
        )
    top = drawn.places[drawn.answer]
    figure.add_scatter(
        x=[top[0]],
        y=[top[1]],
        mode="markers+text",
        name="answer",
        text=[drawn.emotion],
        textposition="top center",
        textfont={"size": 14},
        marker={"symbol": "star", "size": 16, "color": palette.get(drawn.emotion, COLOURS["neutral"])},
        customdata=[drawn.note(drawn.answer)],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )
    floor = min(v for _, v in drawn.places.values())
    step = max(1, round(drawn.n_layers / 10))
    figure.update_xaxes(visible=False, range=[-1.12, 1.18])
    figure.update_yaxes(
        title_text="layer",
        tickvals=[k for k in range(0, drawn.n_layers, step) if k >= floor],
        range=[floor - 0.9 - 0.03 * drawn.n_layers, drawn.n_layers + 1.6 + 0.03 * drawn.n_layers],
    )
    return styled(figure, 640)


KIND_COLOURS = {"head": "#0072B2", "mlp": "#8C8C8C", "neuron": "#CC79A7", "feature": "#009E73"}


def curves(table: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Share of the logit difference kept, by number of edges and ranking; a panel for each emotion."""
    shown = [label for label in labels if table.loc[table["emotion"] == label, "value"].notna().any()]
    rows = max(1, -(-len(shown) // CURVES))
    figure = make_subplots(
        rows=rows,
        cols=min(CURVES, max(1, len(shown))),
        subplot_titles=shown,
        shared_yaxes=True,
        horizontal_spacing=0.03,
        vertical_spacing=58 / (100 + 230 * rows),
    )
    for i, label in enumerate(shown):
        place = {"row": i // CURVES + 1, "col": i % CURVES + 1}
        for ranking, colour in RANKING_COLOURS.items():
            own = table[(table["emotion"] == label) & (table["ranking"] == ranking)].sort_values("k")
            if len(own):
                add_curve(figure, own, "k", ranking, colour, showlegend=i == 0, **place)
        figure.add_hline(y=1, line=THIN | {"dash": "dot"}, **place)
        figure.update_xaxes(type="log", title_text="edges kept", tickvals=[1, 4, 16, 64, 256], **place)
    figure.update_yaxes(title_text="share kept", col=1)
    low = float(np.nanmin(table["value"].to_numpy(dtype=float), initial=0))
    figure.update_yaxes(
        range=[
            max(-1.0, min(-0.1, low - 0.1)),
            min(2.0, max(1.15, float(np.nanmax(table["value"].to_numpy(dtype=float), initial=1)) + 0.1)),
        ]
    )
    return styled(figure, 100 + 230 * rows)


def shared(table: pd.DataFrame, labels: Sequence[str]) -> go.Figure:
    """Nodes and edges that two emotions' circuits share."""
    titles = {"nodes": "nodes of both, of either", "edges": "edges of both, of either"}
    figure = make_subplots(cols=2, subplot_titles=list(titles.values()), shared_yaxes=True, horizontal_spacing=0.06)
    for column, name in enumerate(titles, start=1):
        wide = table.pivot(index="emotion", columns="other", values=name).reindex(index=labels, columns=labels)
        add_heat(figure, wide, "circuits of %{y} and %{x}: %{z:.0%}", row=1, col=column, scale=BLUES)
    figure.update_yaxes(autorange="reversed")
    return styled(figure, 120 + 44 * len(labels))


CIRCUITS: Columns = {
    "emotion": PageColumn("emotion"),
    "n_causal": PageColumn("causal components", "number", 0),
    "nodes": PageColumn("nodes", "number", 0),
    "edges": PageColumn("edges", "number", 0),
    "candidate_edges": PageColumn("of", "number", 0),
    "kept": PageColumn("keeps", "share", 0),
    "kept_by_all": PageColumn("all edges keep", "share", 0),
    ("knocked_out", "knocked_out_low", "knocked_out_high"): PageColumn("knocked out (nats)", "interval", 2),
    ("knocked_out_control", "knocked_out_control_low", "knocked_out_control_high"): PageColumn("random", "interval", 2),
    "follows": PageColumn("others follow", "share", 0),
    "follows_control": PageColumn("random", "share", 0),
    "n": PageColumn("n", "number", 0),
}


def circuits_table(table: pd.DataFrame) -> PageTable:
    note = (
        "Circuit: the fewest edges, largest exact effect first, that keep four fifths of what all edges between the"
        " emotion's nodes keep of the answer's logit difference. Knocked out: fall of the gold answer's"
        " log-probability with all its nodes at their means; others follow: share of texts of other emotions, answered"
        " otherwise, whose answer becomes this one when its nodes are set as they are in its own texts. Random: as many"
        " components of the same kinds. Found on discover texts, measured on fit texts."
    )
    return PageTable.of(table, CIRCUITS, name="circuits", title="Circuits side by side", note=note)


NODES: Columns = {
    "emotion": PageColumn("emotion"),
    "kind": PageColumn("kind"),
    "layer": PageColumn("layer", "number", 0),
    "number": PageColumn("number", "number", 0),
    ("effect", "ci_low", "ci_high"): PageColumn("effect (nats)", "interval"),
    "logit_effect_elsewhere": PageColumn("elsewhere (logits)", "number"),
    "q": PageColumn("q", "number", 4),
    "moves_most": PageColumn("moves most"),
    "causes": PageColumn("causal"),
    "flip_rate": PageColumn("answer flips", "share", 0),
    "n": PageColumn("n", "number", 0),
}
MOST_NODES = 60


def nodes_table(table: pd.DataFrame) -> PageTable:
    """The strongest components of every emotion, causal ones first."""
    ordered = table.assign(size=table["effect"].abs(), causes=np.where(table["causal"].astype(bool), "yes", "no"))
    ordered = ordered.sort_values(["causal", "size"], ascending=False, kind="stable")
    shown = ordered.groupby("emotion", sort=False).head(MOST_NODES)
    features = " and the run's causal features" if (table["kind"] == "feature").any() else ""
    note = (
        f"Every head and MLP, neurons that attribution proposed{features}, each set to its mean over the"
        f" discover texts, everything above recomputed; the {MOST_NODES} strongest of each emotion. Causal:"
        " interval above zero, and the emotion's answer falls more in its own texts than in others (rank test, q < 0.05"
        " over all components of the kind), by itself and not because another answer rises."
    )
    return PageTable.of(shown, NODES, name="circuit_nodes", title="Heads, MLPs, neurons and features", note=note)


EDGES: Columns = {
    "emotion": PageColumn("emotion"),
    "source": PageColumn("from"),
    "target": PageColumn("to"),
    ("effect", "ci_low", "ci_high"): PageColumn("effect, all else held (nats)", "interval"),
    "effect_recomputed": PageColumn("recomputed (nats)", "number"),
    "arrives": PageColumn("arrives, held", "number", 2),
    "arrives_recomputed": PageColumn("arrives, recomputed", "number", 2),
    "attribution": PageColumn("attribution", "number"),
    "rank": PageColumn("rank", "number", 0),
}


def edges_table(table: pd.DataFrame) -> PageTable:
    """The edges of all circuits."""
    own = table[table["in_circuit"].astype(bool)].sort_values(["emotion", "rank"], kind="stable")

    def named(side: str) -> list[str]:
        columns = zip(own[f"{side}_kind"], own[f"{side}_layer"], own[f"{side}_number"], strict=True)
        return ["answer" if kind == "answer" else short((kind, layer, number)) for kind, layer, number in columns]

    note = (
        "Effect: fall of the gold answer's log-probability when the edge's target alone reads the residual without"
        " what its source adds beyond its mean, all else between them held; recomputed: when the target holds what it"
        " would if the source were at its mean and all between answered to that. Arrives: by how much the target's"
        " value moves (activation of features and neurons, length of what heads and MLPs hold)."
    )
    shown = own.assign(source=named("source"), target=named("target"))
    return PageTable.of(shown, EDGES, name="circuit_edges", title="Edges of the circuits", note=note)
