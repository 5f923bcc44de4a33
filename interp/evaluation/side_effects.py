"""What a steering changes besides: neutral texts, texts without an emotion word, validity of answers, ability."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.variants import Read
from interp.evaluation.fluency import LOGITS_ON_CPU
from interp.models.language_model import LanguageModel
from interp.statistics import Bootstrap

Array = np.ndarray


@dataclass(frozen=True)
class Behaviour:
    """What a model did under one steering.

    Attributes:
        cloze: whether each item of the ability test was right.
        valid: probability of the labels' first tokens among the whole vocabulary, by prompt.
        neutral: answers to texts without an emotion.
        keyword_free: answers to texts that do not name their emotion.
    """

    cloze: Bool[Array, " item"]
    valid: Float[Array, " prompt"]
    neutral: Int[Array, " text"]
    keyword_free: Int[Array, " text"]


def side_effects(
    behaviours: Mapping[str, Behaviour],
    kinds: Sequence[str],
    keyword_free_gold: Int[Array, " text"],
    bootstrap: Callable[[str, int], Bootstrap],
) -> pd.DataFrame:
    """method, metric, value, ci_low, ci_high, n; changes are paired with the first behaviour, the unsteered model's.

    Args:
        kinds: of the items of the ability test.
        bootstrap: (metric, number of values) -> their resamples.
    """
    unsteered, *_ = behaviours
    drawn = cache(bootstrap)
    lines: list[dict[str, Any]] = []
    for method, behaviour in behaviours.items():
        before = behaviours[unsteered] if method != unsteered else None
        measured = _measured(behaviour, before, np.array(kinds), keyword_free_gold)
        lines += [
            {"method": method, "metric": metric, **drawn(metric, len(values)).mean(values).row()}
            for metric, values in measured.items()
        ]
    return pd.DataFrame(lines)


def _measured(after: Behaviour, before: Behaviour | None, kinds: Array, gold: Array) -> dict[str, Array]:
    """By metric, a value per item, prompt or text; no changes without a `before`."""
    right = after.cloze.astype(float)
    values = {"cloze_accuracy": right} | {f"cloze_accuracy_{kind}": right[kinds == kind] for kind in np.unique(kinds)}
    values["answer_valid"] = after.valid
    if before is not None:
        values["cloze_accuracy_gain"] = right - before.cloze
        values["answer_valid_gain"] = after.valid - before.valid
        values["neutral_changed"] = (after.neutral != before.neutral).astype(float)
    if len(gold):
        values["keyword_free_accuracy"] = (after.keyword_free == gold).astype(float)
        if before is not None:
            change = values["keyword_free_accuracy"] - (before.keyword_free == gold)
            values["keyword_free_accuracy_gain"] = change
    return values


def label_mass(model: LanguageModel, tokens: Sequence[int]) -> Read:
    """From last-layer residuals, the probability of some tokens among the whole vocabulary."""
    wanted = torch.tensor(sorted(set(tokens)), device=model.device)
    size = max(1, LOGITS_ON_CPU // len(model.head_weight))

    def read(x: Float[Tensor, "*row d_model"]) -> Float[Tensor, "*row 1"]:
        flat = x.flatten(0, -2).split(size)
        mass = torch.cat([model.unembed(part).float().softmax(-1)[:, wanted].sum(-1) for part in flat])
        return mass.view(*x.shape[:-1], 1)

    return read
