"""How far a recognised emotion depends on the order and names of the labels, the template and the text's spelling."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from interp.defaults import RESAMPLES
from interp.files.jsonable import jsonable
from interp.surveys.reliability.emotion_variations import EMOTION_REFERENCE
from interp.surveys.reliability.measures import Share, agreement, fleiss, mean_share, place_bias
from interp.surveys.reliability.scoring import nested, with_interval


@dataclass(frozen=True)
class EmotionReliability:
    """How stable recognised emotions are.

    Attributes:
        measures: over all texts.
        items: tidy; one row per variation (`order=rotation_1`) and measure: accuracy, consistent.
        unanswered: prompts from whose reply no label could be read.
    """

    measures: Mapping[str, Share]
    items: pd.DataFrame
    unanswered: int

    def as_dict(self) -> dict[str, Any]:
        measures = {name: with_interval(share.as_dict()) for name, share in self.measures.items()}
        return dict(jsonable({"measures": measures, "by_variation": nested(self.items), "unanswered": self.unanswered}))


def score_emotions(
    table: pd.DataFrame,
    labels: Sequence[str],
    orders: Mapping[str, Sequence[int]],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> EmotionReliability:
    """Measures over label orders, and consistency under every other variation.

    - `flip_rate`: share of (text, other order) pairs whose answer is not that of the given order; `any_flip`: of texts.
    - `accuracy`: in the given order; `accuracy_worst_order`: in the order where it is lowest; `accuracy_every_order`:
      texts right in all orders; `accuracy_averaged`: of the label with the largest probability averaged over orders.
    - `fleiss_kappa`: agreement of the orders as raters, beyond chance.
    - `position_bias`: +1 if always the label listed first is answered, -1 if the last; over the given order and its
      rotations, in which every label takes every place equally often.

    Args:
        table: question, cluster, gold, order, names, template, edit, p_<label>, top.
        orders: of `emotion_variations.label_orders`.
    """
    answers = answered(table, labels)
    options = {"resamples": resamples, "seed": seed}
    varied = at_reference(answers, "order")
    grid = varied.pivot(index="question", columns="order", values="code")
    grid = grid[[order for order in orders if order in grid]].dropna().astype(int)
    facts = varied.drop_duplicates("question").set_index("question").loc[grid.index]
    gold = facts["gold_code"].to_numpy()
    clusters = facts["cluster"].tolist()
    codes = grid.to_numpy()  # [text, order]
    given, right = codes[:, :1], codes == gold[:, None]

    def mean(values: np.ndarray, constant: float = np.nan) -> Share:
        return mean_share(values.astype(float), clusters, constant=constant, **options)

    commonest = float(np.bincount(gold).max() / len(gold))
    plain = varied[varied["order"] == "given"]
    measures = {
        "accuracy": mean(right[:, 0], commonest),
        "accuracy_worst_order": mean(right[:, right.mean(0).argmin()], commonest),
        "accuracy_every_order": mean(right.all(1), commonest),
        "accuracy_averaged": mean(_averaged(varied, labels, list(grid.index)) == gold, commonest),
        "mass": mean_share(plain["mass"].to_numpy(), plain["cluster"], **options),
        "top": mean_share(plain["top"].to_numpy(), plain["cluster"], **options),
    }
    if codes.shape[1] > 1:
        flat = np.repeat(np.asarray(clusters), codes.shape[1] - 1).tolist()
        same = agreement(np.repeat(given, codes.shape[1] - 1, 1).ravel(), codes[:, 1:].ravel(), flat, **options)
        measures["flip_rate"] = replace(
            same, value=1 - same.value, low=1 - same.high, high=1 - same.low, constant=0.0, chance=1 - same.chance
        )
        measures["any_flip"] = mean((codes != given).any(1), 0.0)
        measures["fleiss_kappa"] = fleiss(codes, clusters, **options)
        places = _places(varied, labels, orders)
        measures["position_bias"] = mean_share(
            places["bias"].to_numpy(), places["cluster"].tolist(), constant=0.0, **options
        )
    return EmotionReliability(measures, _by_variation(answers, options), int((answers["code"] < 0).sum()))


def answered(table: pd.DataFrame, labels: Sequence[str]) -> pd.DataFrame:
    """Adds code, the number of the likeliest label (-1 where no label has any probability), and mass."""
    p = table[[f"p_{label}" for label in labels]].to_numpy()
    mass = p.sum(1)
    gold = table["gold"].map({label: i for i, label in enumerate(labels)}).to_numpy()
    return table.assign(code=np.where(mass > 0, p.argmax(1), -1), mass=mass, gold_code=gold)


def at_reference(answers: pd.DataFrame, but: str) -> pd.DataFrame:
    """Rows whose factors are all at their reference, `but` one."""
    keep = np.ones(len(answers), bool)
    for factor, level in EMOTION_REFERENCE.items():
        if factor != but:
            keep &= (answers[factor] == level).to_numpy()
    return answers[keep]


def _averaged(varied: pd.DataFrame, labels: Sequence[str], questions: list[str]) -> np.ndarray:
    """The label whose share of the labels' probability, averaged over orders, is largest."""
    columns = [f"p_{label}" for label in labels]
    shares = varied[columns].div(varied["mass"].where(varied["mass"] > 0), axis=0).fillna(0)
    return np.asarray(shares.groupby(varied["question"]).mean().loc[questions].to_numpy().argmax(1))


def _places(varied: pd.DataFrame, labels: Sequence[str], orders: Mapping[str, Sequence[int]]) -> pd.DataFrame:
    """Bias of the place that the answered label was listed in, averaged over the rotations of each text."""
    turned = [name for name in orders if name == "given" or name.startswith("rotation_")]
    rows = varied[varied["order"].isin(turned) & (varied["code"] >= 0)]
    place = np.array([list(orders[o]).index(c) for o, c in zip(rows["order"], rows["code"], strict=True)], dtype=int)
    biased = rows.assign(bias=place_bias(place, len(labels)))
    found = biased.groupby("question", sort=False).agg(
        bias=("bias", "mean"), orders=("order", "nunique"), cluster=("cluster", "first")
    )
    return found[found["orders"] == len(turned)]


def _by_variation(answers: pd.DataFrame, options: dict[str, int]) -> pd.DataFrame:
    rows = []
    for factor, reference in EMOTION_REFERENCE.items():
        varied = at_reference(answers, factor)
        base = varied[varied[factor] == reference].set_index("question")["code"]
        for level, part in varied.groupby(factor, sort=False):
            clusters = part["cluster"].tolist()
            right = (part["code"] == part["gold_code"]).to_numpy(dtype=float)
            found = {"accuracy": mean_share(right, clusters, **options)}
            if level != reference:
                before = base.loc[part["question"]].to_numpy()
                found["consistent"] = agreement(before, part["code"].to_numpy(), clusters, **options)
            for measure, share in found.items():
                rows.append({"level": "variation", "name": f"{factor}={level}", "measure": measure, **share.as_dict()})
    return pd.DataFrame(rows)
