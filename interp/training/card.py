"""How well SAEs stand for a model's residuals: SAEBench's core measures (Karvonen et al. 2025), on held-out text."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.capture import batches, tokens_in_flight
from interp.errors import UserError
from interp.models.answers import LOGITS_AT_ONCE, Answers
from interp.models.language_model import Encoded, LanguageModel, Tokens
from interp.reporting import Progress, silent
from interp.saes.stack import SaeStack
from interp.texts.examples import Example
from interp.texts.prompts import answer_text, build_prompts
from interp.training.replacing import body, last_residual, residuals, with_body
from interp.training.texts import Piece

DENSE = 0.1
"""A feature that is active at a larger share of positions is dense."""
LONG = 10.0
"""Residuals that are longer than so many times the median are attention sinks: counted, not measured."""
LOSS_TOKENS = 4096
"""Tokens of the plain text on which the model's loss is measured; reconstruction is measured on all."""


@dataclass(frozen=True)
class Reconstruction:
    """How near the reconstructions are, over some positions.

    Attributes:
        n: positions.
        fvu: sum of squared errors over the sum of squared deviations from these positions' own mean.
        cosine: mean cosine between residual and reconstruction.
        l0: mean number of active features.
        long: positions left out because their residual is more than ten times as long as the median.
    """

    n: int
    fvu: float
    cosine: float
    l0: float
    long: int


@dataclass(frozen=True)
class Loss:
    """Next-token cross-entropy in nats per token, on plain text, with the residual as it is, reconstructed, or zero.

    Attributes:
        recovered: (zeroed - reconstructed) / (zeroed - original), SAEBench's loss recovered.
        kl: mean KL(original || reconstructed) of the next-token distribution.
    """

    n: int
    original: float
    reconstructed: float
    zeroed: float
    recovered: float
    kl: float


@dataclass(frozen=True)
class AnswerChange:
    """Answers to labelled prompts, the most likely of the labels, with and without reconstruction.

    Attributes:
        same: share of prompts that get the same answer.
        kl: mean KL(original || reconstructed) over the labels, in nats.
    """

    n: int
    accuracy: float
    accuracy_reconstructed: float
    same: float
    kl: float


@dataclass(frozen=True)
class LayerCard:
    """One layer's quality.

    Attributes:
        plain, answer: at the positions of plain text; at the answer positions of prompts. None where there were none.
        dead: features that were active nowhere in the held-out text.
        dense: features that were active at more than a tenth of the plain text's positions.
    """

    layer: int
    architecture: str
    d_sae: int
    plain: Reconstruction | None
    answer: Reconstruction | None
    dead: int
    dense: int
    loss: Loss | None
    answers: AnswerChange | None


@dataclass(frozen=True)
class Card:
    """Quality of a stack of SAEs."""

    model: str
    model_identity: str
    saes: str
    saes_identity: str
    labels: tuple[str, ...]
    layers: tuple[LayerCard, ...]


def quality_card(
    model: LanguageModel,
    saes: SaeStack,
    *,
    plain: Sequence[Piece] = (),
    examples: Sequence[Example] = (),
    labels: Sequence[str] = (),
    template: str = "default",
    progress: Progress = silent,
) -> Card:
    """Measures every layer's SAE on text and prompts that it was not trained on.

    Residuals are replaced by their reconstructions (or by zero) at every position but the first of each text, one layer
    at a time. Nothing but the figures is kept: memory does not grow with the text.

    Raises:
        UserError: neither text nor prompts.
    """
    if not plain and not examples:
        raise UserError("A quality card needs text: give plain text or labelled prompts that are held out.")
    encoded = [Encoded(p.ids, 0) for p in plain]
    texts = {layer: _Sums(saes.d_sae(layer)) for layer in saes.layers}
    losses = _Losses(saes.layers)
    measured = 0
    for batch in progress(list(batches([len(e.ids) for e in encoded], tokens_in_flight(model))), "plain text", "batch"):
        tokens = model.pad([encoded[i] for i in batch])
        seen = residuals(model, tokens, saes.layers)
        where = body(tokens)
        with_loss = measured < LOSS_TOKENS
        measured += int(where.sum())
        for layer in saes.layers:
            texts[layer].add(saes, layer, seen[layer][where])
        if with_loss:
            losses.add(model, saes, tokens, seen)
    prompts, answered = _prompts(model, saes, examples, labels, template, progress)
    cards = tuple(
        LayerCard(
            layer=layer,
            architecture=saes[layer].cfg.architecture(),
            d_sae=saes.d_sae(layer),
            plain=texts[layer].reconstruction(),
            answer=prompts[layer].reconstruction(),
            dead=int(((texts[layer].active + prompts[layer].active) == 0).sum()),
            dense=int((texts[layer].active > DENSE * texts[layer].n).sum()) if texts[layer].n else 0,
            loss=losses.loss(layer),
            answers=answered.get(layer),
        )
        for layer in saes.layers
    )
    return Card(model.name, model.identity, saes.name, saes.identity, tuple(labels), cards)


