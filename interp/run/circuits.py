"""The circuits of a finished run: nodes, edges, what few edges keep, words, knocked out and put in."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from interp.analysis import circuits as analysis
from interp.analysis.labelled import LabelledExamples
from interp.engine.capture import Captured
from interp.engine.components import (
    Component,
    Kind,
    answers_with,
    check_components,
    columns_of,
    component_values,
    site_gradients,
    site_of,
    site_values,
)
from interp.engine.contributions import Nodes, Reference, nodes_of, reference_of
from interp.engine.graphs import graph_answers, kept_edges
from interp.engine.moved import without_words, without_words_in
from interp.engine.paths import check_first_tokens, cut_edges, edge_attribution
from interp.errors import UserError
from interp.files.folder import RunFolder, claimed, fingerprint
from interp.models.language_model import Site
from interp.reporting import Progress, silent
from interp.resources import NO_SAES
from interp.run import tables
from interp.run.afterwards import of_run, outputs_of
from interp.run.config import config_of
from interp.run.inputs import Inputs
from interp.run.reading import RunFiles
from interp.run.session import Session
from interp.saes.stack import SaeStack
from interp.statistics import Estimate

COMMAND = "circuit"
OUTPUTS = outputs_of(COMMAND)
WORDS_KEPT = 40
"""Words of an emotion and head that the table holds, those of largest effect."""
HEADS_READ = 8
"""Heads of a circuit, the strongest, for which it is asked what they bring from which word."""


@dataclass(frozen=True)
class CircuitOptions:
    """What circuits are looked for with.

    Attributes:
        examples: texts of each emotion, from the discover split to find with and as many from fit to measure on.
        nodes: of an emotion's graph, at most.
        neurons: that attribution proposes for each emotion; exact effects decide.
    """

    examples: int = 24
    nodes: int = 24
    neurons: int = 32


@dataclass(frozen=True)
class Found:
    """The tables, by file name, and where they are."""

    folder: Path
    tables: Mapping[str, pd.DataFrame]


def circuit(folder: Path, options: CircuitOptions, *, progress: Progress = silent) -> Found:
    """Finds the circuits of a run's emotions and writes their tables into its folder.

    Without SAEs, of heads, MLPs and neurons; with them, of the run's causal features as well.

    Finished units of a killed attempt are gone on with; what is there and current is read.

    Raises:
        UserError: no run folder, one that has not been traced, or answers that first tokens do not tell apart.
    """
    files = RunFiles(folder)
    traced = files.record and config_of(folder).saes.name != NO_SAES
    if traced and files.table("effects") is None:
        raise UserError(f"{folder} has not been traced (no effects.parquet); `interp trace` its config first.")
    if files.record and not (folder / "examples.parquet").is_file():
        raise UserError(f"{folder} holds no examples.parquet; `interp trace` its config first.")
    with claimed(folder):
        run = RunFolder(folder)
        session = Session.going_on(Inputs(config_of(folder)), run, progress)
        print_ = fingerprint([asdict(options), of_run(run.record), run.record.get("model"), run.record.get("saes")])
        if run.is_current(COMMAND, print_) and not run.broken(COMMAND, OUTPUTS):
            return Found(folder, {name: tables.read(run / name) for name in OUTPUTS})
        began = time.perf_counter()
        run.begin(COMMAND, print_, [*OUTPUTS, f"units/{COMMAND}"])
        try:
            found = _Search(session, options, session.saes if session.has_saes else None).run()
        finally:
            session.close()
        for name, table in found.items():
            tables.write(run / name, table)
        session.units(COMMAND).clear()
        run.finish(COMMAND, print_, time.perf_counter() - began, OUTPUTS)
        run.note(circuit={"of": of_run(run.record), **asdict(options)})
    return Found(folder, found)


@dataclass
class _Search:
    session: Session
    options: CircuitOptions
    saes: SaeStack | None = None
    """None of a model without: its heads, MLPs and neurons alone."""
    sites: dict[Site, torch.Tensor] = field(default_factory=dict)
    """Mean of what passes every site, over the discover texts."""

    def run(self) -> dict[str, pd.DataFrame]:
        session = self.session
        for captured in self._captures(self._examples("discover").rows[:1], "answers"):
            check_first_tokens(captured)
        found, measured = self._examples("discover"), self._examples("fit")
        self._means(found)
        effects = self._nodes(found)
        parts: dict[str, list[pd.DataFrame]] = {name: [] for name in OUTPUTS}
        parts["circuit_nodes.parquet"].append(effects)
        graphs: dict[str, tuple[set[Component], set[tuple[Any, Any]]]] = {}
        chosen: dict[str, list[Component]] = {}
        for emotion, label in enumerate(session.labels):
            graphs[label], chosen[label] = (set(), set()), []
            components = analysis.chosen_nodes(effects, label, self.options.nodes)
            if not components or not len(found.members(emotion)) or not len(measured.members(emotion)):
                continue
            of_emotion = _OfEmotion(self, emotion, components, found, measured)
            edges = of_emotion.edges()
            curve = of_emotion.curve(edges)
            size = analysis.circuit_size(curve)
            edges["in_circuit"] = edges["rank"] <= size
            own = edges[edges["in_circuit"]]
            pairs = [(_end(row, "source_"), _end(row, "target_")) for _, row in own.iterrows()]
            inside = {c for pair in pairs for c in pair if c is not None}
            graphs[label], chosen[label] = (inside, set(pairs)), sorted(inside, key=lambda c: c.order)
            parts["circuit_edges.parquet"].append(edges.drop(columns="edge"))
            parts["faithfulness.parquet"].append(curve)
            heads = of_emotion.strongest_heads(effects, inside)
            parts["circuit_words.parquet"].append(of_emotion.words(heads))
        parts["circuits.parquet"].append(self._together(effects, chosen, graphs, parts, found, measured))
        parts["circuit_overlap.parquet"].append(analysis.overlap(graphs))
        return {name: pd.concat(own, ignore_index=True) if own else pd.DataFrame() for name, own in parts.items()}

    # ------------------------------------------------------------------------------------ examples

    def _examples(self, role: str) -> LabelledExamples:
        """A draw of texts, as many of each emotion."""
        session = self.session
        rows = session.traced_rows() if role == "discover" else session.role(role)
        whole = session.labelled(rows)
        rng = np.random.default_rng(session.seed(f"circuit {role}"))
        places = [
            np.sort(rng.permutation(members)[: self.options.examples])
            for members in map(whole.members, range(len(session.labels)))
        ]
        drawn = whole.only(np.concatenate(places))
        if not len(drawn):
            raise UserError(f"This run has no {role} examples to look for circuits in.")
        return drawn

    def _captures(self, rows: np.ndarray, description: str) -> Iterator[Captured]:
        for _, captured in self.session.cached(rows, description):
            yield captured

    def _means(self, examples: LabelledExamples) -> None:
        model, n = self.session.model, 0
        sites: list[Site] = [(p, k) for k in range(model.n_layers) for p in ("heads", "neurons", "mlp")]
        for captured in self._captures(examples.rows, "means of heads and neurons"):
            for site, values in site_values(model, captured, sites).items():
                total = values.double().sum(0)
                self.sites[site] = self.sites[site] + total if site in self.sites else total
            n += len(captured.n_tokens)
        self.sites = {site: (total / n).float() for site, total in self.sites.items()}

    def reference(self, components: Sequence[Component], examples: LabelledExamples) -> dict[Component, torch.Tensor]:
        """Mean value of each component over the discover texts."""
        session, found = self.session, dict[Component, torch.Tensor]()
        for one in components:
            if one.kind == "feature":
                acts = session.features(one.layer).acts[examples.rows][:, [one.number]]
                found[one] = torch.tensor([float(acts.mean())])
            else:
                found[one] = self.sites[site_of(one)][columns_of(session.model, one)]
        return found

    # --------------------------------------------------------------------------------------- nodes

    def _nodes(self, examples: LabelledExamples) -> pd.DataFrame:
        session, model = self.session, self.session.model
        layers = range(model.n_layers)
        components = [Component(k, "head", h) for k in layers for h in range(model.n_heads)]
        components += [Component(k, "mlp") for k in layers] + self._proposed_neurons(examples)
        features = RunFiles(session.folder.path).causal_features().sort_values("effect", ascending=False, kind="stable")
        per_emotion = max(1, self.options.nodes // 4)
        strongest = features.groupby("emotion", sort=False).head(per_emotion)
        components += [
            Component(k, "feature", f) for k, f in {*zip(strongest["layer"], strongest["feature"], strict=True)}
        ]
        components = sorted({Component(int(c[0]), c[1], int(c[2])) for c in components}, key=lambda c: c.order)
        check_components(model, self.saes, components)
        means = self.reference(components, examples)
        variants = {k: {one: means[one]} for k, one in enumerate(components)}

        def logits(captured: Captured, _: list[int]) -> dict[str, torch.Tensor]:
            found = answers_with(model, captured, variants, saes=self.saes)
            return {"clean": captured.answer_logits, "without": torch.stack(list(found.values()), dim=1)}

        found = session.collect(examples.rows, logits, "heads and neurons", units=session.units(COMMAND))
        pools: dict[Kind, int] = {
            "head": model.n_layers * model.n_heads,
            "mlp": model.n_layers,
            "neuron": model.n_layers * model.n_neurons,
        }
        clean, without = (found[name].double().numpy() for name in ("clean", "without"))
        return analysis.component_effects(clean, without, components, examples, pools)

    def _proposed_neurons(self, examples: LabelledExamples) -> list[Component]:
        """Those of largest mean attribution, either way, for each emotion."""
        model, session = self.session.model, self.session
        sites: list[Site] = [("neurons", k) for k in range(model.n_layers)]
        total = torch.zeros(len(session.labels), model.n_layers, model.n_neurons)
        for rows, captured in session.cached(examples.rows, "neurons proposed"):
            gold = torch.from_numpy(examples.gold[examples.places(rows)])
            slopes, values = site_gradients(model, captured, gold, sites), site_values(model, captured, sites)
            for layer, site in enumerate(sites):
                worth = ((values[site] - self.sites[site]) * slopes[site]).float().cpu()
                total[:, layer].index_add_(0, gold, worth)
        counts = np.bincount(examples.gold, minlength=len(session.labels))
        proposed: set[Component] = set()
        for emotion in np.flatnonzero(counts):
            best = total[emotion].flatten().abs().topk(min(self.options.neurons, total[emotion].numel())).indices
            proposed |= {Component(int(i) // model.n_neurons, "neuron", int(i) % model.n_neurons) for i in best}
        return sorted(proposed, key=lambda c: c.order)

    # ------------------------------------------------------------------------------------ together

    def _together(
        self,
        effects: pd.DataFrame,
        chosen: Mapping[str, Sequence[Component]],
        graphs: Mapping[str, tuple[set[Component], set[tuple[Any, Any]]]],
        parts: Mapping[str, list[pd.DataFrame]],
        found: LabelledExamples,
        measured: LabelledExamples,
    ) -> pd.DataFrame:
        """Every emotion's circuit knocked out of its texts, and put into those of others; beside random nodes."""
        session, labels = self.session, self.session.labels
        tested = [analysis.component_of(row) for _, row in effects.drop_duplicates(list(analysis.NODE)).iterrows()]
        sets: dict[tuple[int, bool], list[Component]] = {}
        for emotion, label in enumerate(labels):
            sets[emotion, False] = list(chosen[label])
            sets[emotion, True] = analysis.like(chosen[label], tested, session.seed(f"circuit controls {label}"))
        everyone = sorted({c for own in sets.values() for c in own}, key=lambda c: c.order)
        means, typical = self.reference(everyone, found), self._typical(everyone, found)
        variants: dict[str, Any] = {}
        for (emotion, control), own in sets.items():
            if own:
                variants[f"out {emotion} {control}"] = {c: means[c] for c in own}
                variants[f"in {emotion} {control}"] = {c: typical[emotion][c] for c in own}

        def logits(captured: Captured, _: list[int]) -> dict[str, torch.Tensor]:
            after = answers_with(session.model, captured, variants, saes=self.saes)
            return {"clean": captured.answer_logits, **{name: x.float() for name, x in after.items()}}

        after = session.collect(measured.rows, logits, "circuits out and in", units=session.units(COMMAND))
        scores = {name: analysis.log_softmax(x.double().numpy()) for name, x in after.items()}
        lines = []
        edges = pd.concat(parts["circuit_edges.parquet"]) if parts["circuit_edges.parquet"] else pd.DataFrame()
        curves = pd.concat(parts["faithfulness.parquet"]) if parts["faithfulness.parquet"] else pd.DataFrame()
        for emotion, label in enumerate(labels):
            own_nodes, own_edges = graphs[label]
            nothing = Estimate(np.nan, np.nan, np.nan, 0)
            line: dict[str, Any] = {"emotion": label, "nodes": len(own_nodes), "edges": len(own_edges)}
            line["n"] = len(measured.members(emotion))
            line["n_causal"] = int(effects[effects["emotion"] == label]["causal"].sum())
            candidates = edges[edges["emotion"] == label] if len(edges) else edges
            curve = curves[(curves["emotion"] == label) & (curves["ranking"] == "exact")] if len(curves) else curves
            at = curve[curve["k"] == len(own_edges)]
            line["candidate_edges"] = len(candidates)
            line["kept"] = float(at["value"].iloc[0]) if len(at) else np.nan
            line["kept_by_all"] = float(curve["value"].iloc[-1]) if len(curve) else np.nan
            for control, name in ((False, ""), (True, "_control")):
                out = nothing
                if f"out {emotion} {control}" in scores and line["n"]:
                    members = measured.members(emotion)
                    before, gone = scores["clean"][members], scores[f"out {emotion} {control}"][members]
                    out = measured.bootstrap(members, f"out {label}").mean(before[:, emotion] - gone[:, emotion])
                line[f"knocked_out{name}"] = out.value
                line[f"knocked_out{name}_low"], line[f"knocked_out{name}_high"] = out.ci_low, out.ci_high
                line[f"follows{name}"] = np.nan
                if f"in {emotion} {control}" in scores:
                    others = (measured.gold != emotion) & (scores["clean"].argmax(1) != emotion)
                    answers = scores[f"in {emotion} {control}"][others].argmax(1)
                    line[f"follows{name}"] = float((answers == emotion).mean()) if others.any() else np.nan
                    line["n_others"] = int(others.sum())
            lines.append({"n_others": 0, **line})
        return pd.DataFrame(lines)

    def _typical(
        self, components: Sequence[Component], examples: LabelledExamples
    ) -> dict[int, dict[Component, torch.Tensor]]:
        """By emotion, each component's mean value over its discover texts."""
        session = self.session
        sums: dict[int, dict[Component, torch.Tensor]] = {e: {} for e in range(len(session.labels))}
        if not components:
            return sums
        for rows, captured in session.cached(examples.rows, "typical values"):
            values = component_values(session.model, self.saes, captured, components)
            gold = examples.gold[examples.places(rows)]
            for emotion, own in sums.items():
                here = torch.from_numpy(np.flatnonzero(gold == emotion))
                for one, value in values.items():
                    total = value[here.to(value.device)].double().sum(0)
                    own[one] = own[one] + total if one in own else total
        counts = np.bincount(examples.gold, minlength=len(session.labels))
        return {e: {c: (x / max(1, counts[e])).float() for c, x in own.items()} for e, own in sums.items()}


