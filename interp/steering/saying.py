"""Which feature directions say a label: measured by adding them, and combined so that each label is said alone."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.analysis.cards import logit_weights
from interp.engine.capture import Captured
from interp.engine.variants import answers_given
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack

PROPOSED, WRITERS = 12, 4
"""Features a label that are tried, by what they write on the direct path, and that are kept, by what they do."""
STEP = 0.1
"""Length of a tried direction, as a share of the layer's mean residual norm."""
LONGEST = 0.5
"""Length of what a coupling adds, as a share of the mean residual norm, on average over texts, at most."""

Array = np.ndarray


class Responses(NamedTuple):
    """What directions do to the labels' scores where they are added: exact effects per unit of length.

    Attributes:
        mean: over texts, the change of each label's score.
        doubt: standard error of the mean.
    """

    mean: Float[Array, "direction label"]
    doubt: Float[Array, "direction label"]


class Saying(NamedTuple):
    """Directions that say each label: `shares[label] @ decoder[writers]` raises its score by one nat, about.

    Attributes:
        effects: what a writer's unit of activation adds to each label's score, measured.
        length: of what is added, on average over texts.
    """

    writers: Int[Array, " writer"]
    shares: Float[Array, "label writer"]
    effects: Float[Array, "writer label"]
    length: float


def proposed(
    model: LanguageModel, saes: SaeStack, layer: int, at: Float[Tensor, " d_model"], first: Int[Tensor, " label"]
) -> Int[Array, " feature"]:
    """By label, the features whose directions raise its first token most over the others', on the direct path.

    Args:
        at: the mean residual after the last layer, where the final norm is linearised.
    """
    directions = torch.nn.functional.normalize(saes.directions(layer).float(), dim=-1)
    weights = logit_weights(model, directions, at, first)
    writes = weights - weights.mean(1, keepdim=True)
    return np.unique(writes.topk(min(PROPOSED, len(writes)), dim=0).indices.numpy())


def responses(
    model: LanguageModel,
    captured: Sequence[Captured],
    layer: int,
    directions: Float[Tensor, "direction d_model"],
) -> Responses:
    """Adds each direction, `STEP` of a residual long, at the answer position of some texts, with the engine's check."""
    unit = torch.nn.functional.normalize(directions.float(), dim=-1)
    changes: list[Array] = []
    for part in captured:
        x = part.residuals[layer].float()
        length = STEP * x.norm(dim=-1).mean()
        rows = (x[:, None] + length * unit.to(x.device)).to(part.residuals.dtype)
        scores = answers_given(model, part, layer, rows)
        changes.append(((scores - part.answer_logits[:, None]) / length).double().cpu().numpy())
    every = np.concatenate(changes)
    return Responses(every.mean(0), every.std(0) / np.sqrt(len(every)))


def spoken(
    candidates: Int[Array, " feature"],
    measured: Responses,
    directions: Float[Array, "feature d_model"],
    amounts: Float[Array, "text label"],
    residual_norm: float,
    *,
    keep: int | None = WRITERS,
    longest: float | None = None,
) -> Saying:
    """Writers, and how they are combined to say each label and no other, within a length.

    Of the candidates each label keeps those whose measured effect on it, over the other labels' mean, is surest (mean
    less two standard errors). Shares solve `shares @ effects = 1` in the least squares sense with a pull towards short
    directions, the weakest pull for which what is added stays below `LONGEST` of the residual on average.

    Args:
        directions: decoder rows of the candidates.
        amounts: nats of each label that will be added, by text.
        keep: writers a label; None: all candidates.
        longest: another length on average; None: `LONGEST` of the residual.
    """
    norms = np.linalg.norm(directions, axis=1)
    if keep is None:
        chosen = np.arange(len(candidates))
    else:
        relative = measured.mean - measured.mean.mean(1, keepdims=True)
        sure = relative - 2 * measured.doubt
        chosen = np.unique(np.argsort(-sure, axis=0, kind="stable")[:keep])
    rows = directions[chosen]
    effects = measured.mean[chosen] * norms[chosen, None]
    gram = rows @ rows.T
    scale = np.trace(effects @ effects.T) / np.trace(gram)
    pulls = scale * np.logspace(-6, 3, 28)
    for pull in pulls:
        # Opposite or repeated directions leave the system singular: of all solutions the smallest is wanted.
        shares = np.linalg.lstsq(effects @ effects.T + pull * gram, effects, rcond=1e-8)[0].T
        length = float(np.linalg.norm(amounts @ shares @ rows, axis=1).mean())
        if length <= (LONGEST * residual_norm if longest is None else longest):
            break
    return Saying(candidates[chosen], shares, effects, length)
