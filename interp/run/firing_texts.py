"""The texts of a run on which features fire most, token by token."""

import numpy as np
import torch

from interp.analysis.cards import FiringText, Key, short, strongest_examples
from interp.engine.capture import Captured
from interp.models.language_model import token_pieces
from interp.run.session import Session

TOKENS_SHOWN = 400
"""Tokens of a prompt that are kept, up to its end."""


def firing_texts(
    session: Session, layers: dict[int, list[int]], acts: dict[int, np.ndarray], rows: np.ndarray
) -> dict[Key, list[FiringText]]:
    """By layer and feature, the discover texts on which it fires most at the answer position.

    With every token's activation; a text that several features share passes the model once.
    """
    best = {layer: strongest_examples(of_layer) for layer, of_layer in acts.items()}
    shown = {layer: {i for places in of_layer for i in places} for layer, of_layer in best.items()}
    wanted = sorted(set().union(*shown.values()))
    table = session.table.iloc[rows[wanted]]
    texts = table["text"].tolist()
    tokens: dict[int, list[str]] = {}
    fired: dict[Key, np.ndarray] = {}

    def firing(captured: Captured, chunk: list[int]) -> dict[Key, np.ndarray]:
        fired: dict[Key, np.ndarray] = {}
        for cache in captured.caches:
            for column, example in enumerate(cache.examples):
                i, mask = wanted[chunk[example]], cache.mask[column]
                for layer in (k for k in layers if i in shown[k]):
                    index = torch.tensor(layers[layer], device=session.model.device)
                    found = session.saes.encode_features(layer, cache.everywhere[layer][column][mask], index)
                    found[0] = 0  # the first token is a constant far from all others, which SAEs are not trained on
                    fired[layer, i] = found[-TOKENS_SHOWN:].float().cpu().numpy()
        return fired

    for chunk, of_chunk in session.over(texts, firing, "texts of features", everywhere=list(layers)):
        fired |= of_chunk
        for place in chunk:
            ids = session.model.encode(session.prompts([texts[place]]), room=int(session.answers.offsets.max()))[0].ids
            tokens[wanted[place]] = token_pieces(session.model.tokenizer, ids)[-TOKENS_SHOWN:]
    facts = table[["id", "corpus", "gold", "predicted"]].astype(str).to_dict("records")
    known = dict(zip(wanted, facts, strict=True))
    return {
        (layer, feature): [
            FiringText(**known[i], tokens=tokens[i], activations=list(map(short, fired[layer, i][:, column].tolist())))
            for i in best[layer][column]
        ]
        for layer, features in layers.items()
        for column, feature in enumerate(features)
    }
