"""Whether what an appraisal does to a model's answers is what it means to people.

Of people: how a rating goes with an emotion over texts. Of the model: how the emotion's answer moves when the rating is
turned up in its residual. Compared by their signs, over all pairs of a rating and an emotion whose human sign is beyond
doubt; under the null hypothesis it does not matter which emotion is which.
"""

from collections.abc import Mapping, Sequence
from itertools import islice, permutations
from math import factorial

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from interp.analysis.ratings import RatedExamples
from interp.statistics import Bootstrap, from_draws

Array = np.ndarray
PERMUTATIONS = 5040
"""At most; seven emotions have as many."""
FEWEST = 3
"""Texts of an emotion below which people's ratings of it are not looked at."""


def human_associations(rated: RatedExamples, labels: Sequence[str]) -> pd.DataFrame:
    """How ratings go with emotions, over texts of one of the labels.

    Args:
        rated: texts whose `kinds` are emotions; those of no label are left out.

    Returns:
        Columns rating, emotion, difference (mean rating of the emotion's texts less that of the others', in standard
        deviations) with difference_low and difference_high, correlation (point-biserial) with ci_low and ci_high, and
        n (texts of the emotion); no row for an emotion with fewer than three texts.
    """
    kept = np.flatnonzero(np.isin(rated.kinds, list(labels)))
    lines: list[dict[str, object]] = []
    present = [label for label in labels if (rated.kinds[kept] == label).sum() >= FEWEST]
    if len(present) < 2:
        return pd.DataFrame(lines)
    y = rated.standard[kept].astype(np.float64)
    bootstrap = Bootstrap(rated.groups[kept].tolist(), rated.resamples, rated.seed)
    ones = np.ones((1, len(kept)))
    for label in present:
        inside = rated.kinds[kept] == label
        (difference, correlation), (differences, correlations) = (
            _associations(y, inside, w) for w in (ones, bootstrap.weights)
        )
        for k, scale in enumerate(rated.scales):
            d = from_draws(difference[0, k], differences[:, k], int(inside.sum()))
            r = from_draws(correlation[0, k], correlations[:, k], int(inside.sum()))
            lines.append(
                {"rating": scale, "emotion": label, "difference": d.value, "difference_low": d.low}
                | {"difference_high": d.high, **r.row("correlation")}
            )
    return pd.DataFrame(lines)


def _associations(
    y: Float[Array, "text scale"], inside: Bool[Array, " text"], weights: Float[Array, "draw text"]
) -> tuple[Float[Array, "draw scale"], Float[Array, "draw scale"]]:
    """Difference of means and correlation, where texts count as often as their weights say; NaN where undefined."""
    total, within = weights.sum(1, keepdims=True), weights[:, inside].sum(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        own = weights[:, inside] @ y[inside] / within
        rest = weights[:, ~inside] @ y[~inside] / (total - within)
        mean, square = weights @ y / total, weights @ np.square(y) / total
        share = within / total
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        correlation = (own - rest) * np.sqrt(share * (1 - share)) / spread
    return own - rest, np.where(np.isfinite(correlation), correlation, np.nan)


def paired(
    effects: Mapping[tuple[str, str], Float[Array, "text answer"]],
    human: pd.DataFrame,
    rated: RatedExamples,
    labels: Sequence[str],
) -> pd.DataFrame:
    """Mean effects of ratings on answers beside people's associations of the two.

    Args:
        effects: by rating and method, of `slopes_of_answers` or the like.
        human: of `human_associations`.

    Returns:
        Columns rating, method, emotion, effect with ci_low and ci_high, n, human, human_low, human_high, human_n (the
        last four missing where the corpus has no texts of the emotion).
    """
    parts = []
    for (rating, method), values in effects.items():
        mean, low, high = rated.bootstrap.means(values)
        names = {"rating": rating, "method": method, "emotion": list(labels)}
        parts.append(pd.DataFrame({**names, "effect": mean, "ci_low": low, "ci_high": high, "n": len(values)}))
    if not parts:
        return pd.DataFrame()
    known = {"correlation": "human", "ci_low": "human_low", "ci_high": "human_high", "n": "human_n"}
    columns = ["rating", "emotion", *known.values()]
    beside = human.rename(columns=known)[columns] if len(human) else pd.DataFrame(columns=columns)
    found = pd.concat(parts, ignore_index=True).merge(beside, on=["rating", "emotion"], how="left")
    found = found.astype(dict.fromkeys(known.values(), float))
    return found.assign(human_n=found["human_n"].fillna(0).astype(int))


def agreement(
    effects: Mapping[tuple[str, str], Float[Array, "text answer"]],
    pairs: pd.DataFrame,
    rated: RatedExamples,
    labels: Sequence[str],
    ratings: Sequence[str],
) -> pd.DataFrame:
    """Per method, over pairs of a rating and an emotion whose human association excludes zero: do the signs agree?

    Args:
        effects: as in `paired`, whose result is `pairs`.
        ratings: those that count.

    Returns:
        Columns method, n_pairs, agreement (share of pairs) with its interval over texts (people's signs held),
        expected (mean share when emotions are permuted), p (one-sided, of that permutation), p_ratings (of a
        permutation of ratings) and n (texts); no row for a method without such a pair.
    """
    rows = []
    for method in dict.fromkeys(pairs["method"]) if len(pairs) else ():
        known = [rating for rating in ratings if (rating, method) in effects]
        if not known:
            continue
        own = pairs[pairs["method"] == method].set_index(["rating", "emotion"])
        sure = (own["human_low"] > 0) | (own["human_high"] < 0)
        signs = np.sign(own["human"].where(sure, 0.0)).unstack().reindex(index=known, columns=list(labels)).to_numpy()
        if not signs.any():
            continue
        stack = np.stack([effects[rating, method] for rating in known], 1)  # [text, rating, emotion]
        draws = (rated.bootstrap.weights @ stack.reshape(len(stack), -1)).reshape(-1, *signs.shape)
        value = _share(np.sign(stack.mean(0)), signs)
        e = from_draws(value, np.array([_share(np.sign(draw), signs) for draw in draws]), int((signs != 0).sum()))
        answers = np.sign(stack.mean(0))
        columns = np.array([_share(answers, signs[:, list(order)]) for order in orders(len(labels), rated.seed)])
        lines = np.array([_share(answers, signs[list(order)]) for order in orders(len(known), rated.seed)])
        rows.append(
            {"method": method, "n_pairs": e.n, "agreement": e.value, "ci_low": e.low, "ci_high": e.high}
            | {"expected": float(columns.mean()), "p": float((columns >= value - 1e-12).mean())}
            | {"p_ratings": float((lines >= value - 1e-12).mean()), "n": len(stack)}
        )
    return pd.DataFrame(rows)


def _share(answers: Float[Array, "rating emotion"], signs: Float[Array, "rating emotion"]) -> float:
    asked = signs != 0
    return float((answers == signs)[asked].mean()) if asked.any() else 0.0


def orders(n: int, seed: int) -> list[Int[Array, " place"]]:
    """All permutations, the identity first; where they are too many, as many random ones."""
    if n < 10 and factorial(n) <= PERMUTATIONS:
        return [np.array(order) for order in permutations(range(n))]
    rng = np.random.default_rng(seed)
    return [np.arange(n), *islice((rng.permutation(n) for _ in iter(int, 1)), PERMUTATIONS - 1)]
