"""Stage `cards`: what a reader asks of a causal feature: where it fires, what it writes, which features are alike."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from interp.analysis.effect_rows import candidate_effects
from interp.engine.capture import Captured
from interp.models.language_model import LanguageModel, token_pieces
from interp.run import tables
from interp.run.session import Session

PER_EMOTION = 10
"""Causal features of an emotion that get a card, those of largest effect first."""
CANDIDATES = 3
"""Candidates of largest effect that get one where an emotion has no causal feature."""
TEXTS = 5
TOKENS_SHOWN = 400
"""Tokens of a prompt that are kept, up to its end."""
BINS = 20
WORDS = 10
NEIGHBOURS = 5


def run(session: Session) -> None:
    """Writes `cards.json`: one entry per feature."""
    rows = session.role("discover")
    gold = session.gold(rows)
    chosen = _chosen(tables.read(session.folder / "effects.parquet"), session.labels)
    final = _mean_residual(session, rows)
    directions = {key: session.saes.directions(key[0], [key[1]])[0].float() for key in chosen}
    cards = []
    features = {layer: [f for k, f in chosen if k == layer] for layer in sorted({k for k, _ in chosen})}
    acts = {layer: session.features(layer).acts[rows][:, own].toarray() for layer, own in features.items()}
    texts = _top_texts(session, features, acts, rows)
    for layer in session.progress(list(features), "feature cards", "layer"):
        for column, feature in enumerate(features[layer]):
            direction = directions[layer, feature]
            cards.append(
                {
                    "layer": layer,
                    "feature": feature,
                    "norm": _short(direction.norm().item()),
                    "neuronpedia": session.saes.neuronpedia_url(layer, feature),
                    **_firing(acts[layer][:, column], gold, session.labels),
                    **_written(session, direction, final),
                    "neighbours": _neighbours(session, layer, feature, directions),
                    "texts": texts[layer][column],
                }
            )
    tables.write(session.folder / "cards.json", cards)


def _chosen(effects: pd.DataFrame, labels: Sequence[str]) -> list[tuple[int, int]]:
    """(layer, feature) in order: causal ones of every emotion, or its strongest candidates where it has none."""
    found = candidate_effects(effects).sort_values("effect", ascending=False, kind="stable")
    keys: set[tuple[int, int]] = set()
    for label in labels:
        own = found[found["emotion"] == label]
        causal = own[own["causal"].astype(bool)].head(PER_EMOTION)
        best = causal if len(causal) else own.head(CANDIDATES)
        keys |= {(int(layer), int(feature)) for layer, feature in zip(best["layer"], best["feature"], strict=True)}
    return sorted(keys)


def _mean_residual(session: Session, rows: np.ndarray) -> Float[Tensor, " d_model"]:
    """What reaches the final norm at the answer position, on average."""
    return session.residuals(session.model.n_layers - 1)[rows].float().mean(0)


def logit_weights(
    model: LanguageModel, direction: Float[Tensor, " d_model"], at: Float[Tensor, " d_model"]
) -> Float[Tensor, " vocabulary"]:
    """What a unit of a direction adds to every token's logit on the direct path: final norm linearised at `at`."""
    norm = model.final_norm
    weight = next(norm.parameters())
    x, d = at.to(weight.device, weight.dtype), direction.to(weight.device, weight.dtype)
    _, change, *_ = torch.func.jvp(norm, (x[None],), (d[None],))
    head = model.head_weight
    return (change[0].to(head.device, head.dtype) @ head.T).float().cpu()


