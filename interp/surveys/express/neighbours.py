"""Words that a lexicon lacks, by their nearest lexicon word in a model's input embeddings."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from interp.models.language_model import LanguageModel
from interp.surveys.express.lexicon import Lexicon, Neighbours

LEAST_COSINE = 0.5


def embedding_neighbours(model: LanguageModel, lexicon: Lexicon, *, least: float = LEAST_COSINE) -> Neighbours:
    """A fall-back for `Lexicon.lookup`: the lexicon word of largest cosine, or None below `least`.

    A word is the mean of its tokens' input embeddings, as it stands after a space, centred on the lexicon's mean.
    """
    raw = _embed(model, lexicon.words)
    centre = raw.mean(0)
    known = torch.nn.functional.normalize(raw - centre, dim=-1)

    def neighbours(words: Sequence[str]) -> list[str | None]:
        own = torch.nn.functional.normalize(_embed(model, words) - centre, dim=-1)
        best, place = (own @ known.T).max(-1)
        return [lexicon.words[p] if b >= least else None for b, p in zip(best.tolist(), place.tolist(), strict=True)]

    return neighbours


@torch.no_grad()
def _embed(model: LanguageModel, words: Sequence[str]) -> Float[Tensor, "word d_model"]:
    table = model.hf.get_input_embeddings().weight
    found = model.tokenization.continuations("", [f" {word}" for word in words])
    return torch.stack([table[torch.tensor(word.ids, device=table.device)].float().mean(0) for word in found])
