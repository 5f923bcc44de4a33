"""Which steering is taken: the best trial that helps beyond doubt and does no harm, or none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from interp.evaluation.recognition import macro_f1_improvement
from interp.statistics import Bootstrap, Estimate
from interp.steering.fit import FitData
from interp.steering.steering import Provenance, Steering
from interp.steering.trials import Trial, folds, score


@dataclass(frozen=True)
class Budget:
    """What a steering may cost.

    Attributes:
        harm: share of changed anchor answers, in the corpus where it is largest; and of the probability that the model
            answers with any label at all, which share of it may be lost.
        perplexity: ratio of the perplexity on plain text to the unsteered model's.
    """

    harm: float
    perplexity: float

    def allows(self, price: "Price") -> bool:
        return price.perplexity_ratio <= self.perplexity and price.answered >= 1 - self.harm


class Price(NamedTuple):
    """What a steering costs.

    Attributes:
        perplexity_ratio: of plain text, steered at every position.
        answered: of the probability that the model answers with any label at all, mean over texts: what remains.
    """

    perplexity_ratio: float = 1.0
    answered: float = 1.0


NOTHING = Price()
SETTLED, FEW = "coupled", 10
"""The method that is tried alone, settled before any label is seen, and up to how many examples of each label.

Choosing among many methods costs more examples than so few can pay; the others are shown beside it.
"""


@dataclass(frozen=True)
class Choice:
    """What was chosen among trials, of which the first is the unsteered model.

    Attributes:
        improvements: change of macro-F1 of every trial.
        of_choosing: the change that choosing as such brings (see `nested`); where a method was settled on, its change.
        settled: whether the method was settled on before any label was seen (see `SETTLED`).
        price: of the chosen one.
        refused: how many better ones exceeded the budget.
    """

    trials: Sequence[Trial]
    budget: Budget
    improvements: Sequence[Estimate]
    of_choosing: Estimate
    chosen: Trial
    price: Price = NOTHING
    refused: int = 0
    settled: bool = False

    @property
    def reference(self) -> Trial | None:
        """What rivals are made after: the chosen trial, else the best one."""
        if self.chosen is not self.trials[0]:
            return self.chosen
        return max(self.trials[1:], key=lambda t: t.macro_f1, default=None)

    @property
    def kept(self) -> dict[str, Trial]:
        """By method, the chosen trial, else the best within the harm budget."""
        best = best_of_each(self.trials, self.budget.harm)
        return best | ({self.chosen.method: self.chosen} if self.chosen is not self.trials[0] else {})

    def facts(self, any_causal: bool) -> Provenance:
        """What is told of it beside the steering."""
        return {
            "setting": self.chosen.setting,
            "reason": self.reason(any_causal),
            "fit_macro_f1": self.chosen.macro_f1,
            "unsteered_fit_macro_f1": self.trials[0].macro_f1,
            "fit_gain_of_choosing": {k: v for k, v in self.of_choosing.row().items() if k != "n"},
            "n_fit": self.of_choosing.n,
        }

    def table(self) -> pd.DataFrame:
        """method, setting, macro_f1, gain (of macro-F1), ci_low, ci_high, anchors_changed, n, chosen; a row a trial."""
        return pd.DataFrame(
            [
                {"method": t.method, "setting": t.setting, "macro_f1": t.macro_f1}
                | {"gain": e.value, "ci_low": e.ci_low, "ci_high": e.ci_high}
                | {"anchors_changed": t.changed, "n": e.n, "chosen": t is self.chosen}
                for t, e in zip(self.trials, self.improvements, strict=True)
            ]
        )

    def reason(self, any_causal: bool) -> str:
        """Why, in a sentence.

        Args:
            any_causal: whether there were causal features to steer.
        """
        (unsteered, *tried), n = self.trials, self.improvements[0].n
        if not tried:
            lacking = "too few fit examples to compare settings" if any_causal else "no causal feature was found"
            return f"There is nothing to steer: {lacking}."
        over = f" {self.refused} better settings cost more language or answers than allowed." if self.refused else ""
        if self.chosen is unsteered:
            candidates = [t for t in tried if t.method == SETTLED] if self.settled else tried
            what = f"{SETTLED}, settled on for so few labels," if self.settled else f"best of {len(tried)} settings"
            best = max(t.macro_f1 for t in candidates)
            compared = f"macro-F1 {unsteered.macro_f1:.3f}, {what} {best:.3f}, n = {n}"
            return (
                f"Nothing beat the unsteered model beyond doubt and without harm on the fit split ({compared}).{over}"
            )
        why = "settled on for so few labels" if self.settled else f"{len(tried)} settings tried"
        return (
            f"{self.chosen.method} ({self.chosen.setting}): macro-F1 on the fit split {unsteered.macro_f1:.3f} ->"
            f" {self.chosen.macro_f1:.3f} (n = {n}, {why}), perplexity ratio {self.price.perplexity_ratio:.3f}.{over}"
        )


def choose(
    data: FitData,
    trials: Sequence[Trial],
    budget: Budget,
    bootstrap: Bootstrap,
    seed: int,
    *,
    make: Callable[[Trial], Steering],
    price: Callable[[Trial, Steering], Price],
) -> Choice:
    """The best trial within its budget whose own improvement, and that of choosing, are above zero beyond doubt.

    Of few examples (`FEW`), the method that was settled on beforehand or none: nothing is chosen among.

    Args:
        trials: the unsteered model first.
        bootstrap: of the fit examples.
        seed: of the folds in which choosing is measured.
        make: the trial's steering, fitted on all fit examples.
        price: of a trial's steering.
    """
    gold, n_labels = data.gold.numpy(), len(data.labels)
    improvements = [macro_f1_improvement(gold, trials[0].answers, t.answers, n_labels, bootstrap) for t in trials]
    sure = [t for t, e in zip(trials, improvements, strict=True) if e.ci_low > 0 and t.changed <= budget.harm]
    settled = [k for k, t in enumerate(trials) if t.method == SETTLED] if len(gold) <= FEW * n_labels else []
    if settled:
        sure, of_choosing = [t for t in sure if t.method == SETTLED], improvements[settled[0]]
    else:
        of_choosing = nested(data, trials, bootstrap, seed)
    refused = 0
    for trial in sorted(sure if of_choosing.ci_low > 0 else [], key=lambda t: -t.macro_f1):
        cost = price(trial, make(trial))
        if budget.allows(cost):
            return Choice(trials, budget, improvements, of_choosing, trial, cost, refused, bool(settled))
        refused += 1
    return Choice(trials, budget, improvements, of_choosing, trials[0], refused=refused, settled=bool(settled))


def best_of_each(trials: Sequence[Trial], harm: float) -> dict[str, Trial]:
    """By method, the trial of highest macro-F1, among harmless ones where there are any."""
    best: dict[str, Trial] = {}
    for trial in sorted(trials[1:], key=lambda t: (t.changed > harm, -t.macro_f1)):
        best.setdefault(trial.method, trial)
    return best


def nested(data: FitData, trials: Sequence[Trial], bootstrap: Bootstrap, seed: int) -> Estimate:
    """Change of macro-F1 that choosing itself brings: each fold answered by the trial that wins on the other folds.

    The first trial is the unsteered model. Unlike the chosen trial's own change, this one is not the largest of many.
    """
    picked = trials[0].answers.copy()
    for train, test in folds(data, seed + 1):
        scores = [score(data, t.answers, train.examples.numpy()) for t in trials]
        picked[test.examples] = trials[int(np.argmax(scores))].answers[test.examples]
    return macro_f1_improvement(data.gold.numpy(), trials[0].answers, picked, len(data.labels), bootstrap)