def _firing(acts: np.ndarray, gold: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Histogram of the activations above zero, per emotion, with how many texts there are and on how many it fires."""
    edges = np.linspace(0, max(float(acts.max()), 1e-6), BINS + 1)
    emotions = []
    for i, label in enumerate(labels):
        own = acts[gold == i]
        counts, _ = np.histogram(own[own > 0], edges)
        emotions.append({"emotion": label, "n": len(own), "active": int((own > 0).sum()), "counts": counts.tolist()})
    return {"edges": [_short(e) for e in edges], "emotions": emotions}


def _written(session: Session, direction: Tensor, final: Tensor) -> dict[str, Any]:
    """Tokens that the feature pushes up and down most, and what it does to the answers' first tokens."""
    model = session.model
    weights = logit_weights(model, direction, final)
    up, down = weights.topk(WORDS), (-weights).topk(WORDS)

    def words(ids: Tensor) -> list[list[Any]]:
        return [[token_pieces(model.tokenizer, [i])[0], _short(weights[i].item())] for i in ids.tolist()]

    answers = weights[session.answers.first.cpu()]
    centred = answers - answers.mean()
    return {
        "promotes": words(up.indices),
        "suppresses": words(down.indices),
        "answers": [[label, _short(v)] for label, v in zip(session.labels, centred.tolist(), strict=True)],
    }


def _neighbours(
    session: Session, layer: int, feature: int, directions: dict[tuple[int, int], Tensor]
) -> list[dict[str, Any]]:
    """Features of nearest direction (cosine of decoder rows): of the same layer, and of the other cards."""
    own = directions[layer, feature]
    every = session.saes.directions(layer).float()
    cosines = (every @ own) / (every.norm(dim=-1) * own.norm()).clamp(min=1e-12)
    cosines[feature] = -torch.inf
    best = cosines.topk(min(NEIGHBOURS, len(cosines) - 1))
    found = [(layer, int(f), c) for f, c in zip(best.indices.tolist(), best.values.tolist(), strict=True)]
    others = [
        (k, f, torch.cosine_similarity(own, d.to(own.device), dim=0).item())
        for (k, f), d in directions.items()
        if k != layer
    ]
    found += sorted(others, key=lambda x: -x[2])[:NEIGHBOURS]
    return [{"layer": k, "feature": f, "cosine": _short(c)} for k, f, c in sorted(found, key=lambda x: -x[2])]


def _top_texts(
    session: Session, features: Mapping[int, Sequence[int]], acts: Mapping[int, np.ndarray], rows: np.ndarray
) -> dict[int, list[list[dict[str, Any]]]]:
    """Per layer and feature, the discover texts on which it fires most at the answer position.

    With every token's activation; a text that several features share passes the model once.
    """
    best: dict[int, list[list[int]]] = {}
    for layer, found in acts.items():
        order = np.argsort(-found, axis=0, kind="stable")[:TEXTS]
        best[layer] = [[int(i) for i in order[:, c] if found[i, c] > 0] for c in range(len(features[layer]))]
    wanted = sorted({i for of_layer in best.values() for own in of_layer for i in own})
    table = session.table.iloc[rows[wanted]]
    of_layer = {layer: {i for own in found for i in own} for layer, found in best.items()}
    index = {layer: torch.tensor(list(own), device=session.model.device) for layer, own in features.items()}
    tokens: dict[int, list[str]] = {}
    fired: dict[tuple[int, int], np.ndarray] = {}
    texts = table["text"].tolist()
    for chunk, captured in session.cached_texts(texts, "texts of features", everywhere=list(features)):
        for layer in features:
            for place, residual in zip(chunk, _by_example(captured, layer), strict=True):
                if wanted[place] in of_layer[layer]:
                    found = session.saes.encode_features(layer, residual, index[layer]).float().cpu().numpy()
                    found[0] = 0  # the first token is a constant far from all others, which SAEs are not trained on
                    fired[layer, wanted[place]] = found[-TOKENS_SHOWN:]
        for place in chunk:
            prompt = session.prompts([texts[place]])
            ids = session.model.encode(prompt, room=int(session.answers.offsets.max()))[0].ids
            tokens[wanted[place]] = token_pieces(session.model.tokenizer, ids)[-TOKENS_SHOWN:]
    known = dict(zip(wanted, table.to_dict("records"), strict=True))
    return {
        layer: [
            [
                {
                    **{name: str(known[i][name]) for name in ("id", "corpus", "gold", "predicted")},
                    "tokens": tokens[i],
                    "activations": [_short(a) for a in fired[layer, i][:, column]],
                }
                for i in own
            ]
            for column, own in enumerate(found)
        ]
        for layer, found in best.items()
    }


def _by_example(captured: Captured, layer: int) -> Iterator[Float[Tensor, "token d_model"]]:
    """Residuals at all positions of each prompt, in the order of the capture, without padding."""
    found: dict[int, Tensor] = {}
    for cache in captured.caches:
        for column, example in enumerate(cache.examples):
            found[example] = cache.everywhere[layer][column][cache.mask[column]]
    return (found[i] for i in range(len(captured.n_tokens)))


def _short(value: float) -> float:
    """Four significant digits."""
    return float(f"{value:.4g}")
