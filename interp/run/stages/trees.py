"""Stage `trees`: which emotions the model takes for each other, in its answers and in its layers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis import emotion_trees
from interp.analysis.emotion_trees import LEAST_EMOTIONS, LEAST_TEXTS, TREE_RESAMPLES, EmotionTree
from interp.analysis.signals import stratified_sample
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage

LIMIT = 2000
"""Texts; the products of more would fill memory, and tell hardly more."""
Array = np.ndarray


@stage(
    "trees",
    reads=("examples.parquet", "activations"),
    may_read=("features",),
    writes=("trees.parquet", "tree_agreement.parquet"),
    fields=("resamples", "seed"),
)
def run(session: Session) -> None:
    """Writes `trees.parquet` and `tree_agreement.parquet`, from the discover examples."""
    rows = session.role("discover")
    rows = rows[stratified_sample(session.gold(rows), LIMIT, session.seed("trees"))]
    counts = np.bincount(session.gold(rows), minlength=len(session.labels))
    emotions = np.flatnonzero(counts >= LEAST_TEXTS).tolist()
    rows = rows[np.isin(session.gold(rows), emotions)]
    trees, lines = _grown(session, rows, emotions) if len(emotions) >= LEAST_EMOTIONS else ([], [])
    tables.write(session.folder / "trees.parquet", emotion_trees.tree_table(trees))
    tables.write(session.folder / "tree_agreement.parquet", pd.DataFrame(lines))


def _grown(session: Session, rows: Array, emotions: list[int]) -> tuple[list[EmotionTree], list[dict[str, Any]]]:
    """The trees, and a line per comparison: with the answers' tree on other texts, and with the published grouping."""
    gold, labels = session.gold(rows), [session.labels[e] for e in emotions]
    draws = session.labelled(rows).bootstrap(np.arange(len(rows)), "trees").weights[:TREE_RESAMPLES]
    first = emotion_trees.halves(gold, session.table["group"].iloc[rows].to_numpy(), session.seed("halves of trees"))
    weights = np.concatenate([np.ones((1, len(rows))), draws, first[None], ~first[None]]).astype(np.float32)
    shares = emotion_trees.emotion_shares(gold, emotions, weights)
    log_probs = session.table[[f"logp_{label}" for label in labels]].iloc[rows].to_numpy(np.float32)
    answers = emotion_trees.answer_distances(log_probs, shares)
    grouping, seed = emotion_trees.grouping_of(labels), session.seed("permuted emotions")
    trees: list[EmotionTree] = []
    lines: list[dict[str, Any]] = []

    def add(source: str, layer: int | None, distances: Array) -> None:
        trees.append(emotion_trees.emotion_tree(labels, distances[:-2], source=source, layer=layer, n=len(rows)))
        about = {"source": source, "layer": layer, "emotions": len(labels), "n": len(rows)}
        found = emotion_trees.agreement_of_halves(answers[-2:], distances[-2:], seed=seed)
        lines.append({**about, "beside": "answers", **found._asdict()})
        if grouping is not None:
            own = distances[0][np.ix_(grouping.places, grouping.places)]
            known = emotion_trees.agreement(own, grouping.distances, seed=seed, trees=False)
            about["emotions"] = len(grouping.places)
            lines.append({**about, "beside": "grouping", **known._asdict()})

    add("answers", None, answers)

    def of_layer(layer: int) -> dict[str, Array]:
        products = _products(session, layer, rows)
        return {source: emotion_trees.profile_distances(values, shares) for source, values in products.items()}

    layers = session.saes.layers
    for layer, found in zip(layers, session.each_layer(of_layer, layers, "trees"), strict=True):
        for source, distances in found.items():
            add(source, layer, distances)
    return trees, lines


def _products(session: Session, layer: int, rows: Array) -> Mapping[str, Array]:
    """Inner products of the examples, of residuals and of features, each less its mean over them."""
    residuals = session.residuals(layer)[rows].double().numpy()
    centred = {"residuals": residuals - residuals.mean(0)}
    if session.has_saes:
        acts = session.features(layer).acts[rows].toarray().astype(float)
        centred["features"] = acts - acts.mean(0)
    return {source: (values @ values.T).astype(np.float32) for source, values in centred.items()}
