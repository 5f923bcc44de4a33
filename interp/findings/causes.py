"""What the causal features of a run say: how many, how strong, how concentrated, whose place they take."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from statsmodels.stats.proportion import proportion_confint

from interp.evaluation.statistics import Estimate, from_draws
from interp.findings.claims import (
    FEW,
    SPURIOUS,
    Finding,
    Verdict,
    above,
    below,
    foremost,
    probable,
)
from interp.findings.reading import Run

Array = np.ndarray
TOP = (1, 5, 10)
STRONGEST = 5
TOGETHER = 32
"""Features of an emotion that are looked at for firing elsewhere, at most; as many as are removed together."""
EFFECTS = "effects_by_example.parquet, examples.parquet"
NOTHING = Estimate(np.nan, np.nan, np.nan, 0)


@dataclass(frozen=True)
class Concentration:
    """How an emotion's summed effect is spread over its causal features, with all examples and in resamples.

    Attributes:
        draws: by name, resamples of `effective`, `strongest` and `summed`, shifted to have the value as their mean: a
            resample's own noise makes any spread look more concentrated.
    """

    effective: Estimate
    strongest: Estimate
    summed: Estimate
    top: dict[int, Estimate]
    draws: dict[str, Float[Array, " resample"]]


@dataclass(frozen=True)
class EmotionFindings:
    """One emotion in one run; numbers that a run does not hold are NaN.

    Attributes:
        n: examples on which effects were measured.
        recall: share of the discover examples answered rightly.
        n_causal, n_traced: causal features, and candidates that were traced.
        spread: concentration of the causal features' effects.
        most_diffuse, weakest: probability over resamples.
        taken_for: the wrong answer most often given, and its share of the emotion's examples.
        fires_elsewhere: share of its causal features that is active on texts of other emotions.
    """

    emotion: str
    n: int
    recall: Estimate
    n_causal: int
    n_traced: int
    spread: Concentration
    most_diffuse: float
    weakest: float
    taken_for: str
    taken_for_share: Estimate
    fires_elsewhere: Estimate


def concentrated(
    effects: Float[Array, "example feature"], weights: Float[Array, "resample example"] | None
) -> Concentration:
    """Effective number (sum of effects squared over sum of their squares), top shares, strength and sum.

    Effects below zero, which a causal feature may have in a resample, count 0. Intervals are conditional on which
    features were found causal.

    Args:
        weights: bootstrap weights; None: no intervals.
    """
    n, n_features = effects.shape
    if not n or not n_features:
        zero = Estimate(0.0, 0.0, 0.0, n) if n else NOTHING
        length = 1 if weights is None else len(weights)
        flat = np.zeros(length) if n and weights is not None else np.full(length, np.nan)
        draws = {"effective": np.full(length, np.nan), "strongest": flat, "summed": flat}
        return Concentration(NOTHING._replace(n=n), zero, zero, dict.fromkeys(TOP, NOTHING._replace(n=n)), draws)
    means = effects.mean(0, keepdims=True)
    if weights is not None:
        means = np.vstack([means, weights @ effects / np.maximum(weights.sum(1, keepdims=True), 1e-12)])
    ordered = -np.sort(-np.maximum(means, 0.0), axis=1)
    total = np.maximum(ordered.sum(1), 1e-12)
    stats = {
        "effective": total**2 / np.maximum(np.square(ordered).sum(1), 1e-24),
        "strongest": ordered[:, :STRONGEST].sum(1) / STRONGEST,
        "summed": total,
        **{f"top {k}": ordered[:, :k].sum(1) / total for k in TOP},
    }
    shifted = {name: (s[1:] - s[1:].mean() + s[0] if weights is not None else s[1:]) for name, s in stats.items()}
    found = {name: _estimate(float(stats[name][0]), draws, n) for name, draws in shifted.items()}
    top = {k: _at_most_one(found[f"top {k}"]) for k in TOP}
    kept = {name: shifted[name] if len(shifted[name]) else np.full(1, np.nan) for name in shifted}
    return Concentration(found["effective"], found["strongest"], found["summed"], top, kept)


def _estimate(value: float, draws: Float[Array, " resample"], n: int) -> Estimate:
    return from_draws(value, draws, n) if len(draws) else Estimate(value, np.nan, np.nan, n)


def _at_most_one(e: Estimate) -> Estimate:
    return Estimate(e.value, float(np.clip(e.low, 0, 1)), float(np.clip(e.high, 0, 1)), e.n)


def emotion_findings(run: Run) -> list[EmotionFindings]:
    """One entry per label; empty where the run has not been traced."""
    effects, examples = run.table("effects"), run.table("examples")
    if effects is None or examples is None:
        return []
    found = effects[effects["split"] == "discover"]
    causal = found[found["causal"].astype(bool)]
    spreads = [_spread(run, causal, label) for label in run.labels]
    diffuse = _probabilities(spreads, "effective", sign=1)
    weakest = _probabilities(spreads, "strongest", sign=-1)
    elsewhere = fires_elsewhere(run, causal)
    out = []
    for i, label in enumerate(run.labels):
        own = found[found["emotion"] == label]
        recall, taken_for, share = _answers(run, label)
        out.append(
            EmotionFindings(
                emotion=label,
                n=int(own["n"].max()) if len(own) else 0,
                recall=recall,
                n_causal=int(own["causal"].sum()),
                n_traced=int((~own["control"].astype(bool)).sum()),
                spread=spreads[i],
                most_diffuse=diffuse[i],
                weakest=weakest[i],
                taken_for=taken_for,
                taken_for_share=share,
                fires_elsewhere=_estimate(float(elsewhere[0, i]), elsewhere[1:, i], len(run.rows("discover")))
                if np.isfinite(elsewhere[:, i]).all()
                else NOTHING,
            )
        )
    return out


def _spread(run: Run, causal: pd.DataFrame, label: str) -> Concentration:
    """Concentration of an emotion's causal features, with intervals where effects by example were kept."""
    own = causal[causal["emotion"] == label]
    detail = run.table("effects_by_example")
    members = run.traced[run.gold(run.traced) == run.labels.index(label)]
    if detail is None or not len(members):
        known = own["effect"].to_numpy(dtype=float)[None]
        if not len(own) and not len(members):
            return concentrated(np.zeros((0, 0)), None)
        found = concentrated(known, None)
        n = int(own["n"].max()) if len(own) else len(members)
        same = {"effective": found.effective, "strongest": found.strongest, "summed": found.summed}
        same = {name: e._replace(n=n) for name, e in same.items()}
        return Concentration(**same, top={k: e._replace(n=n) for k, e in found.top.items()}, draws=found.draws)
    part = detail[detail["emotion"] == label]
    place = {row: i for i, row in enumerate(members.tolist())}
    column = {key: j for j, key in enumerate(zip(own["layer"], own["feature"], strict=True))}
    matrix = np.zeros((len(members), len(column)))
    for row, layer, feature, effect in part[["row", "layer", "feature", "effect"]].itertuples(index=False):
        if row in place and (layer, feature) in column:
            matrix[place[row], column[layer, feature]] = effect
    return concentrated(matrix, run.weights(members, f"concentration {label}"))


