"""Stage `cards`: what a reader asks of a causal feature: where it fires, what it writes, which features are alike."""

from dataclasses import asdict
from typing import Any

from torch import Tensor

from interp.analysis.cards import (
    FeatureCard,
    Weighted,
    bin_edges,
    features_with_cards,
    firing,
    logit_weights,
    neighbours,
    short,
)
from interp.models.language_model import token_pieces
from interp.run import tables
from interp.run.firing_texts import firing_texts
from interp.run.session import Session
from interp.run.stage import stage

WORDS = 10


@stage("cards", reads=("examples.parquet", "activations", "features", "effects.parquet"), writes=("cards.json",))
def run(session: Session) -> None:
    """Writes `cards.json`: one entry per feature."""
    rows, saes = session.role("discover"), session.saes
    gold = session.gold(rows)
    keys = features_with_cards(tables.read(session.folder / "effects.parquet"), session.labels)
    final = session.residuals(session.model.n_layers - 1)[rows].float().mean(0)
    directions = {(layer, feature): saes.directions(layer, [feature])[0].float() for layer, feature in keys}
    layers = {layer: [f for k, f in keys if k == layer] for layer, _ in keys}
    acts = {layer: session.features(layer).acts[rows][:, features].toarray() for layer, features in layers.items()}
    texts = firing_texts(session, layers, acts, rows)

    def of_layer(layer: int) -> list[dict[str, Any]]:
        cards, every = [], saes.directions(layer).float()
        for column, feature in enumerate(layers[layer]):
            direction, fires = directions[layer, feature], acts[layer][:, column]
            weights = logit_weights(session.model, direction, final)
            answers = weights[session.answers.first.cpu()]
            card = FeatureCard(
                layer=layer,
                feature=feature,
                norm=short(direction.norm().item()),
                neuronpedia=saes.neuronpedia_url(layer, feature),
                edges=[short(edge) for edge in bin_edges(fires)],
                emotions=firing(fires, gold, session.labels),
                promotes=_words(session, weights, weights.topk(WORDS).indices),
                suppresses=_words(session, weights, (-weights).topk(WORDS).indices),
                answers=list(zip(session.labels, map(short, (answers - answers.mean()).tolist()), strict=True)),
                neighbours=neighbours((layer, feature), every, directions),
                texts=texts[layer, feature],
            )
            cards.append(asdict(card))
        return cards

    found = session.each_layer(of_layer, list(layers), "feature cards")
    tables.write(session.folder / "cards.json", [card for cards in found for card in cards])


def _words(session: Session, weights: Tensor, ids: Tensor) -> list[Weighted]:
    return [(token_pieces(session.model.tokenizer, [i])[0], short(weights[i].item())) for i in ids.tolist()]
