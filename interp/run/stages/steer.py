"""Stage `steer`: methods fitted and compared on the fit split; the best that does no harm is chosen, or none."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import pandas as pd
import torch

from interp.analysis import effect_rows
from interp.engine.capture import Captured
from interp.evaluation.recognition import paired_gains
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.stages.rivals import rivals
from interp.statistics import Estimate, resample_weights
from interp.steering.choosing import (
    Trial,
    amplified,
    cross_validated,
    gated_plans,
    global_plans,
    nested,
    targeted,
    tried_each,
)
from interp.steering.fit import FitData, SteeredFeature
from interp.steering.steering import FACTS, Steering

FLUENCY_RESAMPLES = 1000
FOLDER = "steerings"
"""Where the best setting of every method and every rival are kept, a folder each."""


@stage(
    "steer",
    reads=("examples.parquet", "activations", "effects.parquet"),
    writes=("steering.safetensors", "steering.json", "trials.parquet", "steerings", "units/steer"),
    fields=(
        "steering.method",
        "steering.features",
        "steering.perplexity_budget",
        "steering.harm_budget",
        "fluency",
        "resamples",
        "seed",
    ),
    sources=("plain_documents", "anchor_texts"),
    # global, and gated twice; 40 steps, 3 folds and all examples; a backward pass counts double
    cost=lambda work: work.fit * (3 if work.config.corpora.anchors else 1) * 3 * 40 * 4 * work.speeds.per_row,
)
def run(session: Session) -> None:
    """Writes `steering.safetensors` / `.json` (the choice), `trials.parquet` (all that was tried) and `steerings/`."""
    units = session.units("steer")
    data = fit_data(session)
    features = causal_features(session)
    trials = tried_each(session.model, session.saes, data, {"unsteered": Steering("none")}, units.arrays)
    for name in session.progress(_methods(session, bool(features)), "steer", "method"):
        trials += _trials(session, data, features, name, units)
    weights = resample_weights(data.groups, session.config.resamples, session.seed("trials"))
    gold, plain = data.gold.numpy(), trials[0].answers
    gains = [paired_gains(gold, plain, t.answers, session.labels, weights)["macro_f1_gain"] for t in trials]
    whole = nested(data, trials, session.labels, weights, session.seed("nested"))
    best = _best_of_each(trials, session.config.steering.harm_budget)
    made = {t.method: _made(session, data, t, units) for t in best.values()}
    chosen, steering, ratio, refused = _choose(session, data, trials, gains, whole, made, units)
    facts = _facts(session) | {
        "setting": chosen.setting,
        "reason": _reason(trials, chosen, ratio, refused, bool(features), len(gold)),
        "fit_macro_f1": chosen.macro_f1,
        "unsteered_fit_macro_f1": trials[0].macro_f1,
        "fit_gain_of_choosing": {"value": whole.value, "ci_low": whole.low, "ci_high": whole.high},
        "n_fit": len(gold),
        "n_anchors": {name: sum(len(c.n_tokens) for c in parts) for name, parts in data.anchors.items()},
        "seed": session.config.seed,
    }
    tables.write(session.folder / "trials.parquet", _table(trials, gains, chosen, len(gold)))
    reference = chosen if chosen.method != "none" else max(trials[1:], key=lambda t: t.macro_f1, default=None)
    others = rivals(
        session,
        data,
        features,
        reference,
        made.get(reference.method) if reference else None,
        partial(remembered, units),
    )
    for name, one in (made | others).items():
        replace(one, provenance=_facts(session)).save(session.folder / FOLDER / name)
    replace(steering, method=chosen.method, positions="answer", provenance=facts).save(session.folder.path)
    units.clear()


def _methods(session: Session, any_causal: bool) -> list[str]:
    wanted = session.config.steering.method
    possible = (["amplify", "targeted", "global"] if any_causal else []) + (["gated"] if session.anchors else [])
    return [m for m in possible if wanted in ("best", m)]


def _trials(session: Session, data: FitData, features: list[SteeredFeature], method: str, units: Units) -> list[Trial]:
    model, saes = session.model, session.saes
    if method == "amplify":
        return amplified(model, saes, data, features, units.arrays)
    if method == "targeted":
        return targeted(model, saes, data, features, session.labels, units.arrays)
    plans = global_plans(features) if method == "global" else gated_plans(saes, model.n_layers, features)
    return list(cross_validated(model, saes, data, plans, session.seed("folds"), units.arrays))


def _made(session: Session, data: FitData, trial: Trial, units: Units) -> Steering:
    """A trial's steering, fitted on all fit examples where it has to be fitted."""
    if trial.steering is not None:
        return trial.steering
    make = partial(trial.make, session.model, session.saes, data)
    return remembered(units, f"{trial.method} {trial.setting}", make)


def remembered(units: Units, name: str, make: Callable[[], Steering]) -> Steering:
    """A steering that is kept as a unit."""
    folder = units.path(f"steering {name}")
    if not (folder / FACTS).exists():
        make().save(folder)
    return Steering.load(folder)


def causal_features(session: Session) -> list[SteeredFeature]:
    """The strongest causal features, at most `steering.features`, taken from every emotion in turn."""
    mine = effect_rows.causal_features(tables.read(session.folder / "effects.parquet")).copy()
    mine["rank"] = mine.groupby("emotion")["effect"].rank(ascending=False, method="first")
    mine = mine.sort_values(["rank", "effect"], ascending=[True, False], kind="stable")
    mine = mine.drop_duplicates(["layer", "feature"]).head(session.config.steering.features)
    return [SteeredFeature(r.layer, r.feature, r.emotion, r.effect) for r in mine.itertuples()]