def _probabilities(spreads: list[Concentration], name: str, *, sign: int) -> list[float]:
    """Per emotion, the probability that its value is the highest (sign 1) or lowest (-1); NaN where it is not known."""
    length = max(len(s.draws[name]) for s in spreads)
    known = [len(s.draws[name]) == length and bool(np.isfinite(s.draws[name]).all()) for s in spreads]
    if sum(known) < 2 or length < 2:
        return [np.nan] * len(spreads)
    table = np.stack([s.draws[name] if k else np.full(length, np.nan) for s, k in zip(spreads, known, strict=True)], 1)
    return [foremost(sign * table, i) if known[i] else np.nan for i in range(len(spreads))]


def _answers(run: Run, label: str) -> tuple[Estimate, str, Estimate]:
    """Recall on the discover examples, the wrong answer given most often, and its share."""
    rows = run.rows("discover")
    members = rows[run.gold(rows) == run.labels.index(label)]
    if not len(members):
        return NOTHING, "", NOTHING
    shares = _answer_shares(run, members)
    recall = _estimate(float(shares[0, run.labels.index(label)]), shares[1:, run.labels.index(label)], len(members))
    shares[:, run.labels.index(label)] = -1.0
    first = int(np.argmax(shares[0]))
    if shares[0, first] <= 0:
        return recall, "", NOTHING
    return recall, run.labels[first], _estimate(float(shares[0, first]), shares[1:, first], len(members))


