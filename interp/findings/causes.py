"""What the causal features of a run say: how many, how strong, how concentrated, whose place they take."""

import numpy as np
from jaxtyping import Float
from statsmodels.stats.proportion import proportion_confint

from interp.findings.claims import (
    FEW,
    SPURIOUS,
    Finding,
    Order,
    Verdict,
    above,
    below,
    order_of,
)
from interp.findings.concentration import NOTHING, Concentration, estimate
from interp.findings.emotions import EmotionFindings, answer_shares
from interp.findings.reading import Run
from interp.statistics import Estimate, from_draws

Array = np.ndarray


def cause_findings(run: Run, emotions: list[EmotionFindings], elsewhere: Float[Array, "draw emotion"]) -> list[Finding]:
    """Findings about claims on features; claims that the run's files say nothing about are left out."""
    by_name = {e.emotion: e for e in emotions}
    found = [_kinds(run), _few(run, emotions), _strong(run), _unequal(emotions)]
    found += [_disgust_weak(by_name), _disgust_diffuse(by_name)]
    found += [_concentrated(by_name, "surprise"), _concentrated(by_name, "fear")]
    found += [_overshadowed_answers(run), _overshadowed_effects(run), _fires_with(run, elsewhere)]
    return [f for f in found if f is not None]


def _source(*spreads: Concentration) -> str:
    """The table that effects came from: means alone, or every example."""
    known = all(np.isfinite(s.summed.low) for s in spreads)
    return "effects_by_example.parquet, examples.parquet" if known else "effects.parquet"


def _kinds(run: Run) -> Finding | None:
    table = run.table("selectivity")
    if table is None:
        return None
    chosen = table[table["kind"] != "none"].drop_duplicates(["layer", "feature"])
    specific, n = int((chosen["kind"] == "specific").sum()), len(chosen)
    shown = f"{specific} specific, {n - specific} shared of {n} selective features"
    if not n:
        return Finding("shared_and_specific", "", shown, *NOTHING, "features", "undecided", "selectivity.parquet")
    e = _share(specific, n)
    inside, outside = e.low > SPURIOUS and e.high < 1 - SPURIOUS, e.high < SPURIOUS or e.low > 1 - SPURIOUS
    verdict: Verdict = "yes" if inside else "no" if outside else "undecided"
    return Finding("shared_and_specific", "", shown, *e, "features", verdict, "selectivity.parquet")


def _share(count: int, n: int) -> Estimate:
    """A share with Wilson's interval."""
    low, high = proportion_confint(count, n, method="wilson")
    return Estimate(count / n, float(low), float(high), n)


def _few(run: Run, emotions: list[EmotionFindings]) -> Finding | None:
    if run.table("effects") is None or not run.layers:
        return None
    distinct = len(run.causal_features().drop_duplicates(["layer", "feature"]))
    e = _share(distinct, sum(run.dictionary(k) for k in run.layers))
    traced = sum(x.n_traced for x in emotions)
    pairs = sum(x.n_causal for x in emotions)
    of_traced = f", {pairs / traced:.0%} of the pairs traced" if traced else ""
    shown = f"{distinct} features ({pairs} pairs with an emotion{of_traced}); {e.value:.3%} of {e.n}"
    verdict = below(e, FEW) if distinct else "undecided"
    return Finding("few", "", shown, *e, "features", verdict, "effects.parquet, features/")


def _strong(run: Run) -> Finding | None:
    joint = run.table("joint")
    if joint is None:
        return None
    whole = joint[joint["phase"].astype(str) == "all"].sort_values("k")
    last = whole.groupby(["emotion", "control"], sort=False).last()
    beyond, values, controls = [], [], []
    for label in run.labels:
        if (label, False) in last.index:
            own = last.loc[(label, False)]
            values.append(own)
            if (label, True) in last.index:
                other = last.loc[(label, True)]
                controls.append(float(other["effect"]))
                beyond.append(bool(own["ci_low"] > other["ci_high"]))
            else:
                beyond.append(bool(own["ci_low"] > 0))
    if not values:
        return None
    effects = [float(v["effect"]) for v in values]
    low, high = min(float(v["ci_low"]) for v in values), max(float(v["ci_high"]) for v in values)
    n = int(sum(int(v["n"]) for v in values))
    beside = f"; controls {min(controls):.2f} to {max(controls):.2f}" if controls else ""
    shown = f"{min(effects):.2f} to {max(effects):.2f} nats by emotion{beside}"
    verdict: Verdict = "yes" if all(beyond) else "undecided" if any(beyond) else "no"
    return Finding("strong", "", shown, float(np.mean(effects)), low, high, n, "texts", verdict, "joint.parquet")


def _unequal(emotions: list[EmotionFindings]) -> Finding | None:
    known = [e for e in emotions if e.n and np.isfinite(e.spread.summed.value)]
    if len(known) < 2 or not any(e.n_causal for e in known):
        return None
    ordered = sorted(known, key=lambda e: e.spread.summed.value)
    least, most = ordered[0], ordered[-1]
    shown = f"{least.emotion} {least.spread.summed.value:.2f} to {most.emotion} {most.spread.summed.value:.2f} nats"
    low = max(e.spread.summed.low for e in known)
    high = min(e.spread.summed.high for e in known)
    verdict: Verdict = "yes" if low > high else "undecided"
    gap = most.spread.summed.value - least.spread.summed.value
    n = sum(e.n for e in known)
    source = _source(*(e.spread for e in known))
    return Finding("unequal", "", shown, gap, np.nan, np.nan, n, "texts", verdict, source)


