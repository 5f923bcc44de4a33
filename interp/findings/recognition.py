"""What the test texts of a run say: recognition, what steering adds to it, and what it costs in language."""

from pathlib import Path

import numpy as np
import pandas as pd

from interp.findings.claims import KEPT, Finding, Verdict, above
from interp.findings.concentration import NOTHING
from interp.findings.reading import Run
from interp.run.reading import PLAIN, score_of
from interp.statistics import Estimate, confusion_draws, from_draws, macro_f1

Array = np.ndarray
CHOSEN = "steered"
WAYS = (CHOSEN, "coupled", "targeted", "global")
"""What was chosen, readers coupled to writers, and the paper's two ways of steering at their best setting."""
RANDOM = "random_features"
PROMISED = 5
"""Labelled examples of each emotion with which the paper steers."""
SOURCE = "evaluation.parquet"


def recognition_findings(run: Run) -> list[Finding]:
    """Findings about claims on recognition and steering, by test corpus; empty where nothing was evaluated."""
    scores = run.table("evaluation")
    if scores is None:
        return []
    found: list[Finding] = []
    for corpus in dict.fromkeys(scores.loc[scores["corpus"] != PLAIN, "corpus"]):
        own = scores[scores["corpus"] == corpus]
        found += _plain(own, str(corpus)) + _gains(run, own, str(corpus))
        found += [f for f in (_beyond_random(run, str(corpus)), _few_labels(run, str(corpus))) if f is not None]
    return found + _language(run, scores)


def chosen_method(run: Run) -> str:
    """Name and setting of the steering that was chosen on the fit split."""
    facts = run.json("steering")
    if facts is None:
        return "unknown"
    return "none" if facts["method"] == "none" else f"{facts['method']}, {facts.get('setting', '')}".rstrip(", ")


def _plain(scores: pd.DataFrame, corpus: str) -> list[Finding]:
    found = []
    for metric in ("accuracy", "macro_f1"):
        e = score_of(scores, "unsteered", metric)
        if e is not None:
            found.append(Finding(metric, corpus, f"{e.value:.3f}", *e, "texts", "no claim", SOURCE))
    return found


def _gains(run: Run, scores: pd.DataFrame, corpus: str) -> list[Finding]:
    claim = "gain" if corpus == run.config["corpora"].get("fit", {}).get("name", run.corpus) else "generalises"
    found = []
    for way in WAYS:
        gain, before = score_of(scores, way, "macro_f1_gain"), score_of(scores, "unsteered", "macro_f1")
        if gain is None:
            continue
        name = f"chosen: {chosen_method(run)}" if way == CHOSEN else way
        if way == CHOSEN and chosen_method(run) == "none":
            shown = "none was chosen: on the fit texts nothing helped beyond doubt"
            found.append(Finding(claim, f"{corpus}; {name}", shown, *NOTHING, "texts", "undecided", "steering.json"))
            continue
        shown = f"{100 * gain.value:+.1f} points" + (f" from {100 * before.value:.1f}" if before else "")
        found.append(Finding(claim, f"{corpus}; {name}", shown, *gain, "texts", above(gain, 0.0), SOURCE))
    return found


def _beyond_random(run: Run, corpus: str) -> Finding | None:
    """The chosen steering's gain minus that of random features, resampled together."""
    answers, examples = run.table("predictions"), run.table("examples")
    if answers is None or examples is None or chosen_method(run) == "none":
        return None
    own = answers[(answers["corpus"] == corpus) & answers["gold"].isin(run.labels)]
    methods = dict(iter(own.groupby("method", sort=False)))
    rows = run.rows("test")
    rows = rows[(examples["corpus"].iloc[rows] == corpus).to_numpy()]
    if not {"unsteered", CHOSEN, RANDOM} <= set(methods) or any(
        len(methods[m]) != len(rows) for m in ("unsteered", CHOSEN, RANDOM)
    ):
        return None
    number = {label: i for i, label in enumerate(run.labels)}
    gold, guesses = run.gold(rows), {m: methods[m]["predicted"].map(number).to_numpy(dtype=int) for m in methods}
    weights = np.vstack([np.ones((1, len(rows)), np.float32), run.weights(rows, f"beyond random {corpus}")])
    scored = {
        m: macro_f1(confusion_draws(gold, guesses[m], len(run.labels), weights)) for m in ("unsteered", CHOSEN, RANDOM)
    }
    difference = scored[CHOSEN] - scored[RANDOM]
    e = from_draws(float(difference[0]), difference[1:], len(rows))
    gain, other = (float((scored[m] - scored["unsteered"])[0]) for m in (CHOSEN, RANDOM))
    share = f", {other / gain:.0%} of the gain" if gain > 0 and other > 0 else ""
    shown = f"{100 * e.value:+.1f} points more; random features gain {100 * other:+.1f}{share}"
    return Finding("beyond_random", corpus, shown, *e, "texts", above(e, 0.0), "predictions.parquet, examples.parquet")


def _few_labels(run: Run, corpus: str) -> Finding | None:
    """The steering method that needs fewest labelled examples."""
    learning = run.table("learning")
    if learning is None or "labels" not in learning:
        return None
    own = learning[(learning["corpus"] == corpus) & (learning["method"] == "coupled")].set_index("labels")
    if PROMISED not in own.index:
        return None
    row = own.loc[PROMISED]
    e = Estimate.of(row)
    shown = f"coupled, {PROMISED} labels an emotion, {int(row['draws'])} draws: {100 * e.value:+.1f} points"
    if pd.notna(row["over_bias"]):
        low, high = 100 * row["over_bias_low"], 100 * row["over_bias_high"]
        shown += f"; over a bias on the answers {100 * row['over_bias']:+.1f} [{low:.1f}, {high:.1f}]"
    return Finding("few_labels", corpus, shown, *e, "texts", above(e, 0.0), "learning.parquet")


def _language(run: Run, scores: pd.DataFrame) -> list[Finding]:
    path = run.config.get("fluency", {}).get("path")
    text = Path(path).name if path else "bundled text"
    found = []
    for way in WAYS:
        e = score_of(scores[scores["corpus"] == PLAIN], way, "perplexity_ratio")
        if e is not None and not (way == CHOSEN and chosen_method(run) == "none"):
            name = f"chosen: {chosen_method(run)}" if way == CHOSEN else way
            verdict: Verdict = "yes" if e.high <= KEPT else "no" if e.low > KEPT else "undecided"
            found.append(Finding("language", f"{text}; {name}", f"{e.value:.3f}", *e, "tokens", verdict, SOURCE))
    return found
