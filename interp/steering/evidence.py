"""What a model's own words say of the emotion of a text, before anybody has labelled one."""

import csv
from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.models.language_model import LanguageModel
from interp.resources import data_file

KIN = 4
"""Tokens nearest to a label's own in the unembedding that are read beside it."""
KIN_AMONG = 256
"""Nearest tokens of a label among which those are looked for that are nearer to it than to any other label."""

Array = np.ndarray


class Evidence(NamedTuple):
    """Of every text, how much three label-free readings of the last residual speak for each label.

    Each column is standardised over the texts: what a model says whatever it reads drops out, which is the calibration
    of Zhao et al. 2021 with texts of the domain in the place of empty ones.

    Attributes:
        own: scores of the labels themselves, as they are asked for.
        words: mean standardised logit of words for the emotion (`label_words.csv`); a label without any: its kin.
        kin: the same of the label's token and those nearest to it in the unembedding, so that any label has some.
    """

    own: Float[Array, "text label"]
    words: Float[Array, "text label"]
    kin: Float[Array, "text label"]


class EvidenceTokens(NamedTuple):
    """Vocabulary ids that are read for each label."""

    words: Sequence[Int[Tensor, " _"]]
    kin: Sequence[Int[Tensor, " _"]]


@cache
def label_words() -> Mapping[str, Sequence[str]]:
    """Words for each of many emotions, written for this project."""
    rows = list(csv.reader(data_file("label_words.csv").read_text(encoding="utf-8").splitlines()))[1:]
    return {label: words.split() for label, words in rows}


def evidence_tokens(model: LanguageModel, labels: Sequence[str]) -> EvidenceTokens:
    """Single tokens that stand for each label in a running text."""
    kin = _kin(model, [_single(model, label) or _begin(model, label) for label in labels])
    of = label_words()
    words = [
        torch.tensor(sorted({token for word in of.get(label.casefold(), ()) if (token := _single(model, word))}))
        for label in labels
    ]
    return EvidenceTokens([w if len(w) else k for w, k in zip(words, kin, strict=True)], kin)


def evidence(
    model: LanguageModel,
    own: Float[Array, "text label"],
    last: Float[Tensor, "text d_model"],
    tokens: EvidenceTokens,
) -> Evidence:
    """Of texts as the model passed them; of two at least, or nothing can be standardised.

    Args:
        own: its scores of the labels, centred over labels.
        last: residuals of the last layer at the answer position.
    """
    return Evidence(standardised(own), *(_read(model, last, ids) for ids in tokens))


def standardised(values: Float[Array, "text column"]) -> Float[Array, "text column"]:
    """Columns of mean 0 and variance 1; those that never change are 0."""
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.where(spread > 0, spread, 1))


@torch.no_grad()
def _read(
    model: LanguageModel, last: Float[Tensor, "text d_model"], tokens: Sequence[Int[Tensor, " _"]]
) -> Float[Array, "text label"]:
    every = torch.cat(list(tokens))
    logits = standardised(model.unembed(last, every).double().cpu().numpy())
    ends = np.cumsum([len(ids) for ids in tokens])[:-1]
    return standardised(np.stack([part.mean(1) for part in np.split(logits, ends, axis=1)], axis=1))


def _single(model: LanguageModel, word: str) -> int | None:
    """A word's token inside a text; None where it has several."""
    ids = model.tokenization.continuations("", [f" {word}"])[0].ids
    return ids[0] if len(ids) == 1 else None


def _begin(model: LanguageModel, word: str) -> int:
    return model.tokenization.continuations("", [f" {word}"])[0].ids[0]


def _kin(model: LanguageModel, tokens: Sequence[int]) -> list[Int[Tensor, " _"]]:
    """Each label's token and the `KIN` nearest (cosine, centred unembedding) that no other label is nearer to."""
    head = model.head_weight.float()
    mean = head.mean(0)
    own = torch.nn.functional.normalize(head[list(tokens)] - mean, dim=-1)
    cosines = ((head - mean) @ own.T) / (head - mean).norm(dim=-1, keepdim=True).clamp_min(1e-12)
    kin = []
    for label in range(len(tokens)):
        near = cosines[:, label].topk(min(KIN_AMONG, len(cosines))).indices
        mine = near[cosines[near].argmax(1) == label][: 1 + KIN]
        kin.append(torch.unique(torch.cat([torch.tensor([tokens[label]]), mine.cpu()])))
    return kin
