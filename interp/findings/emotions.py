"""What a run says about each emotion: how well it is recognised, and what its causal features are like."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.analysis.effect_rows import effects_on
from interp.defaults import RESAMPLES
from interp.findings.claims import Order, order_of
from interp.findings.concentration import NOTHING, Concentration, concentrated, estimate
from interp.findings.reading import Run
from interp.statistics import Estimate

Array = np.ndarray
TOGETHER = 32
"""Features of an emotion that are looked at for firing elsewhere, at most; as many as are removed together."""


@dataclass(frozen=True)
class EmotionFindings:
    """One emotion in one run; numbers that a run does not hold are NaN.

    Attributes:
        n: examples on which effects were measured.
        recall: share of the discover examples answered rightly.
        n_causal, n_traced: causal features, and candidates that were traced.
        spread: concentration of the causal features' effects.
        most_diffuse, weakest: whether it is first, over resamples.
        taken_for: the wrong answer most often given, and its share of the emotion's examples.
        fires_elsewhere: share of its causal features that is active on texts of other emotions.
    """

    emotion: str
    n: int
    recall: Estimate
    n_causal: int
    n_traced: int
    spread: Concentration
    most_diffuse: Order
    weakest: Order
    taken_for: str
    taken_for_share: Estimate
    fires_elsewhere: Estimate


def emotion_findings(run: Run, elsewhere: Float[Array, "draw emotion"]) -> list[EmotionFindings]:
    """One entry per label; empty where the run has not been traced.

    Args:
        elsewhere: what `fires_elsewhere` found.
    """
    effects, examples = run.table("effects"), run.table("examples")
    if effects is None or examples is None:
        return []
    found, causal = effects_on(effects), run.causal_features()
    spreads = [_spread(run, causal, label) for label in run.labels]
    diffuse = _orders(spreads, "effective", sign=1)
    weakest = _orders(spreads, "strongest", sign=-1)
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
                fires_elsewhere=estimate(float(elsewhere[0, i]), elsewhere[1:, i], len(run.rows("discover")))
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


def _orders(spreads: list[Concentration], name: str, *, sign: int) -> list[Order]:
    """Per emotion, whether its value is the highest (sign 1) or lowest (-1)."""
    length = max(len(s.draws[name]) for s in spreads)
    known = (s.draws[name] if len(s.draws[name]) == length else np.full(length, np.nan) for s in spreads)
    table = sign * np.stack(list(known), 1)
    return [order_of(table, i) for i in range(len(spreads))]


def _answers(run: Run, label: str) -> tuple[Estimate, str, Estimate]:
    """Recall on the discover examples, the wrong answer given most often, and its share."""
    rows = run.rows("discover")
    members = rows[run.gold(rows) == run.labels.index(label)]
    if not len(members):
        return NOTHING, "", NOTHING
    shares = answer_shares(run, members)
    recall = estimate(float(shares[0, run.labels.index(label)]), shares[1:, run.labels.index(label)], len(members))
    shares[:, run.labels.index(label)] = -1.0
    first = int(np.argmax(shares[0]))
    if shares[0, first] <= 0:
        return recall, "", NOTHING
    return recall, run.labels[first], estimate(float(shares[0, first]), shares[1:, first], len(members))


def answer_shares(run: Run, members: Array) -> Float[Array, "draw answer"]:
    """Share of each answer among some examples; first row: with all of them."""
    examples = run.table("examples")
    assert examples is not None
    predicted = examples["predicted"].iloc[members].to_numpy()
    given = np.stack([predicted == label for label in run.labels], 1).astype(float)
    weights = run.weights(members, "answers")
    return np.vstack([given.mean(0), weights @ given / weights.sum(1, keepdims=True)])


def fires_elsewhere(run: Run) -> Float[Array, "draw emotion"]:
    """Share of each emotion's causal features active on texts of the others, each of them counting alike.

    Features that are causal for the text's own emotion too are left out. First row: with all examples; NaN where an
    emotion has no causal feature or the run has no features.
    """
    rows, causal = run.rows("discover"), run.causal_features()
    resamples = int(run.config.get("resamples", RESAMPLES))
    out = np.full((1 + resamples, len(run.labels)), np.nan)
    if not len(causal) or not len(rows):
        return out
    gold, layers = run.gold(rows), set(run.layers)
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
