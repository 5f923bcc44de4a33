"""Stage `cards`: what a reader asks of a causal feature: where it fires, what it writes, which features are alike."""

from dataclasses import asdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from interp.analysis.cards import (
    FeatureCard,
    FiringText,
    Key,
    Weighted,
    features_with_cards,
    firing,
    logit_weights,
    neighbours,
    short,
    strongest_examples,
)
from interp.models.language_model import token_pieces
from interp.run import tables
from interp.run.session import Session

TOKENS_SHOWN = 400
"""Tokens of a prompt that are kept, up to its end."""
WORDS = 10


def run(session: Session) -> None:
    """Writes `cards.json`: one entry per feature."""
    rows, saes = session.role("discover"), session.saes
    gold = session.gold(rows)
    keys = features_with_cards(tables.read(session.folder / "effects.parquet"), session.labels)
    final = session.residuals(session.model.n_layers - 1)[rows].float().mean(0)
    directions = {(layer, feature): saes.directions(layer, [feature])[0].float() for layer, feature in keys}
    layers = {layer: [f for k, f in keys if k == layer] for layer, _ in keys}
    acts = {layer: session.features(layer).acts[rows][:, features].toarray() for layer, features in layers.items()}
    texts = _texts(session, layers, acts, rows)
    cards = []
    for layer in session.progress(list(layers), "feature cards", "layer"):
        of_layer = saes.directions(layer).float()
        for column, feature in enumerate(layers[layer]):
            direction = directions[layer, feature]
            card = FeatureCard(
                layer=layer,
                feature=feature,
                norm=short(direction.norm().item()),
                neuronpedia=saes.neuronpedia_url(layer, feature),
                **firing(acts[layer][:, column], gold, session.labels)._asdict(),
                **_written(session, logit_weights(session.model, direction, final))._asdict(),
                neighbours=neighbours((layer, feature), of_layer, directions),
                texts=texts[layer, feature],
            )
            cards.append(asdict(card))
    tables.write(session.folder / "cards.json", cards)


class _Written(NamedTuple):
    """What a feature adds to tokens' logits: most and least, and to the answers' first tokens."""

    promotes: list[Weighted]
    suppresses: list[Weighted]
    answers: list[Weighted]


def _written(session: Session, weights: Tensor) -> _Written:
    def words(ids: Tensor) -> list[Weighted]:
        return [(token_pieces(session.model.tokenizer, [i])[0], short(weights[i].item())) for i in ids.tolist()]

    answers = weights[session.answers.first.cpu()]
    centred = (answers - answers.mean()).tolist()
    return _Written(
        words(weights.topk(WORDS).indices),
        words((-weights).topk(WORDS).indices),
        [(label, short(value)) for label, value in zip(session.labels, centred, strict=True)],
    )


def _texts(
    session: Session, layers: dict[int, list[int]], acts: dict[int, np.ndarray], rows: np.ndarray
) -> dict[Key, list[FiringText]]:
    """By layer and feature, the discover texts on which it fires most at the answer position.

    With every token's activation; a text that several features share passes the model once.
    """
    best = {layer: strongest_examples(of_layer) for layer, of_layer in acts.items()}
    shown = {layer: {i for places in of_layer for i in places} for layer, of_layer in best.items()}
    wanted = sorted(set().union(*shown.values()))
    table = session.table.iloc[rows[wanted]]
    tokens: dict[int, list[str]] = {}
    fired: dict[Key, np.ndarray] = {}
    for chunk, captured in session.cached_texts(table["text"].tolist(), "texts of features", everywhere=list(layers)):
        for cache in captured.caches:
            for column, example in enumerate(cache.examples):
                i, mask = wanted[chunk[example]], cache.mask[column]
                for layer in (k for k in layers if i in shown[k]):
                    index = torch.tensor(layers[layer], device=session.model.device)
                    found = session.saes.encode_features(layer, cache.everywhere[layer][column][mask], index)
                    found[0] = 0  # the first token is a constant far from all others, which SAEs are not trained on
                    fired[layer, i] = found[-TOKENS_SHOWN:].float().cpu().numpy()
        for place in chunk:
            prompt = session.prompts([table["text"].iloc[place]])
            ids = session.model.encode(prompt, room=int(session.answers.offsets.max()))[0].ids
            tokens[wanted[place]] = token_pieces(session.model.tokenizer, ids)[-TOKENS_SHOWN:]
    facts = table[["id", "corpus", "gold", "predicted"]].astype(str).to_dict("records")
    known = dict(zip(wanted, facts, strict=True))
    return {
        (layer, feature): [
            FiringText(**known[i], tokens=tokens[i], activations=[short(a) for a in fired[layer, i][:, column]])
            for i in best[layer][column]
        ]
        for layer, features in layers.items()
        for column, feature in enumerate(features)
    }