def _prompts(
    model: LanguageModel,
    saes: SaeStack,
    examples: Sequence[Example],
    labels: Sequence[str],
    template: str,
    progress: Progress,
) -> tuple[dict[int, "_Sums"], dict[int, AnswerChange]]:
    """Reconstruction at the answer positions, and the answers."""
    sums = {layer: _Sums(saes.d_sae(layer)) for layer in saes.layers}
    if not examples:
        return sums, {}
    prompts = build_prompts([e.text for e in examples], labels, template=template)
    words = Answers.of(model, [answer_text(label, str(model.framed(prompts[0]))) for label in labels])
    encoded = model.encode(prompts, room=int(words.offsets.max()))
    before = torch.empty(len(prompts), len(labels))
    after = {layer: torch.empty(len(prompts), len(labels)) for layer in saes.layers}
    for batch in progress(list(batches([len(e.ids) for e in encoded], tokens_in_flight(model))), "prompts", "batch"):
        tokens = model.pad([encoded[i] for i in batch])
        chains = [_behind(model, [encoded[i] for i in batch], path.ids) for path in words.paths]
        parts = [(part, residuals(model, part, saes.layers)) for part in (tokens, *chains)]
        before[batch] = _scores(model, words, parts, None, saes).cpu()
        for layer in saes.layers:
            sums[layer].add(saes, layer, parts[0][1][layer][:, -1])
            after[layer][batch] = _scores(model, words, parts, layer, saes).cpu()
    gold = torch.tensor([list(labels).index(e.gold) for e in examples])
    return sums, {layer: _change(before, scores, gold) for layer, scores in after.items()}


def _behind(model: LanguageModel, encoded: Sequence[Encoded], chain: Sequence[int]) -> Tokens:
    """Prompts with the first tokens of an answer behind them."""
    return model.pad([Encoded([*e.ids, *chain], 0) for e in encoded])


def _scores(
    model: LanguageModel,
    words: Answers,
    parts: Sequence[tuple[Tokens, dict[int, Tensor]]],
    layer: int | None,
    saes: SaeStack,
) -> Float[Tensor, "prompt answer"]:
    """Scores of the answers with a layer's residual reconstructed; None: as it is.

    Args:
        parts: the prompts, then the prompts with each of the answers' paths behind them; tokens and residuals.
    """
    tails = torch.empty(len(parts[0][0].ids), 1 + words.n_continued, model.d_model, dtype=model.dtype)
    tails = tails.to(model.device)
    for (tokens, seen), columns in zip(parts, [(0,), *(path.columns for path in words.paths)], strict=True):
        last = seen[model.n_layers - 1]
        if layer is not None:
            reconstructed = with_body(seen[layer], body(tokens), partial(saes.reconstruct, layer))
            last = last_residual(model, tokens, layer, reconstructed)
        tails[:, list(columns)] = last[:, -len(columns) :]
    return words.score(model, tails)


def _change(
    before: Float[Tensor, "prompt answer"], after: Float[Tensor, "prompt answer"], gold: Int[Tensor, " prompt"]
) -> AnswerChange:
    p, q = before.double().log_softmax(-1), after.double().log_softmax(-1)
    return AnswerChange(
        n=len(gold),
        accuracy=float((before.argmax(-1) == gold).double().mean()),
        accuracy_reconstructed=float((after.argmax(-1) == gold).double().mean()),
        same=float((before.argmax(-1) == after.argmax(-1)).double().mean()),
        kl=float((p.exp() * (p - q)).sum(-1).mean()),
    )