def _answer_shares(run: Run, members: Array) -> Float[Array, "draw answer"]:
    """Share of each answer among some examples; first row: with all of them."""
    examples = run.table("examples")
    assert examples is not None
    predicted = examples["predicted"].iloc[members].to_numpy()
    given = np.stack([predicted == label for label in run.labels], 1).astype(float)
    weights = run.weights(members, "answers")
    return np.vstack([given.mean(0), weights @ given / weights.sum(1, keepdims=True)])


def fires_elsewhere(run: Run, causal: pd.DataFrame) -> Float[Array, "draw emotion"]:
    """Share of each emotion's causal features active on texts of the others, each of them counting alike.

    Features that are causal for the text's own emotion too are left out. First row: with all examples; NaN where an
    emotion has no causal feature or the run has no features.
    """
    rows = run.rows("discover")
    gold, resamples = run.gold(rows), int(run.config.get("resamples", 1000))
    out = np.full((1 + resamples, len(run.labels)), np.nan)
    layers = set(run.layers)
    strongest = causal[causal["layer"].isin(layers)].sort_values("effect", ascending=False, kind="stable")
    keys = [
        list(zip(own["layer"], own["feature"], strict=True))
        for label in run.labels
        for own in (strongest[strongest["emotion"] == label].head(TOGETHER),)
    ]
    wanted = sorted(set().union(*map(set, keys)))
    active: dict[tuple[int, int], Array] = {}
    for layer in sorted({k[0] for k in wanted}):
        features = [f for k, f in wanted if k == layer]
        part = run.features(layer)[rows][:, features].toarray() > 0
        active |= {(layer, f): part[:, j] for j, f in enumerate(features)}
    texts = [np.flatnonzero(gold == g) for g in range(len(run.labels))]
    weights = {
        g: np.vstack([np.ones(len(members)), run.weights(rows[members], f"fires {run.labels[g]}")])
        for g, members in enumerate(texts)
        if len(members)
    }
    for e in range(len(run.labels)):
        shares = []
        for g, w in weights.items():
            chosen = [k for k in keys[e] if k not in set(keys[g])] if g != e else []
            if chosen:
                value = np.stack([active[k][texts[g]] for k in chosen], 1).mean(1)
                shares.append(w @ value / w.sum(1))
        if shares:
            out[:, e] = np.mean(shares, 0)
    return out


def cause_findings(run: Run, emotions: list[EmotionFindings]) -> list[Finding]:
    """Findings about claims on features; claims that the run's files say nothing about are left out."""
    by_name = {e.emotion: e for e in emotions}
    found = [_kinds(run), _few(run, emotions), _strong(run), _unequal(emotions)]
    found += [_disgust_weak(by_name), _disgust_diffuse(by_name)]
    found += [_concentrated(by_name, "surprise"), _concentrated(by_name, "fear")]
    found += [_overshadowed_answers(run), _overshadowed_effects(run), _fires_with(run)]
    return [f for f in found if f is not None]


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
    inside, outside = SPURIOUS < e.low and e.high < 1 - SPURIOUS, e.high < SPURIOUS or e.low > 1 - SPURIOUS
    verdict: Verdict = "yes" if inside else "no" if outside else "undecided"
    return Finding("shared_and_specific", "", shown, *e, "features", verdict, "selectivity.parquet")