def _end(row: pd.Series, side: str) -> Component | None:
    """One end of an edge; None: the answer."""
    return None if row[f"{side}kind"] == "answer" else analysis.component_of(row, side)


class _OfEmotion:
    """The graph of one emotion: edges from its discover texts, what they keep from its fit texts."""

    def __init__(
        self,
        search: _Search,
        emotion: int,
        components: Sequence[Component],
        found: LabelledExamples,
        measured: LabelledExamples,
    ) -> None:
        session = search.session
        self.session, self.saes, self.emotion, self.label = session, search.saes, emotion, session.labels[emotion]
        self.units, self.found, self.measured = session.units(COMMAND), found, measured
        self.nodes: Nodes = nodes_of(session.model, self.saes, components)
        captures = search._captures(found.rows, f"{self.label}: means")
        self.reference: Reference = reference_of(session.model, self.saes, captures, self.nodes)

    def edges(self) -> pd.DataFrame:
        """All edges between the nodes, largest exact effect first."""
        session, nodes, members = self.session, self.nodes, self.found.members(self.emotion)
        pairs = nodes.edges

        def cut(captured: Captured, places: list[int]) -> dict[str, torch.Tensor]:
            model, saes = session.model, self.saes
            target = torch.full((len(places),), self.emotion, device=model.device)
            held = cut_edges(model, saes, captured, nodes, pairs, self.reference)
            recomputed = cut_edges(model, saes, captured, nodes, pairs, self.reference, through="recomputed")
            return {
                "clean": captured.answer_logits,
                "held": held.logits,
                "arrives": held.arrives,
                "recomputed": recomputed.logits,
                "arrives_recomputed": recomputed.arrives,
                "attribution": edge_attribution(model, saes, captured, nodes, pairs, target, self.reference),
            }

        got = session.collect(self.found.rows[members], cut, f"{self.label}: edges", units=self.units)
        values = {name: x.double().numpy() for name, x in got.items()}
        clean = values["clean"]
        table = pd.DataFrame([self._names(edge) for edge in pairs])
        held = analysis.edge_effects(clean, values["held"], members, self.emotion, self.found)
        again = analysis.edge_effects(clean, values["recomputed"], members, self.emotion, self.found)
        table = pd.concat([table, held], axis=1).assign(
            arrives=values["arrives"].mean(0),
            effect_recomputed=again["effect"],
            arrives_recomputed=values["arrives_recomputed"].mean(0),
            attribution=values["attribution"].mean(0),
            edge=range(len(pairs)),
        )
        order = analysis.largest(table["effect"].to_numpy())
        table.loc[order, "rank"] = np.arange(1, len(order) + 1)
        return table.astype({"rank": int}).sort_values("rank", ignore_index=True)

    def _names(self, edge: tuple[int, int]) -> dict[str, Any]:
        source = self.nodes.components[edge[0]]
        answer = edge[1] == len(self.nodes)
        target = {"layer": self.session.model.n_layers, "kind": "answer", "number": self.emotion}
        target = target if answer else analysis.one_row(self.nodes.components[edge[1]])
        named = {f"source_{k}": v for k, v in analysis.one_row(source).items()}
        return {"emotion": self.label, **named, **{f"target_{k}": v for k, v in target.items()}}

    def curve(self, edges: pd.DataFrame) -> pd.DataFrame:
        """What the largest edges keep."""
        session, nodes, members = self.session, self.nodes, self.measured.members(self.emotion)
        by_place = edges.sort_values("edge")
        seed = session.seed(f"random edges {self.label}")
        orders = analysis.rankings(by_place["effect"].to_numpy(), by_place["attribution"].to_numpy(), seed)
        sizes = analysis.sizes(len(edges))
        asked = [(ranking, k) for ranking in orders for k in sizes if k < len(edges) or ranking.by == "exact"]
        graphs = [kept_edges(nodes, [])]
        graphs += [kept_edges(nodes, [nodes.edges[i] for i in ranking.order[:k]]) for ranking, k in asked]

        def answers(captured: Captured, _: list[int]) -> dict[str, torch.Tensor]:
            kept = graph_answers(session.model, self.saes, captured, nodes, torch.stack(graphs), self.reference)
            return {"clean": captured.answer_logits, "kept": kept}

        got = session.collect(self.measured.rows[members], answers, f"{self.label}: kept", units=self.units)
        clean, kept = (
            analysis.logit_difference(got[name].double().numpy(), self.emotion) for name in ("clean", "kept")
        )
        by_size: dict[tuple[str, int], list[np.ndarray]] = {}
        for column, (ranking, k) in enumerate(asked, start=1):
            by_size.setdefault((ranking.by, k), []).append(kept[:, column])
        stacked = {key: np.stack(draws) for key, draws in by_size.items()}
        for by in ("attribution", "random"):  # all edges are the same graph, whatever their order
            stacked[by, len(edges)] = stacked["exact", len(edges)]
        return analysis.faithfulness(stacked, kept[:, 0], clean, members, self.label, self.measured)

    def strongest_heads(self, effects: pd.DataFrame, inside: set[Component]) -> list[Component]:
        own = effects[(effects["emotion"] == self.label) & (effects["kind"] == "head")]
        ordered = own.reindex(own["effect"].abs().sort_values(ascending=False, kind="stable").index)
        heads = [one for _, row in ordered.iterrows() if (one := analysis.component_of(row)) in inside]
        return sorted(heads[:HEADS_READ], key=lambda c: c.order)

    def words(self, heads: list[Component]) -> pd.DataFrame:
        """What the answer owes to each word, by all heads together (layer and number -1) and by each of these."""
        session, model, members = self.session, self.session.model, self.found.members(self.emotion)
        rows = self.found.rows[members]
        texts = session.texts(rows)
        last = [length - 1 for length in session.n_tokens(texts)]
        spans = [
            [span for span in own if end not in span.tokens]
            for own, end in zip(session.word_spans(texts), last, strict=True)
        ]
        words = sorted({span.word for own in spans for span in own})
        place = {word: i for i, word in enumerate(words)}
        worth = np.zeros((len(heads) + 1, len(rows), len(words)))
        for k, chunk in enumerate(session.progress(session.chunks(texts), f"{self.label}: words", "batch")):
            captured = session.captured([texts[i] for i in chunk])
            tokens = [[span.tokens for span in spans[i]] for i in chunk]

            def read(captured: Captured = captured, tokens: Any = tokens) -> dict[str, np.ndarray]:
                every = without_words(model, captured, tokens)[:, :, None]
                single = without_words_in(model, captured, heads, tokens)
                scores = torch.cat([every, single], dim=2).log_softmax(-1)[..., self.emotion]
                clean = captured.answer_log_probabilities[:, None, None, self.emotion]
                return {"falls": (clean - scores).float().cpu().numpy()}

            falls = self.units.arrays(f"{self.label} words {k:05d}", read)["falls"]
            for row, i in enumerate(chunk):
                for w, span in enumerate(spans[i]):
                    worth[:, i, place[span.word]] += falls[row, w]
        bootstrap, tables_ = self.found.bootstrap(members, f"words {self.label}"), []
        holds = np.zeros((len(rows), len(words)), int)
        for i, own in enumerate(spans):
            holds[i, [place[span.word] for span in own]] = 1
        for h, values in enumerate(worth):
            mean, low, high = bootstrap.means(values)
            names = (
                {"layer": -1, "number": -1} if h == 0 else {"layer": heads[h - 1].layer, "number": heads[h - 1].number}
            )
            columns: dict[str, Float[np.ndarray, " word"]] = {"effect": mean, "ci_low": low, "ci_high": high}
            table = pd.DataFrame(
                {"emotion": self.label, "word": words, **names, "n": len(rows), "n_with": holds.sum(0)}
            )
            table = table.assign(**columns)
            best = table["effect"].abs().sort_values(ascending=False, kind="stable").index[:WORDS_KEPT]
            tables_.append(table.loc[best])
        return pd.concat(tables_, ignore_index=True)
