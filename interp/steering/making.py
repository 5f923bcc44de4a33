"""Steerings from texts of one's own, without a run: from a few with labels, or from two kinds of text."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.passes import residuals_after
from interp.errors import UserError
from interp.models.language_model import LanguageModel
from interp.saes.coordinates import Coordinates
from interp.saes.loading import saes_record
from interp.saes.stack import SaeStack
from interp.steering.coupled import Few, couple
from interp.steering.positions import Positions
from interp.steering.steering import ModelRecord, Provenance, Steering
from interp.texts.prompts import build_prompts

FEWEST = 12
"""Texts, labelled or not, without which nothing can be standardised."""
TEXTS_AT_ONCE = 16


def from_examples(
    model: LanguageModel,
    texts: Sequence[str],
    labels: Sequence[str],
    *,
    unlabelled: Sequence[str] = (),
    saes: SaeStack | None = None,
    template: str = "default",
) -> Steering:
    """A coupling that makes the model answer with the labels as these texts have them (see `interp.steering.coupled`).

    It acts at the last token of a prompt in the same template, as `build_prompts(texts, labels)` makes it. Nothing is
    chosen: whether it helps, on texts that it has not seen, is for you to measure, or for `interp run`.

    Args:
        labels: one for each text; the different ones, in the order in which they come first, are the answers.
        unlabelled: more texts of the kind, which cost no labelling and help nearly as much.
        saes: features that read and say; None: the whole residual is read, and directions are added.

    Raises:
        UserError: not a label for each text, fewer than two different ones, an empty text, or fewer than 12 texts.
    """
    texts, unlabelled, answers = _texts(texts), _texts(unlabelled), list(dict.fromkeys(labels))
    if len(texts) != len(labels):
        raise UserError(f"{len(texts)} texts and {len(labels)} labels; give one label for each text.")
    if len(answers) < 2:
        raise UserError(f"The labels are all {answers[:1] or 'missing'}; give texts of at least two.")
    if len(texts) + len(unlabelled) < FEWEST:
        n = len(texts) + len(unlabelled)
        raise UserError(f"{n} texts are too few, {FEWEST} the fewest; some may go in without a label, as `unlabelled`.")
    stack = Coordinates(model.n_layers, model.d_model, model.device) if saes is None else saes
    few = Few.of(model, stack, build_prompts([*texts, *unlabelled], answers, template=template), answers)
    gold = np.array([answers.index(label) for label in labels])
    made_with = Provenance(
        model=_record(model),
        saes=saes_record(stack, {"name": stack.name}),
        labels=answers,
        n_fit=len(texts),
        n_unlabelled=len(unlabelled),
    )
    return replace(couple(few, np.arange(len(texts)), gold).steering, positions="answer", provenance=made_with)


def from_difference(
    model: LanguageModel,
    positive: Sequence[str],
    negative: Sequence[str],
    *,
    layer: int | None = None,
    positions: Positions = "all",
) -> Steering:
    """A vector from one kind of text to another: contrastive activation addition (Panickssery et al. 2024).

    The mean residual of the positive texts at their last token, less that of the negative ones. `scaled` makes it
    stronger or turns it round; `interp.steering.export.export` writes it for llama.cpp and others.

    Args:
        layer: whose residual is steered; None: the middle one.
        positions: where it acts.

    Raises:
        UserError: no text on one side, an empty one, or a layer that the model does not have.
    """
    at = (model.n_layers - 1) // 2 if layer is None else layer
    if not 0 <= at < model.n_layers:
        raise UserError(f"There is no layer {at}; {model.name} has 0 to {model.n_layers - 1}.")
    sides = [_texts(positive), _texts(negative)]
    if not all(sides):
        raise UserError("A difference needs texts on both sides; one of them has none.")
    toward, away = (_last_residuals(model, texts, at).mean(0) for texts in sides)
    vectors = {at: (toward - away).float()}
    return Steering(
        "mean_difference", vectors=vectors, positions=positions, provenance=Provenance(model=_record(model))
    )


@torch.no_grad()
def _last_residuals(model: LanguageModel, texts: Sequence[str], layer: int) -> Float[Tensor, "text d_model"]:
    encoded, parts = model.encode(texts, chat=False), []
    for start in range(0, len(texts), TEXTS_AT_ONCE):
        tokens = model.pad(encoded[start : start + TEXTS_AT_ONCE])  # on the left
        parts.append(residuals_after(model, tokens, [layer])[layer][:, -1].double().cpu())
    return torch.cat(parts)


def _record(model: LanguageModel) -> ModelRecord:
    return ModelRecord(name=model.name, identity=model.identity)


def _texts(given: Sequence[str]) -> list[str]:
    if isinstance(given, str):
        raise UserError(f"Give a list of texts, not one text ({given[:40]!r}).")
    texts = list(given)
    empty = next((i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()), None)
    if empty is not None:
        raise UserError(f"Text {empty} is {texts[empty]!r}; every text must be a string with words in it.")
    return texts
