"""Run folders made by hand: what a run leaves, without a model."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from interp.analysis.effects import concentration


def write_causes(folder: Path, causal: tuple[str, ...], labels: tuple[str, ...]) -> None:
    """What the stages after tracing leave; emotions without a causal feature have no rows."""
    interval = {"effect": 0.4, "ci_low": 0.2, "ci_high": 0.6, "n": 10}
    tables = {
        "joint": [
            {"emotion": a, "phase": "all", "k": k, "control": c, **interval}
            for a in causal
            for k in (1, 2)
            for c in (False, True)
        ],
        "overshadowing": [{"emotion": a, "answer": b, "moved": 0.1, **interval} for a in causal for b in labels],
        "insertion": [
            {"emotion": a, "target": b, "control": c, "n_answered_otherwise": 9, "follows": 0.5, **interval}
            for a in causal
            for b in (*labels, "neutral")
            for c in (False, True)
            if a != b
        ],
        "baselines": [{"layer": k, "method": "mlp, zero", "emotion": a, **interval} for a in labels for k in (0, 1)],
    }
    columns = ["emotion", "phase", "k", "control", "answer", "target", "follows", "moved", *interval]
    for name, lines in tables.items():
        pd.DataFrame(lines, columns=None if lines else columns).to_parquet(folder / f"{name}.parquet")
    none = dict.fromkeys(("taken_for", "overshadowed_by", "fires_with"))
    counts = {"n": 10, "n_traced": 10, "n_causal": 2 if causal else 0, "n_selective": 3}
    measured = (
        "recall taken_for_share effective_number share_top_1 share_top_5 share_top_10 summed_effect removed_together"
        " controls_removed_together answers_moved follows_in_neutral follows_in_others follows_in_others_control"
        " fires_with_share lexical"
    )
    shares = dict.fromkeys(measured.split(), 0.5 if causal else np.nan)
    pd.DataFrame([{"emotion": a, **none, **counts, **shares} for a in labels]).to_parquet(folder / "why.parquet")


def write_features(folder: Path, labels: tuple[str, ...], layers: int, traced: int, text: str) -> None:
    """Selective features, and a card for each of the first two traced features."""
    lines = [
        {"layer": k, "feature": f, "emotion": a, "auroc": 0.8, "q": 0.01, "lexical": bool(f % 2), "n": 10}
        | {"kind": "shared" if f % 3 == 0 else "specific", "mean_difference": 1.0, "p": 0.001}
        for k in range(layers)
        for f in range(traced)
        for i, a in enumerate(labels)
        if f % 3 == 0 or f % len(labels) == i
    ]
    pd.DataFrame(lines).to_parquet(folder / "selectivity.parquet")
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
    (folder / "cards.json").write_text(json.dumps(cards))


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
    pd.DataFrame(
        {
            "role": "test",
            "corpus": corpus,
            "split": "test",
            "gold": gold,
            "predicted": gold[::-1],
            "cut": 0,
            "text": text,
        }
    ).to_parquet(folder / "examples.parquet")
    signals = ["probe_residuals", "probe_features", "probe_shuffled", "selective_features", "joint_ablation"]
    signals += ["direct_evidence", "format_share", "content_overlap", "fvu", "l0"]
    lines = [
        {"layer": k, "signal": s, "value": v, "ci_low": v - 0.1, "ci_high": v + 0.1, "n": 20}
        for k in range(layers)
        for s in signals
        for v in (rng.random(),)
    ]
    pd.DataFrame(lines).to_parquet(folder / "signals.parquet")
    spans = [{"phase": 1, "first": 0, "last": layers - 1}]
    phases = {"n_phases": 1, "phases": spans, "boundaries": [], "intervals": [], "verdict": "1 phase fits best."}
    (folder / "phases.json").write_text(json.dumps(phases))
    effects = pd.DataFrame(
        [
            {
                "layer": k % layers,
                "phase": 1,
                "feature": k,
                "emotion": label,
                "split": "discover",
                "n": 10,
                "n_active": 5,
                "effect": 1.0 / (k + 1),
                "ci_low": 0.01,
                "ci_high": 1.0,
                "flip_rate": 0.1,
                "attribution": 0.1,
                "control": k > traced - 3,
                "causal": causal and k < 2,
            }
            for label in labels
            for k in range(traced)
        ]
    )
    effects.to_parquet(folder / "effects.parquet")
    concentration(effects, list(labels)).to_parquet(folder / "concentration.parquet")
    write_causes(folder, labels if causal else (), labels)
    write_features(folder, labels, layers, traced, text)
    facts = {"method": "amplify" if causal else "none", "setting": "gain 2", "reason": "Nothing to steer."}
    (folder / "steering.json").write_text(json.dumps(facts))
    metrics = ["accuracy", "macro_f1", "macro_f1_gain", *(f"recall_{x}" for x in labels)]
    metrics += [f"recall_gain_{x}" for x in labels]
    lines = [
        {
            "corpus": corpus,
            "split": "test",
            "method": m,
            "metric": k,
            "value": 0.5,
            "ci_low": 0.4,
            "ci_high": 0.6,
            "n": examples,
        }
        for m in ("unsteered", "steered")
        for k in metrics
        if not (m == "unsteered" and "gain" in k)
    ]
    lines += [
        {
            "corpus": "plain text",
            "split": "all",
            "method": "steered",
            "metric": k,
            "value": 1,
            "ci_low": 1,
            "ci_high": 1,
            "n": 9,
        }
        for k in ("perplexity_ratio", "kl")
    ]
    pd.DataFrame(lines).to_parquet(folder / "evaluation.parquet")
    values = {"value": 0.1, "ci_low": 0.0, "ci_high": 0.2, "n": examples}
    strengths = [{"method": "steered", "strength": s, "changed": 0.1, **values} for s in (0.5, 1.0, 2.0)]
    dose = [{"corpus": corpus, **s} for s in strengths]
    dose += [{"corpus": "plain text", **s, "method": "perplexity_ratio"} for s in strengths]
    pd.DataFrame(dose).to_parquet(folder / "dose.parquet")
    side = [{"method": m, "metric": "cloze_accuracy", **values} for m in ("unsteered", "steered")]
    pd.DataFrame(side).to_parquet(folder / "side_effects.parquet")
    answers = [
        {"corpus": corpus, "method": m, "gold": g, "predicted": g} for m in ("unsteered", "steered") for g in gold
    ]
    pd.DataFrame(answers).to_parquet(folder / "predictions.parquet")
    return folder
