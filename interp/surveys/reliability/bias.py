"""Position bias traced to features: which fire differently between label orders, what they do, and without them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import false_discovery_control, wilcoxon
from torch import Tensor

from interp.defaults import RESAMPLES
from interp.engine import ablate, answers_under, attribute
from interp.engine.capture import Captured, capture
from interp.errors import UserError
from interp.files.folder import write_json, write_table
from interp.models.language_model import LanguageModel
from interp.reporting import counted
from interp.saes.loading import saes_record
from interp.saes.stack import SaeStack
from interp.statistics import Bootstrap, Estimate
from interp.steering.steering import Gains, Provenance, Steering
from interp.texts.examples import Example
from interp.texts.prompts import build_prompts

TEMPLATE = "options"
CANDIDATES = 12
"""Features per layer whose effect is computed exactly."""
SIZES = (1, 2, 4, 8, 16)
Q_LEVEL = 0.05
LEAST_TEXTS = 20


@dataclass(frozen=True)
class Rotations:
    """Texts under the rotations of the label list, one capture; rows are texts, all rotations of one together."""

    captured: Captured
    first: Int[Tensor, " row"]
    last: Int[Tensor, " row"]
    n_orders: int

    def preference(self, logits: Float[Tensor, "row answer"]) -> Float[np.ndarray, " text"]:
        """Log-probability of the label listed first less that of the last one, mean over rotations (nats).

        Every label takes every place equally often, so that only places can make it differ from zero.
        """
        rows = torch.arange(len(logits), device=logits.device)
        difference = logits[rows, self.first.to(logits.device)] - logits[rows, self.last.to(logits.device)]
        return difference.float().view(-1, self.n_orders).mean(1).cpu().numpy()


@dataclass(frozen=True)
class Bias:
    """What was found.

    Attributes:
        features: layer, feature, firing_difference, q, effect, ci_low, ci_high, n, chosen. Effect: how much of the
            preference for the first place goes when the feature is removed (nats).
        before, after, change: the preference on texts that had no part in finding or choosing, and its paired change.
    """

    features: pd.DataFrame
    steering: Steering
    before: Estimate
    after: Estimate
    change: Estimate

    def as_dict(self) -> dict[str, Any]:
        parts = {"before": self.before, "after": self.after, "change": self.change}
        facts = {name: {"value": e.value, "low": e.ci_low, "high": e.ci_high, "n": e.n} for name, e in parts.items()}
        return facts | {"features": int(self.features["chosen"].sum())}


def ask(model: LanguageModel, examples: Sequence[Example], labels: Sequence[str]) -> Rotations:
    """Every text under every rotation of the labels."""
    n = len(labels)
    orders = [[(k + i) % n for i in range(n)] for k in range(n)]
    prompts = [
        build_prompts([e.text], [labels[i] for i in order], template=TEMPLATE)[0] for e in examples for order in orders
    ]
    captured = capture(model, prompts, answers=labels, keep_cache=True)
    first = torch.tensor([order[0] for order in orders] * len(examples))
    last = torch.tensor([order[-1] for order in orders] * len(examples))
    return Rotations(captured, first, last, n)


def find_bias(
    model: LanguageModel,
    saes: SaeStack,
    examples: Sequence[Example],
    labels: Sequence[str],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Bias:
    """Finds features on a third of the texts, chooses how many to remove on another, and measures on the last.

    Args:
        labels: the options listed in the prompt (template `options`), at least two.

    Raises:
        UserError: fewer than `LEAST_TEXTS` texts, or two labels.
    """
    if len(examples) < LEAST_TEXTS or len(labels) < 2:
        raise UserError(f"Position bias needs at least {LEAST_TEXTS} texts and two labels; got {len(examples)} texts.")
    order = np.random.default_rng(seed).permutation(len(examples))
    parts = [ask(model, [examples[i] for i in order[k::3]], labels) for k in range(3)]
    found = _features(model, saes, parts[0], resamples, seed)
    steering, n_chosen = _choose(model, saes, parts[1], found)
    held = parts[2]
    plain = held.preference(held.captured.answer_logits)
    steered = held.preference(answers_under(model, held.captured, steering.edits(saes)))
    bootstrap = Bootstrap(range(len(plain)), resamples, seed)
    found["chosen"] = np.arange(len(found)) < n_chosen
    estimates = [bootstrap.mean(values) for values in (plain, steered, np.abs(steered) - np.abs(plain))]
    return Bias(found, steering, *estimates)


def write_bias(bias: Bias, model: LanguageModel, saes: SaeStack, saes_options: Mapping[str, Any], out: Path) -> None:
    """`features.parquet`, `bias.json` and the steering, which `interp reliability run --steering` takes."""
    out.mkdir(parents=True, exist_ok=True)
    write_table(out / "features.parquet", bias.features)
    write_json(out / "bias.json", bias.as_dict())
    provenance: Provenance = {
        "model": {"name": model.name, "identity": model.identity},
        "saes": saes_record(saes, saes_options),
        "setting": f"{bias.as_dict()['features']} features of position bias removed",
    }
    Steering(bias.steering.method, bias.steering.gains, positions="answer", provenance=provenance).save(out)


def _features(model: LanguageModel, saes: SaeStack, asked: Rotations, resamples: int, seed: int) -> pd.DataFrame:
    """Features that fire differently between an order and its half-turn, those that attribution likes best, exactly."""
    captured = asked.captured
    plain = asked.preference(captured.answer_logits)
    bootstrap = Bootstrap(range(len(plain)), resamples, seed)
    lines = []
    for layer in counted(saes.layers, "position bias", "layer", total=len(saes.layers)):
        acts = saes.encode(layer, captured.residuals[layer]).view(len(plain), asked.n_orders, -1)
        turned = (acts[:, 0] - acts[:, asked.n_orders // 2]).float().cpu().numpy()
        q = _paired_q(turned)
        towards, away = (attribute(model, saes, captured, layer=layer, targets=t) for t in (asked.first, asked.last))
        share = (towards - away).mean(0).cpu().numpy()
        ranked = [int(f) for f in np.argsort(-np.abs(share), kind="stable") if q[f] < Q_LEVEL][:CANDIDATES]
        if not ranked:
            continue
        logits = ablate(model, saes, captured, layer=layer, features=ranked)
        for column, feature in enumerate(ranked):
            effect = bootstrap.mean(plain - asked.preference(logits[:, column]))
            lines.append(
                {"layer": layer, "feature": feature, "firing_difference": float(turned[:, feature].mean())}
                | {"q": float(q[feature]), **effect.row("effect")}
            )
    columns = ["layer", "feature", "firing_difference", "q", "effect", "ci_low", "ci_high", "n"]
    table = pd.DataFrame(lines, columns=columns)
    direction = np.sign(plain.mean())
    # Those that make the bias, beyond doubt, come first.
    makes = np.where(direction > 0, table["ci_low"] > 0, table["ci_high"] < 0)
    return (
        table.assign(makes=makes, size=table["effect"] * direction)
        .sort_values(["makes", "size"], ascending=False, kind="stable")
        .drop(columns="size")
        .reset_index(drop=True)
    )


def _paired_q(difference: Float[np.ndarray, "text feature"]) -> Float[np.ndarray, " feature"]:
    """Wilcoxon's signed ranks with Benjamini-Hochberg over the features that ever differ; 1 for the others."""
    q = np.ones(difference.shape[1])
    tested = np.flatnonzero((difference != 0).sum(0) >= 6)
    if len(tested):
        p = wilcoxon(difference[:, tested], axis=0, zero_method="zsplit").pvalue
        q[tested] = false_discovery_control(np.nan_to_num(p, nan=1.0))
    return q


def _choose(model: LanguageModel, saes: SaeStack, asked: Rotations, found: pd.DataFrame) -> tuple[Steering, int]:
    """As many features removed, the strongest first, as leave the least preference on the second third; maybe none."""
    plain = asked.preference(asked.captured.answer_logits)
    best, least, n_best = Steering("none"), float(np.abs(plain.mean())), 0
    makers = found[found["makes"]]
    for size in (s for s in SIZES if s <= len(makers)):
        gains = {
            int(layer): Gains(torch.tensor(part["feature"].tolist()), torch.zeros(len(part)))
            for layer, part in makers.head(size).groupby("layer")
        }
        steering = Steering("position_bias", gains, positions="answer")
        left = float(np.abs(asked.preference(answers_under(model, asked.captured, steering.edits(saes))).mean()))
        if left < least:
            best, least, n_best = steering, left, size
    return best, n_best