class _Sums:
    """Running sums behind a `Reconstruction`."""

    def __init__(self, d_sae: int) -> None:
        self.n, self.long, self.error, self.squares, self.cosine, self.l0 = 0, 0, 0.0, 0.0, 0.0, 0.0
        self.total: Tensor | float = 0.0
        self.norm: float | None = None
        self.active = torch.zeros(d_sae, dtype=torch.long)

    def add(self, saes: SaeStack, layer: int, rows: Float[Tensor, "row d_model"]) -> None:
        x = rows.to(saes.device(layer)).float()
        lengths = x.norm(dim=-1)
        if self.norm is None:
            self.norm = float(lengths.median())
        kept = lengths <= LONG * self.norm
        self.long += int((~kept).sum())
        x = x[kept]
        decoded = saes.reconstruct(layer, x)
        acts = saes.encode(layer, x)
        if saes.sources[layer].centred:
            mean = x.mean(-1, keepdim=True)
            x, decoded = x - mean, decoded - mean
        self.n += len(x)
        self.error += float((x - decoded).double().square().sum())
        self.squares += float(x.double().square().sum())
        self.total = self.total + x.double().sum(0)
        self.cosine += float(torch.nn.functional.cosine_similarity(x, decoded, dim=-1).double().sum())
        self.l0 += float((acts > 0).sum())
        self.active += (acts > 0).sum(0).cpu()

    def reconstruction(self) -> Reconstruction | None:
        if not self.n:
            return None
        spread = self.squares - float(torch.as_tensor(self.total).square().sum()) / self.n
        fvu = self.error / spread if spread > 0 else float("inf") if self.error else 0.0
        return Reconstruction(self.n, fvu, self.cosine / self.n, self.l0 / self.n, self.long)


class _Losses:
    """Running sums behind every layer's `Loss`."""

    def __init__(self, layers: Sequence[int]) -> None:
        self.n, self.original = 0, 0.0
        self.sums = {layer: np.zeros(3) for layer in layers}

    def add(self, model: LanguageModel, saes: SaeStack, tokens: Tokens, seen: dict[int, Tensor]) -> None:
        where = body(tokens)
        # the first position predicts as well, but from a residual that is the same in all passes
        predicting: Bool[Tensor, "text token"] = where[:, :-1] & tokens.mask[:, 1:]
        target = tokens.ids[:, 1:][predicting]
        before = seen[model.n_layers - 1][:, :-1][predicting]
        after = {}
        for layer in self.sums:
            replaced = [
                with_body(seen[layer], where, how) for how in (partial(saes.reconstruct, layer), torch.zeros_like)
            ]
            after[layer] = [last_residual(model, tokens, layer, x)[:, :-1][predicting] for x in replaced]
        size = max(1, LOGITS_AT_ONCE // len(model.head_weight))
        for start in range(0, len(target), size):
            part = slice(start, start + size)

            def log_probabilities(rows: Tensor, part: slice = part) -> Tensor:
                return model.unembed(rows[part]).float().log_softmax(-1)

            def loss(log_p: Tensor, part: slice = part) -> float:
                return -float(log_p.gather(-1, target[part, None]).double().sum())

            p = log_probabilities(before)
            self.original += loss(p)
            for layer, (reconstructed, zeroed) in after.items():
                q = log_probabilities(reconstructed)
                kl = float((p.exp() * (p - q)).double().sum())
                self.sums[layer] += np.array([loss(q), loss(log_probabilities(zeroed)), kl])
        self.n += len(target)

    def loss(self, layer: int) -> Loss | None:
        if not self.n:
            return None
        original = self.original / self.n
        reconstructed, zeroed, kl = (self.sums[layer] / self.n).tolist()
        return Loss(self.n, original, reconstructed, zeroed, (zeroed - reconstructed) / (zeroed - original), kl)
