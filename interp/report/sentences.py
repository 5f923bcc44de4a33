"""The answer in three sentences: where, which, and what steering changed, made of the run's numbers."""

from typing import NamedTuple

import pandas as pd

from interp.analysis.effect_rows import candidate_effects
from interp.report.onset import onset
from interp.report.steered import said
from interp.report.words import counted, interval, layer_list, listed, number, percent, share, signed, span
from interp.run.reading import RunFiles

HALF = 0.5
"""Share of resamples below which a number of phases is said to be uncertain."""
MOST_BESIDE = 2
"""Steerings named that helped on test texts though nobody chose them."""


class Sentence(NamedTuple):
    """What was found about one thing, in a sentence or a few."""

    head: str
    words: str

    def __str__(self) -> str:
        return f"{self.head}: {self.words}"


def answer(run: RunFiles) -> list[Sentence]:
    """Three sentences for readers who know neither the paper nor the tool; what is not known yet is left out."""
    found = (("Where", where(run)), ("Which features", _which(run)), ("Steering", _steered(run)))
    return [Sentence(head, words) for head, words in found if words]


def where(run: RunFiles) -> str:
    """From which layer on the emotion is held, where the answer takes it from, and which layers behave alike."""
    return " ".join(s for s in (_held(run), _used(run), _phases(run)) if s)


def _held(run: RunFiles) -> str:
    """From which layer on a probe finds the emotion, and where it does best."""
    signals = run.table("signals")
    if signals is None or not (signals["signal"] == "probe_residuals").any():
        return ""
    own = signals[signals["signal"] == "probe_residuals"].set_index("layer")
    best = own.loc[own["value"].idxmax()]
    shuffled = signals[signals["signal"] == "probe_shuffled"].set_index("layer")
    n_layers = run.record["model"]["n_layers"]
    reads = f"a linear probe there is right on {percent(*_interval(best))} of n = {int(best['n']):,} texts"
    if len(shuffled):
        chance = shuffled["value"].mean()
        if best["ci_low"] <= shuffled["ci_high"].max():
            return f"No layer holds the emotion beyond what shuffled labels give: at best, {reads}."
        reads += f" (cross-validated; {share(chance)} with shuffled labels)"
    place = f"layer {int(best.name)} of 0 to {n_layers - 1}"
    found = onset(run)
    if found is None:
        return f"The residual stream holds the emotion most plainly at {place}: {reads}."
    known = [] if found.low is None or found.high is None else [f"95 % interval {span(found.low, found.high)}"]
    before = [int(k) for k in own.index if k < found.layer]
    if before and max(before) < found.layer - 1:
        known.append(f"the layer measured before it is {max(before)}")
    inside = f" ({'; '.join(known)})" if known else ""
    return (
        f"The residual stream holds the emotion from layer {found.layer} on{inside}, most plainly at {place}: {reads}."
    )


def _used(run: RunFiles) -> str:
    """At which layer the answer depends most on features."""
    signals = run.table("signals")
    if signals is None or not (signals["signal"] == "joint_ablation").any():
        return _used_directions(run)
    own = signals[signals["signal"] == "joint_ablation"].set_index("layer")
    most = own.loc[own["value"].idxmax()]
    if most["ci_low"] <= 0:
        return "At no layer does removing its 16 strongest features lower the right answer beyond doubt."
    loss = interval(*_interval(most), 2)
    return (
        f"The answer leans most on layer {int(most.name)}: without its 16 strongest features the right answer loses"
        f" {loss} nats of log-probability."
    )


def _used_directions(run: RunFiles) -> str:
    """At which layer the answer depends most on the emotions' own directions, where there are no features."""
    table = run.table("baselines")
    if table is None or run.record["saes"]["layers"]:
        return ""
    falls = table[table["method"] == "mean difference direction"].groupby("layer")
    if not len(falls):
        return ""
    layer, mean = max(falls["effect"].mean().items(), key=lambda one: one[1])
    own = falls.get_group(layer)
    # The emotions' texts are different ones, so that the halves of their intervals add as errors do.
    half = float(((own["ci_high"] - own["ci_low"]) ** 2).sum() ** 0.5 / 2 / len(own))
    if mean <= half:
        return "At no layer does taking out an emotion's direction lower the right answer beyond doubt."
    return (
        f"The answer leans most on layer {layer}: without the emotion's direction there (its texts' mean less that of"
        f" the others) the right answer loses {interval(float(mean), mean - half, mean + half, 2)} nats of"
        " log-probability, mean over emotions."
    )