def fit_data(session: Session, anchored: bool = True) -> FitData:
    """Captures with keys and values of the fit examples and of the anchor texts."""
    rows = session.role("fit")
    gold = dict(zip(rows.tolist(), session.gold(rows).tolist(), strict=True))
    groups = session.table["group"]
    parts, order = [], []
    for chunk, captured in session.cached(rows, "fit captures"):
        parts.append((captured, torch.tensor([gold[r] for r in chunk])))
        order += groups.iloc[chunk].tolist()
    anchors: dict[str, list[Captured]] = {}
    for name, examples in session.anchors.items() if anchored else ():
        anchors[name] = [c for _, c in session.cached_texts([e.text for e in examples], f"anchors {name}")]
    return FitData(parts, len(session.labels), order, anchors)


def _best_of_each(trials: list[Trial], harm_budget: float) -> dict[str, Trial]:
    """By method, the trial of highest macro-F1, among harmless ones where there are any."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials[1:], key=lambda t: (t.changed > harm_budget, -t.macro_f1)):
        best.setdefault(trial.method, trial)
    return best


def _choose(
    session: Session,
    data: FitData,
    trials: list[Trial],
    gains: list[Estimate],
    whole: Estimate,
    made: dict[str, Steering],
    units: Units,
) -> tuple[Trial, Steering, float, int]:
    """The best trial that helps beyond doubt and does no harm; its steering, perplexity ratio, and how many failed.

    Beyond doubt: its own interval and that of choosing as such (`nested`) are above zero.
    """
    config = session.config.steering
    sure = [t for t, gain in zip(trials, gains, strict=True) if gain.low > 0 and t.changed <= config.harm_budget]
    refused = 0
    for trial in sorted(sure if whole.low > 0 else [], key=lambda t: -t.macro_f1):
        is_best = trial is _best_of_each(trials, config.harm_budget)[trial.method]
        steering = made[trial.method] if is_best else _made(session, data, trial, units)
        name = f"language {trial.method} {trial.setting}"
        ratio = steering_quality(session, steering, units, name, short=True)["perplexity_ratio"].value
        if ratio <= config.perplexity_budget:
            made[trial.method] = steering
            return trial, steering, ratio, refused
        refused += 1
    return trials[0], Steering("none"), 1.0, refused


def _facts(session: Session) -> dict[str, Any]:
    saes = session.saes
    return {
        "model": {"name": session.config.model, "identity": session.model.identity},
        "saes": {**asdict(session.config.saes), "identity": saes.identity, "covered": saes.layers},
        "labels": session.labels,
    }


def _table(trials: list[Trial], gains: list[Estimate], chosen: Trial, n: int) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "method": t.method,
                "setting": t.setting,
                "macro_f1": t.macro_f1,
                "gain": gain.value,
                "ci_low": gain.low,
                "ci_high": gain.high,
                "anchors_changed": t.changed,
                "n": n,
                "chosen": t is chosen,
            }
            for t, gain in zip(trials, gains, strict=True)
        ]
    )


def _reason(trials: list[Trial], chosen: Trial, ratio: float, refused: int, any_causal: bool, n: int) -> str:
    plain = trials[0].macro_f1
    if len(trials) == 1:
        lacking = "too few fit examples to compare settings" if any_causal else "no causal feature was found"
        return f"There is nothing to steer: {lacking}."
    over = f" {refused} better settings exceeded the perplexity budget." if refused else ""
    if chosen.method == "none":
        best = max((t.macro_f1 for t in trials[1:]), default=plain)
        compared = f"macro-F1 {plain:.3f}, best of {len(trials) - 1} settings {best:.3f}, n = {n}"
        return f"Nothing beat the unsteered model beyond doubt and without harm on the fit split ({compared}).{over}"
    return (
        f"{chosen.method} ({chosen.setting}): macro-F1 on the fit split {plain:.3f} -> {chosen.macro_f1:.3f}"
        f" (n = {n}, {len(trials) - 1} settings tried), perplexity ratio {ratio:.3f}.{over}"
    )


def steering_quality(
    session: Session, steering: Steering, units: Units, name: str, *, short: bool = False
) -> dict[str, Estimate]:
    """perplexity_ratio and kl on plain text, steering on at every position.

    Args:
        name: of the unit that keeps them.
        short: on the text's first tokens alone.
    """

    def make() -> dict[str, Any]:
        apply = partial(steering.applied, session.model, session.saes, positions="all")
        found = language_quality(session, apply, lowest=_lowest(session, steering), short=short)
        return {k: list(e) for k, e in found.items()}

    return {k: Estimate(*e) for k, e in units.values(name, make).items()}


def _lowest(session: Session, steering: Steering) -> int:
    """The lowest layer that is steered; the number of layers where none is."""
    return min(steering.layers, default=session.model.n_layers)


def language_quality(
    session: Session, apply: Callable[[], Any], *, lowest: int | None = None, short: bool = False
) -> dict[str, Estimate]:
    """perplexity_ratio and kl on plain text of what `apply()` does to the model.

    Args:
        lowest: the lowest layer that it changes, if known.
    """
    text = session.short_text if short else session.plain_text
    weights = resample_weights(range(text.n_documents), FLUENCY_RESAMPLES, session.seed("fluency"))
    found = text.under(apply, weights, lowest=lowest)
    return {"perplexity_ratio": found.perplexity_ratio, "kl": found.kl}
