"""Run folders made by hand: what a run leaves, without a model."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.effects import concentration
from interp.files.folder import SCHEMA_VERSION
from interp.run import tables

DEFAULTS = {"int": 1, "float": 0.5, "bool": False, "str": "x"}
"""What stands in columns of which nothing is said."""


def store(folder: Path, name: str, lines: Sequence[dict[str, Any]]) -> None:
    """Writes `NAME.parquet` with all columns of its schema."""
    columns = [c for c in tables.FILES[f"{name}.parquet"].columns if c.name.islower()]
    defaults = {c.name: None if c.missing else DEFAULTS[c.kind] for c in columns}
    tables.write(folder / f"{name}.parquet", pd.DataFrame([defaults | line for line in lines]))


def write_causes(folder: Path, causal: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """What the stages after tracing leave; emotions without a causal feature have no rows."""
    interval = {"effect": 0.4, "ci_low": 0.2, "ci_high": 0.6, "n": 10}
    sizes = [(k, c) for k in (1, 2) for c in (False, True)]
    joint = [{"emotion": a, "phase": "all", "k": k, "control": c, **interval} for a in causal for k, c in sizes]
    store(folder, "joint", joint)
    moved = [{"emotion": a, "answer": b, "moved": 0.1, **interval} for a in causal for b in labels]
    store(folder, "overshadowing", moved)
    inserted = [
        {"emotion": a, "target": b, "control": c, "n_answered_otherwise": 9, **interval}
        for a in causal
        for b in (*labels, "neutral")
        for c in (False, True)
        if a != b
    ]
    store(folder, "insertion", inserted)
    ablated = [{"layer": k, "method": "mlp, zero", "emotion": a, **interval} for a in labels for k in (0, 1)]
    store(folder, "baselines", ablated)
    counts = {"n": 10, "n_traced": 10, "n_causal": 2 if causal else 0, "n_selective": 3}
    measured = [c.name for c in tables.FILES["why.parquet"].columns if c.kind == "float"]
    shares = dict.fromkeys(measured, 0.5 if causal else np.nan)
    store(folder, "why", [{"emotion": a, **counts, **shares} for a in labels])


def write_trees(folder: Path, labels: tuple[str, ...], layers: int) -> None:
    """The trees of the answers and of every layer: each emotion joins those before it."""
    sources = [("answers", None), *((source, k) for k in range(layers) for source in ("residuals", "features"))]
    merges = [(i, " + ".join(labels[:i]), labels[i]) for i in range(1, len(labels))]
    lines = [
        {"source": source, "layer": layer, "merge": i - 1, "left": left, "right": right}
        | {"height": 0.2 * i, "support": 0.5 + 0.4 * (i % 2), "n": 20}
        for source, layer in sources
        for i, left, right in merges
    ]
    store(folder, "trees", lines)
    about = {"correlation": 0.4, "p": 0.04, "emotions": len(labels), "n": 20}
    lines = [
        {"source": source, "layer": layer, "beside": beside, **about}
        for source, layer in sources
        for beside in ("answers", "grouping")
    ]
    store(folder, "tree_agreement", lines)


def write_features(folder: Path, labels: tuple[str, ...], layers: int, traced: int, text: str) -> None:
    """Selective features, and a card for each of the first two traced features."""
    lines = [
        {"layer": k, "feature": f, "emotion": a, "auroc": 0.8, "q": 0.01, "lexical": bool(f % 2), "n": 10}
        | {"kind": "shared" if f % 3 == 0 else "specific"}
        for k in range(layers)
        for f in range(traced)
        for i, a in enumerate(labels)
        if f % 3 == 0 or f % len(labels) == i
    ]
    store(folder, "selectivity", lines)
    tokens = [w + " " for w in text.split()] or [""]
    shown = {"id": "mine-1", "corpus": "mine", "gold": labels[0], "predicted": labels[0]}
    cards = [
        {
            "layer": f % layers,
            "feature": f,
            "norm": 1.0,
            "neuronpedia": "https://www.neuronpedia.org/m/0-res/1" if f else None,
            "edges": [0.0, 1.0, 2.0],
            "emotions": [{"emotion": a, "n": 10, "active": 3, "counts": [2, 1]} for a in labels],
            "promotes": [[" joy", 0.1], ["</script>", 0.05]],
            "suppresses": [["x", -0.1]],
            "answers": [[a, 0.0] for a in labels],
            "neighbours": [{"layer": 0, "feature": 0, "cosine": 0.5}],
            "texts": [{**shown, "tokens": tokens, "activations": [float(i % 2) for i in range(len(tokens))]}],
        }
        for f in range(2)
    ]
    tables.write(folder / "cards.json", cards)


def make_run(
    folder: Path,
    labels=("anger", "fear"),
    layers=4,
    causal=True,
    name="demo",
    corpus="mine",
    examples=20,
    traced=5,
    text="t",
) -> Path:
    """The files that a run leaves.

    Args:
        traced: features traced per emotion; the first two are causal, the last two controls.
        text: of the examples and of the feature cards, token by token.
    """
    rng = np.random.default_rng(0)
    config = {"name": name, "labels": list(labels), "seed": 0, "out": "runs"}
    model = {"name": "m", "identity": "x", "n_layers": layers, "d_model": 8, "device": "cpu", "dtype": "float32"}
    record = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "config": config,
        "versions": {"interp": "0.1.0"},
        "model": model,
        "saes": {"name": "s", "identity": "y", "layers": list(range(layers))},
        "git": {},
        "stages": {},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps(record))
    gold = np.resize(labels, examples)
    asked = {"role": "test", "corpus": corpus, "split": "test", "cut": 0, "text": text}
    store(folder, "examples", [asked | {"gold": a, "predicted": b} for a, b in zip(gold, gold[::-1], strict=True)])
    signals = ["probe_residuals", "probe_features", "probe_shuffled", "selective_features", "joint_ablation"]
    signals += ["direct_evidence", "format_share", "content_overlap", "fvu", "l0"]
    lines = [
        {"layer": k, "signal": s, "value": v, "ci_low": v - 0.1, "ci_high": v + 0.1, "n": 20}
        for k in range(layers)
        for s in signals
        for v in (rng.random(),)
    ]
    store(folder, "signals", lines)
    spans = [{"phase": 1, "first": 0, "last": layers - 1}]
    phases = {"n_phases": 1, "phases": spans, "boundaries": [], "intervals": [], "verdict": "1 phase fits best."}
    (folder / "phases.json").write_text(json.dumps(phases))
    measured = {"phase": "1", "role": "discover", "n": 10, "n_active": 5, "ci_low": 0.01, "ci_high": 1.0}
    lines = [
        {"layer": k % layers, "feature": k, "emotion": label, **measured, "flip_rate": 0.1, "attribution": 0.1}
        | {"effect": 1.0 / (k + 1), "control": k > traced - 3, "causal": causal and k < 2}
        for label in labels
        for k in range(traced)
    ]
    store(folder, "effects", lines)
    whole = concentration(tables.read(folder / "effects.parquet"), list(labels))
    tables.write(folder / "concentration.parquet", whole)
    write_causes(folder, labels if causal else (), labels)
    write_features(folder, labels, layers, traced, text)
    write_trees(folder, labels, layers)
    facts = {"method": "amplify" if causal else "none", "setting": "gain 2", "reason": "Nothing to steer."}
    (folder / "steering.json").write_text(json.dumps(facts))
    metrics = ["accuracy", "macro_f1", "macro_f1_gain", *(f"recall_{x}" for x in labels)]
    metrics += [f"recall_gain_{x}" for x in labels]
    scores = {"corpus": corpus, "split": "test", "value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": examples}
    prices = {"corpus": "plain text", "split": "all", "value": 1.0, "ci_low": 1.0, "ci_high": 1.0, "n": 9}
    lines = [
        {**scores, "method": m, "metric": k}
        for m in ("unsteered", "steered")
        for k in metrics
        if not (m == "unsteered" and "gain" in k)
    ]
    lines += [{**prices, "method": "steered", "metric": k} for k in ("perplexity_ratio", "kl")]
    store(folder, "evaluation", lines)
    values = {"value": 0.1, "ci_low": 0.0, "ci_high": 0.2, "n": examples}
    strengths = [{"method": "steered", "strength": s, "changed": 0.1, **values} for s in (0.5, 1.0, 2.0)]
    dose = [{"corpus": corpus, **s} for s in strengths]
    dose += [{"corpus": "plain text", **s, "method": "perplexity_ratio"} for s in strengths]
    store(folder, "dose", dose)
    side = [{"method": m, "metric": "cloze_accuracy", **values} for m in ("unsteered", "steered")]
    store(folder, "side_effects", side)
    part = {"layer": 0, "feature": 0, "role": "multiplied", "emotion": labels[0], "nats": np.nan, "n": examples}
    part |= {f"{what}{end}": v for what in ("alone", "lost") for end, v in (("", 0.1), ("_low", 0.0), ("_high", 0.2))}
    store(folder, "parts", [part])
    tables.write(folder / "learning.parquet", pd.DataFrame())
    answers = [
        {"corpus": corpus, "method": m, "gold": g, "predicted": g} for m in ("unsteered", "steered") for g in gold
    ]
    store(folder, "predictions", answers)
    return folder


def write_ratings(folder: Path, scales=("valence", "arousal", "goal_support"), corpus="rated", known=True) -> Path:
    """What the stage `ratings` adds to a run that was made by hand."""
    record = json.loads((folder / "run.json").read_text())
    labels, layers = record["config"]["labels"], record["model"]["n_layers"]
    mine = {"name": "mine", "split": "test"}
    record["config"]["corpora"] = {"discover": mine, "fit": mine, "test": [mine], "ratings": [{**mine, "name": corpus}]}
    (folder / "run.json").write_text(json.dumps(record))
    spread = {"value": 0.3, "ci_low": 0.1, "ci_high": 0.5, "n": 80}
    of = [{"corpus": corpus, "rating": scale} for scale in scales]
    store(folder, "ratings", [r | spread | {"layer": 1, "known": known, "q": 0.01, "n_groups": 40} for r in of])
    probes = [
        r | spread | {"layer": k, "method": m} for r in of for k in range(layers) for m in ("residuals", "features")
    ]
    probes += [r | spread | {"layer": k, "method": "shuffled", "value": 0.0} for r in of for k in range(layers)]
    probes += [r | spread | {"layer": None, "method": m} for r in of for m in ("length", "words", "lexicon", "emotion")]
    store(folder, "rating_probes", probes)
    pairs = [r | {"emotion": label} for r in of for label in labels]
    effect = {"effect": 0.2, "ci_low": 0.1, "ci_high": 0.3, "n": 80}
    human = {"human": 0.4, "human_low": 0.2, "human_high": 0.6, "human_n": 9}
    methods = ("features", "control features", "direction", "random direction")
    store(folder, "rating_effects", [p | {"method": m} | effect | human for p in pairs for m in methods])
    share = {"n_pairs": 6, "agreement": 1.0, "ci_low": 0.8, "ci_high": 1.0, "expected": 0.5, "p": 0.01, "n": 80}
    store(folder, "rating_agreement", [{"corpus": corpus, "method": m} | share for m in methods] if known else [])
    doses = [
        p | {"method": m, "dose": d} | effect for p in pairs for m in ("features", "direction") for d in (-1.0, 1.0)
    ]
    store(folder, "rating_doses", doses)
    norms = {"difference": 0.5, "difference_low": 0.2, "difference_high": 0.8, "told_by": "word", "n": 9}
    store(folder, "rating_norms", [p | norms | {"correlation": 0.4, "ci_low": 0.2, "ci_high": 0.6} for p in pairs])
    placed = [p | spread | {"layer": 1, "feature": f} for p in pairs for f in (None, 7)]
    store(folder, "rating_positions", placed)
    return folder
