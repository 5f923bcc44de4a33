"""How well first-order attribution orders features by their exact effects, on the bundled model."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from benchmarks.results import hardware, write
from interp import capture, load_corpus, load_model, load_saes
from interp.engine import FeatureEdits, answer_gradients, attribute, edited_logits
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.texts.emotions import EKMAN
from interp.texts.prompts import build_prompts

EXAMPLES = 96


def by_layer(model: LanguageModel, saes: SaeStack, n_examples: int) -> list[dict[str, Any]]:
    """Per layer, how well attribution orders all active (example, feature) pairs by their exact effects."""
    examples = load_corpus("vignettes", split="discover", limit=n_examples)
    targets = torch.tensor([EKMAN.index(e.gold) for e in examples])
    captured = capture(model, build_prompts([e.text for e in examples], EKMAN), answers=EKMAN, keep_cache=True)
    gradients = answer_gradients(model, captured, targets)
    clean = captured.answer_log_probabilities.gather(1, targets[:, None])[:, 0]
    rows = []
    for layer in saes.layers:
        proposed = attribute(model, saes, captured, layer=layer, targets=targets, gradients=gradients)
        acts = saes.encode(layer, captured.residuals[layer])
        example, feature = acts.nonzero(as_tuple=True)
        edits = FeatureEdits(torch.full_like(example, layer), example, feature, -acts[example, feature])
        edited = edited_logits(model, saes, captured, edits).log_softmax(-1)
        exact = (clean[example] - edited.gather(1, targets[example, None])[:, 0]).numpy()
        first_order = proposed[example, feature].numpy()
        within = [spearmanr(first_order[example == i], exact[example == i])[0] for i in range(len(examples))]
        strongest = np.argsort(-exact)[: len(exact) // 20]
        kept = np.isin(strongest, np.argsort(-first_order)[: len(exact) // 10]).mean()
        rows.append(
            {
                "layer": layer,
                "pairs": len(exact),
                "spearman": float(spearmanr(first_order, exact)[0]),
                "spearman_within_example": float(np.mean(within)),
                "strongest_5_percent_among_proposed_10_percent": float(kept),
                "largest_effect": float(exact.max()),
            }
        )
    return rows


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as Markdown."""
    lines = [
        "| layer | pairs | Spearman, all pairs | mean Spearman within an example"
        " | strongest 5 % of effects found in the top 10 % of attribution | largest effect (nats) |",
        "|---|---|---|---|---|---|",
    ]
    return lines + [
        f"| {r['layer']} | {r['pairs']} | {r['spearman']:.3f} | {r['spearman_within_example']:.3f}"
        f" | {r['strongest_5_percent_among_proposed_10_percent']:.2f} | {r['largest_effect']:.2f} |"
        for r in rows
    ]


def run() -> None:
    """Writes results/attribution.md and .json."""
    model = load_model("tiny")
    rows = by_layer(model, load_saes("tiny", model), EXAMPLES)
    title = (
        f"# Attribution against exact effects\n\n{hardware()}. Bundled model, {EXAMPLES} vignettes, every active"
        " feature at the answer position, effect on the gold emotion's answer log-probability.\n"
    )
    write("attribution", rows, [title, *table(rows)])
