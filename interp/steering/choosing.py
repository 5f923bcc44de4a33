"""Which steering is taken: methods and settings compared by cross-validation on the fit examples, none among them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.model_selection import StratifiedKFold

from interp.evaluation.recognition import paired_gains
from interp.files.units import Remember, afresh
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.statistics import Estimate, confusion_draws, macro_f1, recalls
from interp.steering.fit import SNAPSHOTS, FitData, Plan, Rows, SteeredFeature, answers, answers_each, fit, gains_on
from interp.steering.steering import Steering

AMPLIFY = (1.25, 1.5, 2.0, 3.0)
TARGETED = (1.5, 2.0, 4.0, 6.0)
PULLS = (0.01,)
GATED_PULL = 0.001
DEPTHS = (0.4, 0.55, 0.75)
"""Relative depths of the layers at which a gated direction is fitted: all of them together, or the middle one."""
FOLDS = 3

Array = np.ndarray


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

    def make(self, model: LanguageModel, saes: SaeStack, data: FitData) -> Steering:
        """The steering, fitted on all fit examples where it has to be fitted."""
        if self.steering is not None:
            return self.steering
        assert self.plan is not None
        return replace(fit(model, saes, data, self.plan, Rows.whole(data), self.steps), method=self.method)


def tried(model: LanguageModel, saes: SaeStack, data: FitData, steering: Steering, setting: str) -> Trial:
    """A steering in which nothing was fitted, scored."""
    return tried_each(model, saes, data, {setting: steering})[0]


def tried_each(
    model: LanguageModel,
    saes: SaeStack,
    data: FitData,
    steerings: Mapping[str, Steering],
    remember: Remember = afresh,
) -> list[Trial]:
    """Steerings of one method in which nothing was fitted, by their settings, scored in common passes.

    Args:
        remember: keeps the answers, under the method's name.
    """

    def make() -> dict[str, Array]:
        edits = {setting: steering.edits(saes) for setting, steering in steerings.items()}
        guesses = answers_each(model, data.wanted, edits)
        found = {f"examples {k}": v.argmax(-1).cpu().numpy() for k, v in guesses.items()}
        for parts in data.anchors.values():
            for k, v in answers_each(model, parts, edits).items():
                kept = found.get(f"anchors {k}", np.zeros(0, int))
                found[f"anchors {k}"] = np.concatenate([kept, v.argmax(-1).cpu().numpy()])
        return found

    if not steerings:
        return []
    found = remember(f"trials {next(iter(steerings.values())).method}", make)
    trials = []
    for setting, steering in steerings.items():
        guesses = found[f"examples {setting}"]
        changed = _changed(data, found[f"anchors {setting}"]) if data.anchors else 0.0
        trials.append(Trial(steering.method, setting, guesses, score(data, guesses), changed, steering))
    return trials


def amplified(
    model: LanguageModel,
    saes: SaeStack,
    data: FitData,
    features: Sequence[SteeredFeature],
    remember: Remember = afresh,
) -> list[Trial]:
    """One gain for all features."""
    made = {f"gain {g:g}": gains_on(features, [g] * len(features), "amplify") for g in AMPLIFY}
    return tried_each(model, saes, data, made, remember)


def targeted(
    model: LanguageModel,
    saes: SaeStack,
    data: FitData,
    features: Sequence[SteeredFeature],
    labels: Sequence[str],
    remember: Remember = afresh,
) -> list[Trial]:
    """One gain for the features of the emotion that is least often recognised in the fit examples."""
    plain = answers(model, data.wanted, {}).argmax(-1).cpu().numpy()
    weak = weakest(data, plain, labels, {f.emotion for f in features})
    mine = [f for f in features if f.emotion == weak]
    made = {f"{weak}, gain {g:g}": gains_on(mine, [g] * len(mine), "targeted") for g in TARGETED} if mine else {}
    return tried_each(model, saes, data, made, remember)


def weakest(data: FitData, guesses: Int[Array, " example"], labels: Sequence[str], among: set[str]) -> str | None:
    """The emotion of lowest recall among some; None where none of them has examples."""
    ones = np.ones((1, len(guesses)), np.float32)
    recall = recalls(confusion_draws(data.gold.numpy(), guesses, data.n_labels, ones))[0]
    known = [i for i, label in enumerate(labels) if label in among and not np.isnan(recall[i])]
    return labels[min(known, key=lambda i: recall[i])] if known else None


def global_plans(features: Sequence[SteeredFeature]) -> list[Plan]:
    """All gains jointly."""
    return [Plan("global", f"pull {pull:g}", features, pull=pull) for pull in PULLS] if features else []


def gated_plans(saes: SaeStack, n_layers: int, features: Sequence[SteeredFeature] = ()) -> list[Plan]:
    """A direction at some layers, and gains of their causal features, where the gate's features fire."""
    near = sorted({min(saes.layers, key=lambda k: abs(k - depth * (n_layers - 1))) for depth in DEPTHS})
    sets = [[near[len(near) // 2]]] + ([near] if len(near) > 1 else [])
    plans = []
    for layers in sets:
        mine = tuple(f for f in features if f.layer in layers)
        name = "layer " + " + ".join(map(str, layers))
        plans.append(Plan("gated", name, mine, layers, gated=True, pull=GATED_PULL))
    return plans


def cross_validated(
    model: LanguageModel,
    saes: SaeStack,
    data: FitData,
    plans: Sequence[Plan],
    seed: int,
    remember: Remember = afresh,
) -> Iterator[Trial]:
    """Every plan at every snapshot, each example and anchor answered by a fit that had not seen it.

    Args:
        remember: keeps the answers of every fold.
    """
    rows = list(folds(data, seed))
    n_anchors = len(Rows.whole(data).anchors)
    for plan in plans if rows else ():
        guesses = {s: np.zeros(len(data.gold), int) for s in SNAPSHOTS}
        kept = {s: np.zeros(n_anchors, int) for s in SNAPSHOTS}
        for k, (train, test) in enumerate(rows):
            make = partial(_held_out, model, saes, data, plan, train, test)
            found = remember(f"{plan.method} {plan.setting} fold {k}", make)
            for step in SNAPSHOTS:
                guesses[step][test.examples] = found[f"examples {step}"]
                kept[step][test.anchors] = found[f"anchors {step}"]
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


def _held_out(
    model: LanguageModel, saes: SaeStack, data: FitData, plan: Plan, train: Rows, test: Rows
) -> dict[str, Array]:
    """Answers on what a fit had not seen, at every snapshot."""
    found: dict[str, Array] = {}

    def note(step: int, logits: torch.Tensor, anchors: torch.Tensor) -> None:
        found[f"examples {step}"] = logits[test.examples].argmax(-1).cpu().numpy()
        found[f"anchors {step}"] = anchors[test.anchors].argmax(-1).cpu().numpy()

    fit(model, saes, data, plan, train, max(SNAPSHOTS), note)
    return found


def folds(data: FitData, seed: int) -> Iterator[tuple[Rows, Rows]]:
    """(what may be learnt from, what is predicted); none where an emotion has a single example."""
    gold = data.gold.numpy()
    smallest = int(np.bincount(gold)[np.unique(gold)].min())
    if smallest < 2:
        return
    n_folds = min(FOLDS, smallest)
    stratified = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
    order = np.random.default_rng(seed).permutation(len(Rows.whole(data).anchors))
    for k, (train, test) in enumerate(stratified.split(gold, gold)):
        inside = np.arange(len(order)) % n_folds == k
        yield (
            Rows(torch.from_numpy(train), torch.from_numpy(np.sort(order[~inside]))),
            Rows(torch.from_numpy(test), torch.from_numpy(np.sort(order[inside]))),
        )


def nested(
    data: FitData,
    trials: Sequence[Trial],
    labels: Sequence[str],
    weights: Float[Array, "resample example"],
    seed: int,
) -> Estimate:
    """Change of macro-F1 that choosing itself brings: each fold answered by the trial that wins on the other folds.

    The first trial is the unsteered model. Unlike the chosen trial's own change, this one is not the largest of many.
    """
    gold = data.gold.numpy()
    picked = trials[0].answers.copy()
    for train, test in folds(data, seed + 1):
        learnt = train.examples.numpy()
        scores = [_macro_f1(gold[learnt], t.answers[learnt], data.n_labels) for t in trials]
        picked[test.examples] = trials[int(np.argmax(scores))].answers[test.examples]
    return paired_gains(gold, trials[0].answers, picked, labels, weights)["macro_f1_gain"]


def score(data: FitData, guesses: Int[Array, " example"]) -> float:
    """Macro-F1 on the fit examples."""
    return _macro_f1(data.gold.numpy(), guesses, data.n_labels)


def _macro_f1(gold: Array, guesses: Array, n_labels: int) -> float:
    return float(macro_f1(confusion_draws(gold, guesses, n_labels, np.ones((1, len(gold)), np.float32)))[0])


def _changed(data: FitData, kept: Int[Array, " anchor"]) -> float:
    """Largest share of changed answers of any anchor corpus."""
    worst, start = 0.0, 0
    for parts in data.anchors.values():
        before = torch.cat([c.answer_logits for c in parts]).argmax(-1).cpu().numpy()
        worst = max(worst, float((kept[start : start + len(before)] != before).mean()))
        start += len(before)
    return worst
