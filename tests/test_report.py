"""The report of finished, unfinished, odd and hostile runs."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from interp.report import write_report
from interp.stages.trace import concentration


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


def make_run(folder: Path, labels=("anger", "fear"), layers=4, causal=True, name="demo", corpus="mine") -> Path:
    """The files that a run leaves, made by hand."""
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
    gold = np.resize(labels, 20)
    pd.DataFrame(
        {
            "role": "test",
            "corpus": corpus,
            "split": "test",
            "gold": gold,
            "predicted": gold[::-1],
            "cut": 0,
            "text": "t",
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
                "effect": 0.1 * (k + 1),
                "ci_low": 0.01,
                "ci_high": 1.0,
                "flip_rate": 0.1,
                "attribution": 0.1,
                "control": k > 2,
                "causal": causal and k < 2,
            }
            for label in labels
            for k in range(5)
        ]
    )
    effects.to_parquet(folder / "effects.parquet")
    concentration(effects, list(labels)).to_parquet(folder / "concentration.parquet")
    write_causes(folder, labels if causal else (), labels)
    facts = {"method": "amplify" if causal else "none", "setting": "gain 2", "reason": "Nothing to steer."}
    (folder / "steering.json").write_text(json.dumps(facts))
    metrics = ["accuracy", "macro_f1", "macro_f1_gain", *(f"recall_{x}" for x in labels)]
    lines = [
        {
            "corpus": corpus,
            "split": "test",
            "method": m,
            "metric": k,
            "value": 0.5,
            "ci_low": 0.4,
            "ci_high": 0.6,
            "n": 20,
        }
        for m in ("unsteered", "steered")
        for k in metrics
        if not (m == "unsteered" and k == "macro_f1_gain")
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
    answers = [
        {"corpus": corpus, "method": m, "gold": g, "predicted": g} for m in ("unsteered", "steered") for g in gold
    ]
    pd.DataFrame(answers).to_parquet(folder / "predictions.parquet")
    return folder


def page_of(folder: Path) -> str:
    """The page without plotly's own source."""
    text = write_report(folder).read_text(encoding="utf-8")
    return re.sub(r"<script>/\*\*.*?</script>", "", text, flags=re.DOTALL)


def test_the_page_is_whole_and_needs_no_network(tmp_path):
    page = page_of(make_run(tmp_path))
    for title in ("layer-phases", "effects", "concentration", "joint", "together", "baselines", "confusion-mine"):
        assert f'id="figure-{title}"' in page
    assert "Causal features per emotion: anger 2, fear 2." in page
    assert "macro-F1 on test: mine +0.500 [+0.400, +0.600], n = 20" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]+(src|href)=", page)
    assert "stopped early" not in page and not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_every_figure_says_its_n(tmp_path):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page_of(make_run(tmp_path)), re.DOTALL)
    assert len(captions) == 8 and all(re.search(r"n = \d+", c) for c in captions)


def test_the_same_files_give_the_same_bytes(tmp_path):
    first = write_report(make_run(tmp_path)).read_bytes()
    assert write_report(tmp_path).read_bytes() == first


@pytest.mark.parametrize("gone", ["effects", "evaluation", "signals", "concentration", "predictions"])
def test_a_run_that_stopped_early_shows_what_there_is(tmp_path, gone):
    (make_run(tmp_path) / f"{gone}.parquet").unlink()
    page = page_of(tmp_path)
    assert (gone == "predictions") or (f"{gone}.parquet" in page and "stopped early" in page)
    assert "How to reproduce" in page


def test_a_run_with_one_layer_one_label_and_no_causal_feature(tmp_path):
    page = page_of(make_run(tmp_path, labels=("envy",), layers=1, causal=False))
    assert "no causal feature was found" in page and "Steering: none. Nothing to steer." in page
    assert 'id="figure-concentration"' not in page and not re.search(r"\bnan\b", page, re.IGNORECASE)


def test_names_are_escaped(tmp_path):
    page = page_of(make_run(tmp_path, name="<script>alert(1)</script>", corpus="<b>bold</b>"))
    assert "<script>alert(1)" not in page and "&lt;script&gt;alert(1)" in page
    assert "<td><b>bold" not in page