def _disgust_weak(emotions: dict[str, EmotionFindings]) -> Finding | None:
    own = emotions.get("disgust")
    if own is None or not own.n:
        return None
    e = own.spread.strongest
    others = [x.spread.strongest.value for x in emotions.values() if x.emotion != "disgust" and x.n]
    shown = f"{e.value:.2f} nats{_beside(others)}{_chance('weakest', own.weakest)}"
    return Finding("disgust_weak", "", shown, *e, "texts", own.weakest.verdict, _source(own.spread))


def _disgust_diffuse(emotions: dict[str, EmotionFindings]) -> Finding | None:
    own = emotions.get("disgust")
    if own is None or not own.n_causal:
        return None
    e = own.spread.effective
    others = [x.spread.effective.value for x in emotions.values() if x.emotion != "disgust" and x.n_causal]
    shown = f"effective number {e.value:.1f}{_beside(others)}{_chance('most diffuse', own.most_diffuse)}"
    return Finding("disgust_diffuse", "", shown, *e, "texts", own.most_diffuse.verdict, _source(own.spread))


def _beside(others: list[float]) -> str:
    known = [v for v in others if np.isfinite(v)]
    return f" (others {min(known):.2f} to {max(known):.2f})" if known else ""


def _chance(word: str, order: Order) -> str:
    return f"; {word} with probability {order.probability:.2f}" if np.isfinite(order.probability) else ""


def _concentrated(emotions: dict[str, EmotionFindings], label: str) -> Finding | None:
    """Effective number over the geometric mean of that of the emotions that are neither surprise nor fear."""
    own = emotions.get(label)
    others = [e for e in emotions.values() if e.emotion not in ("surprise", "fear") and e.n_causal]
    if own is None or not own.n_causal or not others:
        return None
    value = own.spread.effective.value / float(np.exp(np.mean([np.log(e.spread.effective.value) for e in others])))
    floor = 1.0  # an effective number is at least 1; the shift of draws may go below
    draws = np.log(np.maximum(own.spread.draws["effective"], floor))
    beside = [np.log(np.maximum(e.spread.draws["effective"], floor)) for e in others]
    e = Estimate(value, np.nan, np.nan, own.n)
    if len(draws) > 1 and np.isfinite(draws).all() and all(np.isfinite(b).all() for b in beside):
        e = from_draws(value, np.exp(draws - np.mean(beside, 0)), own.n)
    top = own.spread.top[1].value
    shown = f"ratio {value:.2f}: effective number {own.spread.effective.value:.1f}, its first feature holds {top:.0%}"
    return Finding(f"{label}_concentrated", "", shown, *e, "texts", below(e, 1.0), _source(own.spread))


def _overshadowed_answers(run: Run) -> Finding | None:
    rows = run.rows("discover")
    if not {"disgust", "anger"} <= set(run.labels) or not len(rows):
        return None
    own, rival = run.labels.index("disgust"), run.labels.index("anger")
    members = rows[run.gold(rows) == own]
    if not len(members):
        return None
    shares = answer_shares(run, members)
    e = estimate(float(shares[0, rival]), shares[1:, rival], len(members))
    shares[:, own] = np.nan  # takes no part in the order
    others = {i: shares[0, i] for i in range(len(run.labels)) if i not in (own, rival)}
    beside = max(others, key=lambda i: others[i]) if others else None
    order = order_of(shares[1:], rival)
    next_one = f" ({run.labels[beside]} {others[beside]:.2f})" if beside is not None else ""
    shown = f"anger in {e.value:.2f} of its texts{next_one}{_chance('first', order)}"
    return Finding("overshadowed_answers", "", shown, *e, "texts", order.verdict, "examples.parquet")


def _overshadowed_effects(run: Run) -> Finding | None:
    moved = run.table("overshadowing")
    if moved is None or not {"disgust", "anger"} <= set(run.labels):
        return None
    own = moved[(moved["emotion"] == "disgust") & (moved["answer"] != "disgust")]
    if not (own["answer"] == "anger").any() or not {"ci_low", "ci_high"} <= set(own):
        return None
    anger, others = own[own["answer"] == "anger"].iloc[0], own[own["answer"] != "anger"]
    e = Estimate(float(anger["effect"]), float(anger["ci_low"]), float(anger["ci_high"]), int(anger.get("n", 0)))
    first = others.sort_values("effect", ascending=False, kind="stable").head(1)
    beside = f" ({first['answer'].iloc[0]} {first['effect'].iloc[0]:+.2f})" if len(first) else ""
    highest = float(others["ci_high"].max()) if len(others) else -np.inf
    verdict: Verdict = "undecided"
    if e.low > max(0.0, highest):
        verdict = "yes"
    elif len(others) and float(others["ci_low"].max()) > e.high:
        verdict = "no"
    shown = f"anger {e.value:+.2f} probability{beside}"
    return Finding("overshadowed_effects", "", shown, *e, "texts", verdict, "overshadowing.parquet")


def _fires_with(run: Run, shares: Float[Array, "draw emotion"]) -> Finding | None:
    if "surprise" not in run.labels:
        return None
    own = run.labels.index("surprise")
    others = [i for i in range(len(run.labels)) if i != own and np.isfinite(shares[:, i]).all()]
    if not np.isfinite(shares[:, own]).all() or not others:
        return None
    difference = shares[:, own] - shares[:, others].mean(1)
    e = from_draws(float(difference[0]), difference[1:], len(run.rows("discover")))
    shown = f"{e.value:+.2f}: surprise {shares[0, own]:.2f}, others {shares[0, others].mean():.2f} on average"
    return Finding(
        "surprise_fires_with", "", shown, *e, "texts", above(e, 0.0), "features/, effects.parquet, examples.parquet"
    )
