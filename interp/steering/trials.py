"""What is tried: methods and settings, each scored on fit examples that it has not seen (cross-validation)."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int
from sklearn.model_selection import StratifiedKFold

from interp.evaluation.recognition import macro_f1_of
from interp.files.units import Remember, afresh
from interp.saes.stack import SaeStack
from interp.statistics import confusion_draws, recalls
from interp.steering.coupled import NO_ROWS, Few, couple_prior, coupled_steering
from interp.steering.fit import SNAPSHOTS, FitData, Plan, Rows, answers, answers_each, fit, gains_on
from interp.steering.steering import SteeredFeature, Steering

Array = np.ndarray
AMPLIFY = (1.25, 1.5, 2.0, 3.0)
TARGETED = (1.5, 2.0, 4.0, 6.0)
PULLS = (0.01,)
GATED_PULL = 0.001
DEPTHS = (0.4, 0.55, 0.75)
"""Relative depths of the layers at which a gated direction is fitted: all of them together, or the middle one."""
FOLDS, COUPLING_FOLDS = 3, 5
COUPLINGS: Mapping[str, Callable[[Few, Array, Array], Steering]] = {"prior": couple_prior, "coupled": coupled_steering}
"""Methods that need a few labels and no gradient: (texts, places of labelled ones, their labels) -> steering."""


@dataclass(frozen=True)
class Trial:
    """A steering, or a plan with its number of steps, and what it answers on examples that it was not fitted on."""

    method: str
    setting: str
    answers: Int[Array, " example"]
    macro_f1: float
    changed: float = 0.0
    """Share of the anchor texts whose answer changes, in the corpus where it is largest."""
    steering: Steering | None = None
    plan: Plan | None = None
    steps: int = 0

    def make(self, data: FitData) -> Steering:
        """The steering, fitted on all fit examples where it has to be fitted."""
        if self.steering is not None:
            return self.steering
        assert self.plan is not None
        return replace(fit(data, self.plan, steps=self.steps), method=self.method)


@dataclass(frozen=True)
class Ground:
    """What methods are made from.

    Attributes:
        few: all texts, labelled or not; None where nothing can be coupled.
        rows: places in them of the labelled examples, in the order of `data`.
    """

    data: FitData
    features: Sequence[SteeredFeature]
    few: Few | None = None
    rows: Int[Array, " example"] = field(default_factory=lambda: NO_ROWS)


def possible_methods(ground: Ground) -> list[str]:
    """Gains need causal features, a gate texts to be shut for, and a coupling something that can be read and said."""
    gains = ["amplify", "targeted", "global"] if ground.features else []
    coupling = list(COUPLINGS) if ground.few is not None else []
    return coupling + gains + (["gated"] if ground.data.anchors else [])


def all_trials(ground: Ground, methods: Iterable[str], seed: int, remember: Remember = afresh) -> list[Trial]:
    """The unsteered model, then every setting of some methods (see `possible_methods`).

    Args:
        methods: perhaps shown as they pass.
        seed: of the folds.
    """
    data, features = ground.data, ground.features
    trials = tried_each(data, {"unsteered": Steering("none")}, remember)
    for method in methods:
        if method == "amplify":
            trials += amplified(data, features, remember)
        elif method == "targeted":
            trials += targeted(data, features, remember)
        elif method in COUPLINGS:
            trials += coupled(ground, method, seed, remember)
        else:
            plans = (
                global_plans(features) if method == "global" else gated_plans(data.saes, data.model.n_layers, features)
            )
            trials += cross_validated(data, plans, seed, remember)
    return trials


def tried(data: FitData, steering: Steering, setting: str) -> Trial:
    """A steering in which nothing was fitted, scored."""
    return tried_each(data, {setting: steering})[0]


def tried_each(data: FitData, steerings: Mapping[str, Steering], remember: Remember = afresh) -> list[Trial]:
    """Steerings of one method in which nothing was fitted, by their settings, scored in common passes.

    Args:
        remember: keeps the answers, under the method's name.
    """

    def make() -> dict[str, Array]:
        edits = {setting: steering.edits(data.saes) for setting, steering in steerings.items()}
        texts = {"examples": data.wanted} | ({"anchors": data.anchor_captures} if data.anchors else {})
        return {
            f"{kind} {setting}": logits.argmax(-1).cpu().numpy()
            for kind, captured in texts.items()
            for setting, logits in answers_each(data.model, captured, edits).items()
        }

    if not steerings:
        return []
    (predicted,) = remember({f"trials {next(iter(steerings.values())).method}": make})
    trials = []
    for setting, steering in steerings.items():
        guesses = predicted[f"examples {setting}"]
        changed = _changed(data, predicted[f"anchors {setting}"]) if data.anchors else 0.0
        trials.append(Trial(steering.method, setting, guesses, score(data, guesses), changed, steering))
    return trials


def amplified(data: FitData, features: Sequence[SteeredFeature], remember: Remember = afresh) -> list[Trial]:
    """One gain for all features."""
    made = {f"gain {g:g}": gains_on(features, [g] * len(features), "amplify") for g in AMPLIFY}
    return tried_each(data, made, remember)


def targeted(data: FitData, features: Sequence[SteeredFeature], remember: Remember = afresh) -> list[Trial]:
    """One gain for the features of the emotion that is least often recognised in the fit examples."""
    weak = weakest(data, data.predicted({}), {f.emotion for f in features})
    its = [f for f in features if f.emotion == weak]
    made = {f"{weak}, gain {g:g}": gains_on(its, [g] * len(its), "targeted") for g in TARGETED} if its else {}
    return tried_each(data, made, remember)


def coupled(ground: Ground, method: str, seed: int, remember: Remember = afresh) -> Iterator[Trial]:
    """A coupling of the labelled examples, or its constant part alone; each answered by one that had not seen it."""
    data, few, make = ground.data, ground.few, COUPLINGS[method]
    rows = list(folds(data, seed, COUPLING_FOLDS))
    if few is None or not rows:
        return
    gold = data.gold.numpy()
    guesses, kept = np.zeros(len(gold), int), np.zeros(len(Rows.whole(data).anchors), int)

    def held_out(train: Rows, test: Rows) -> dict[str, Array]:
        learnt = train.examples.numpy()
        edits = make(few, ground.rows[learnt], gold[learnt]).edits(data.saes)
        found = {"examples": data.predicted(edits)[test.examples.numpy()]}
        if data.anchors:
            anchors = answers(data.model, data.anchor_captures, edits).argmax(-1).cpu().numpy()
            found["anchors"] = anchors[test.anchors.numpy()]
        return found

    makers = {f"{method} fold {k}": partial(held_out, *parts) for k, parts in enumerate(rows)}
    for (_, test), predicted in zip(rows, remember(makers), strict=True):
        guesses[test.examples] = predicted["examples"]
        if data.anchors:
            kept[test.anchors] = predicted["anchors"]
    steering = make(few, ground.rows, gold)
    (layer,) = steering.layers
    readers = sum(len(c.readers) for c in steering.couplings.values())
    read = f", {readers} readers" if few.sparse else ", whole residual"
    setting = f"layer {layer}" + (read if readers else "")
    changed = _changed(data, kept) if data.anchors else 0.0
    yield Trial(method, setting, guesses, score(data, guesses), changed, steering)


def strongest_features(causal: pd.DataFrame, at_most: int) -> list[SteeredFeature]:
    """Features taken from every emotion in turn, the strongest first.

    Args:
        causal: layer, feature, emotion and effect of causal features.
    """
    rank = causal.groupby("emotion")["effect"].rank(ascending=False, method="first")
    ranked = causal.assign(rank=rank).sort_values(["rank", "effect"], ascending=[True, False], kind="stable")
    ranked = ranked.drop_duplicates(["layer", "feature"]).head(at_most)
    return [SteeredFeature(r.layer, r.feature, r.emotion, r.effect) for r in ranked.itertuples()]


def weakest(data: FitData, guesses: Int[Array, " example"], among: set[str]) -> str | None:
    """The emotion of lowest recall among some; None where none of them has examples."""
    ones = np.ones((1, len(guesses)), np.float32)
    recall = recalls(confusion_draws(data.gold.numpy(), guesses, len(data.labels), ones))[0]
    known = [i for i, label in enumerate(data.labels) if label in among and not np.isnan(recall[i])]
    return data.labels[min(known, key=lambda i: recall[i])] if known else None


def global_plans(features: Sequence[SteeredFeature]) -> list[Plan]:
    """All gains jointly."""
    return [Plan("global", f"pull {pull:g}", features, pull=pull) for pull in PULLS] if features else []


def gated_plans(saes: SaeStack, n_layers: int, features: Sequence[SteeredFeature] = ()) -> list[Plan]:
    """A direction at some layers, and gains of their causal features, where the gate's features fire."""
    near = sorted({min(saes.layers, key=lambda k: abs(k - depth * (n_layers - 1))) for depth in DEPTHS})
    sets = [[near[len(near) // 2]]] + ([near] if len(near) > 1 else [])
    return [
        Plan(
            "gated",
            "layer " + " + ".join(map(str, layers)),
            tuple(f for f in features if f.layer in layers),
            layers,
            gated=True,
            pull=GATED_PULL,
        )
        for layers in sets
    ]


def fitted_vector_plan(saes: SaeStack, n_layers: int) -> Plan:
    """A constant vector fitted like a gated one, but let through everywhere, at the middle one of its layers."""
    return Plan("vector", "fitted", vectors=gated_plans(saes, n_layers)[0].layers, pull=GATED_PULL)


def cross_validated(data: FitData, plans: Sequence[Plan], seed: int, remember: Remember = afresh) -> Iterator[Trial]:
    """Every plan at every snapshot, each example and anchor answered by a fit that had not seen it.

    Args:
        remember: keeps the answers of every fold.
    """
    rows = list(folds(data, seed))
    n_anchors = len(Rows.whole(data).anchors)
    makers = {
        f"{plan.method} {plan.setting} fold {k}": partial(_held_out, data, plan, *parts)
        for plan in plans
        for k, parts in enumerate(rows)
    }
    found = dict(zip(makers, remember(makers), strict=True))
    for plan in plans if rows else ():
        guesses = {s: np.zeros(len(data.gold), int) for s in SNAPSHOTS}
        kept = {s: np.zeros(n_anchors, int) for s in SNAPSHOTS}
        for k, (_, test) in enumerate(rows):
            predicted = found[f"{plan.method} {plan.setting} fold {k}"]
            for step in SNAPSHOTS:
                guesses[step][test.examples] = predicted[f"examples {step}"]
                kept[step][test.anchors] = predicted[f"anchors {step}"]
        for step in SNAPSHOTS:
            yield Trial(
                plan.method,
                f"{plan.setting}, {step} steps",
                guesses[step],
                score(data, guesses[step]),
                _changed(data, kept[step]),
                plan=plan,
                steps=step,
            )


def _held_out(data: FitData, plan: Plan, train: Rows, test: Rows) -> dict[str, Array]:
    """Answers on what a fit had not seen, at every snapshot."""
    predicted: dict[str, Array] = {}

    def note(step: int, logits: torch.Tensor, anchors: torch.Tensor) -> None:
        predicted[f"examples {step}"] = logits[test.examples].argmax(-1).cpu().numpy()
        predicted[f"anchors {step}"] = anchors[test.anchors].argmax(-1).cpu().numpy()

    fit(data, plan, train, max(SNAPSHOTS), note)
    return predicted


def folds(data: FitData, seed: int, most: int = FOLDS) -> Iterator[tuple[Rows, Rows]]:
    """(what may be learnt from, what is predicted); none where an emotion has a single example."""
    gold = data.gold.numpy()
    smallest = int(np.bincount(gold)[np.unique(gold)].min())
    if smallest < 2:
        return
    n_folds = min(most, smallest)
    stratified = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(Rows.whole(data).anchors))
    for k, (train, test) in enumerate(stratified.split(gold, gold)):
        inside = np.arange(len(order)) % n_folds == k
        yield (
            Rows(torch.from_numpy(train), torch.from_numpy(np.sort(order[~inside]))),
            Rows(torch.from_numpy(test), torch.from_numpy(np.sort(order[inside]))),
        )


def score(data: FitData, guesses: Int[Array, " example"], among: Int[Array, " row"] | None = None) -> float:
    """Macro-F1 on the fit examples, or among some of them."""
    rows = slice(None) if among is None else among
    return macro_f1_of(data.gold.numpy()[rows], guesses[rows], len(data.labels))


def _changed(data: FitData, kept: Int[Array, " anchor"]) -> float:
    """Largest share of changed answers of any anchor corpus."""
    worst, start = 0.0, 0
    for parts in data.anchors.values():
        before = torch.cat([c.answer_logits for c in parts]).argmax(-1).cpu().numpy()
        worst = max(worst, float((kept[start : start + len(before)] != before).mean()))
        start += len(before)
    return worst