def _share(count: int, n: int) -> Estimate:
    """A share with Wilson's interval."""
    low, high = proportion_confint(count, n, method="wilson")
    return Estimate(count / n, float(low), float(high), n)


def _few(run: Run, emotions: list[EmotionFindings]) -> Finding | None:
    effects = run.table("effects")
    if effects is None or not run.layers:
        return None
    found = effects[effects["split"] == "discover"]
    distinct = len(found[found["causal"].astype(bool)].drop_duplicates(["layer", "feature"]))
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
    return Finding("unequal", "", shown, gap, np.nan, np.nan, n, "texts", verdict, EFFECTS)


def _disgust_weak(emotions: dict[str, EmotionFindings]) -> Finding | None:
    own = emotions.get("disgust")
    if own is None or not own.n:
        return None
    e = own.spread.strongest
    others = [x.spread.strongest.value for x in emotions.values() if x.emotion != "disgust" and x.n]
    shown = f"{e.value:.2f} nats{_beside(others)}{_chance('weakest', own.weakest)}"
    return Finding("disgust_weak", "", shown, *e, "texts", _verdict(own.weakest), EFFECTS)


def _disgust_diffuse(emotions: dict[str, EmotionFindings]) -> Finding | None:
    own = emotions.get("disgust")
    if own is None or not own.n_causal:
        return None
    e = own.spread.effective
    others = [x.spread.effective.value for x in emotions.values() if x.emotion != "disgust" and x.n_causal]
    shown = f"effective number {e.value:.1f}{_beside(others)}{_chance('most diffuse', own.most_diffuse)}"
    return Finding("disgust_diffuse", "", shown, *e, "texts", _verdict(own.most_diffuse), EFFECTS)


def _beside(others: list[float]) -> str:
    known = [v for v in others if np.isfinite(v)]
    return f" (others {min(known):.2f} to {max(known):.2f})" if known else ""


def _chance(word: str, share: float) -> str:
    return f"; {word} with probability {share:.2f}" if np.isfinite(share) else ""


def _verdict(share: float) -> Verdict:
    return probable(share) if np.isfinite(share) else "undecided"


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
    return Finding(f"{label}_concentrated", "", shown, *e, "texts", below(e, 1.0), EFFECTS)


def _overshadowed_answers(run: Run) -> Finding | None:
    rows = run.rows("discover")
    if not {"disgust", "anger"} <= set(run.labels) or not len(rows):
        return None
    own, rival = run.labels.index("disgust"), run.labels.index("anger")
    members = rows[run.gold(rows) == own]
    if not len(members):
        return None
    shares = _answer_shares(run, members)
    e = _estimate(float(shares[0, rival]), shares[1:, rival], len(members))
    shares[:, own] = np.nan
    others = {i: shares[0, i] for i in range(len(run.labels)) if i not in (own, rival)}
    beside = max(others, key=lambda i: others[i]) if others else None
    chance = foremost(shares[1:], rival) if others else np.nan
    next_one = f" ({run.labels[beside]} {others[beside]:.2f})" if beside is not None else ""
    shown = f"anger in {e.value:.2f} of its texts{next_one}{_chance('first', chance)}"
    return Finding("overshadowed_answers", "", shown, *e, "texts", _verdict(chance), "examples.parquet")


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


def _fires_with(run: Run) -> Finding | None:
    effects = run.table("effects")
    if effects is None or "surprise" not in run.labels:
        return None
    causal = effects[(effects["split"] == "discover") & effects["causal"].astype(bool)]
    shares = fires_elsewhere(run, causal)
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