def _phases(run: RunFiles) -> str:
    """The stretches of layers that behave alike."""
    phases = run.json("phases")
    if phases is None:
        return ""
    support = phases.get("support")
    sure = "" if support is None or support >= HALF else "uncertain: only "
    agree = "" if support is None else f"{sure}{share(support)} of resamples agree on their number"
    layers, n_layers = run.record["saes"]["layers"], run.record["model"]["n_layers"]
    gaps = (
        f" SAEs, and so these numbers, are there for {layer_list(layers, n_layers)}."
        if 0 < len(layers) < n_layers
        else ""
    )
    inside = [[k for k in layers if s["first"] <= k <= s["last"]] or [s["first"], s["last"]] for s in phases["phases"]]
    spans = [span(own[0], own[-1]) for own in inside]
    if len(spans) < 2:
        return "All layers measured behave alike: no change from one kind to another is beyond chance." + gaps
    places = zip(phases["boundaries"], phases["intervals"], strict=True)
    begins = "; ".join(f"change at layer {b}, 95 % interval {span(*between)}" for b, between in places)
    said_so = "; ".join(s for s in (begins, agree) if s)
    return f"The layers fall into {len(spans)} phases that each behave alike, {listed(spans)} ({said_so}).{gaps}"


def _which(run: RunFiles) -> str:
    table = run.table("concentration")
    if table is None:
        return ""
    whole = table[table["phase"] == "all"].set_index("emotion")
    if not whole["n_causal"].any():
        return (
            "none was found to be causal: removing a feature lowers the right answer for no emotion beyond random"
            " features."
        )
    counts = listed([f"{label} {int(n)}" for label, n in whole["n_causal"].items()])
    known = whole[whole["n_causal"] > 0].sort_values("effective_number", kind="stable")
    first, last = known.index[0], known.index[-1]
    effective = known["effective_number"]
    spread = (
        f" The cause of {first} is the most concentrated (as if {effective[first]:.1f} features did it all), that of"
        f" {last} the most spread ({effective[last]:.1f})."
        if first != last
        else f" It is as if {effective[first]:.1f} features did it all."
    )
    return (
        f"{_causal_of_traced(run)}that is, the right answer becomes less likely when one is removed, beyond random"
        f" features (by emotion: {counts}).{spread}{_together(run)}"
    )


def _causal_of_traced(run: RunFiles) -> str:
    effects = run.table("effects")
    if effects is None:
        return "features are causal, "
    found = candidate_effects(effects)
    traced = found.drop_duplicates(["layer", "feature"])
    causal = found[found["causal"].astype(bool)].drop_duplicates(["layer", "feature"])
    return f"{len(causal):,} of the {counted(len(traced), 'feature')} traced are causal for an emotion, "


def _together(run: RunFiles) -> str:
    """What the causal features do together."""
    why = run.table("why")
    if why is None or "removed_together" not in why or why["removed_together"].isna().all():
        return ""
    known = why.dropna(subset=["removed_together"]).sort_values("removed_together", kind="stable")
    low, high = known.iloc[0], known.iloc[-1]
    text = f"{number(low['removed_together'])} nats ({low['emotion']})"
    if len(known) > 1:
        text += f" to {number(high['removed_together'])} nats ({high['emotion']})"
    return f" All of an emotion's causal features together are worth {text}."


def _steered(run: RunFiles) -> str:
    steering, table = run.json("steering"), run.table("evaluation")
    if steering is None or table is None:
        return ""
    if steering["method"] == "none":
        return f"none was chosen. {steering['reason']}{_beside(table, run)}"
    gains = table[(table["method"] == "steered") & (table["metric"] == "macro_f1_gain")]
    changes = ", ".join(
        f"{signed(r.value)} [{signed(r.ci_low)}, {signed(r.ci_high)}] on {r.corpus} (n = {r.n:,})"
        for r in gains.itertuples()
    )
    return f"{said(run)} Macro-F1 on test texts changes by {changes}.{_cost(table)}"


def _cost(table: pd.DataFrame) -> str:
    ratio = table[(table["method"] == "steered") & (table["metric"] == "perplexity_ratio")]
    if not len(ratio):
        return ""
    row = ratio.iloc[0]
    return f" Its price: perplexity on plain text times {interval(*_interval(row), 3)} (1: nothing lost)."


def _beside(table: pd.DataFrame, run: RunFiles) -> str:
    """Steerings that helped on test texts beyond doubt though none was chosen, with their price."""
    price = table[table["metric"] == "perplexity_ratio"].drop_duplicates("method").set_index("method")["value"]
    gains = table[table["metric"] == "macro_f1_gain"]
    sure = gains[(gains["ci_low"] > 0) & gains["method"].isin(price.index) & (gains["method"] != "steered")]
    if not len(sure):
        return ""
    budget = run.record["config"].get("steering", {}).get("perplexity_budget")
    allowed = f"; allowed: {budget:g}" if budget else ""
    best = sure.sort_values("value", ascending=False, kind="stable").head(MOST_BESIDE)
    shown = listed(
        [
            f"{str(r.method).replace('_', ' ')} {signed(r.value)} [{signed(r.ci_low)}, {signed(r.ci_high)}] on"
            f" {r.corpus} (perplexity times {price[r.method]:.2f}{allowed})"
            for r in best.itertuples()
        ]
    )
    tried = gains["method"].nunique() - ("steered" in set(gains["method"]))
    return (
        f" Beside it, chosen by nobody and not corrected for {tried} methods looked at, macro-F1 on test texts rises"
        f" with {shown}."
    )


def _interval(row: pd.Series) -> tuple[float, float, float]:
    return float(row["value"]), float(row["ci_low"]), float(row["ci_high"])
