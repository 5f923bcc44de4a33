"""Steering from a few labelled examples and any number of texts without: what is read is made to be said.

1. Three label-free readings of every text (`evidence`), and a probe of the labelled ones, are weighed by a handful of
   scalars (`weighing`): scores of the labels, in nats.
2. What the model's own answers lack of these scores is to be added: the *target* of each text.
3. A few features of one layer are found that together explain the targets over all texts (`reading`).
4. A few feature directions of that layer are found, by adding them, that say each label (`saying`).
5. Both make a `Coupling`, behind a gate that is open where prompts end and shut in running text.

No gradient is followed through the model, and labels decide nothing but the scalars and the probe. For a model without
autoencoders (`Coordinates`) the whole residual is read, and directions of each label are added in the place of features
(`label_directions`); those are gradients in part.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import Ridge
from torch import Tensor

from interp.engine.capture import Captured, capture
from interp.engine.passes import residuals_after
from interp.engine.variants import answers_under_each
from interp.evaluation.fluency import WINDOW
from interp.evaluation.references import answer_bias
from interp.evaluation.side_effects import label_mass
from interp.models.language_model import Encoded, LanguageModel
from interp.saes.coordinates import Coordinates
from interp.saes.stack import SaeStack
from interp.steering.coupling import Coupling
from interp.steering.evidence import Evidence, evidence, evidence_tokens, standardised
from interp.steering.gates import fit_gate
from interp.steering.label_directions import label_directions, label_gradients, units
from interp.steering.reading import SparseReading, pursued, read_by, readable
from interp.steering.saying import Responses, Saying, proposed, responses, spoken
from interp.steering.steering import Gate, Steering
from interp.steering.weighing import Weighed, Weighing, weighed
from interp.texts.plain_documents import running_text
from interp.texts.prompts import Prompt

DEPTH = 0.75
"""Share of the layers below which no coupling is made: what is read there is not yet the emotion."""
SAMPLE = 24
"""Texts on which directions are tried before they are coupled."""
PLAIN_TOKENS = 1000
"""Tokens of running text for which a coupling's gate is shut."""
READERS = 40
"""Features that a coupling reads, unless it is told otherwise."""
LIMIT = 1.25
"""Amounts are clamped at so many times the 99th percentile of the targets' size."""
LIFTS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
"""Nats by which all labels are raised: the first that makes one of them at least as likely an answer as before."""
DENSE = 1.0
"""Ridge of the rival that reads the whole residual, in units of the standardised residuals' variance."""
NO_ROWS = np.zeros(0, int)

Array = np.ndarray


@dataclass(frozen=True)
class Few:
    """What a coupling is made from: texts of which a few are labelled, as the model passed them.

    Attributes:
        scores: the model's own scores of the labels, up to a constant of the text.
        residuals: layer -> residuals at the answer position, [text, d_model].
        sample: some of the texts with keys and values, on which directions are tried.
        places: the texts' numbers of the sample's examples, part after part.
        plain: layer -> residuals of running text, [token, d_model], where a steering should do nothing.
        layers: where a coupling may be made; None: every layer with an SAE from `DEPTH` on.
        n_readers: features that a coupling reads, at most.
        random_directions: a seed of random directions in the place of the labels', for a control without autoencoders.
    """

    model: LanguageModel
    saes: SaeStack
    labels: Sequence[str]
    scores: Float[Array, "text label"]
    residuals: Callable[[int], Float[Tensor, "text d_model"]]
    sample: Sequence[Captured]
    places: Int[Array, " sample"]
    plain: Callable[[int], Float[Tensor, "token d_model"]]
    layers: Sequence[int] | None = None
    n_readers: int = READERS
    random_directions: int | None = None

    @classmethod
    def of(cls, model: LanguageModel, saes: SaeStack, prompts: Sequence[Prompt | str], labels: Sequence[str]) -> "Few":
        """Of prompts that end where a label is to be answered, captured here; two at least, better a hundred."""
        captured = capture(model, prompts, answers=labels)
        sample = capture(model, prompts[:SAMPLE], answers=labels, keep_cache=True)
        return cls(
            model,
            saes,
            labels,
            captured.answer_logits.double().cpu().numpy(),
            residuals=lambda layer: captured.residuals[layer].float(),
            sample=[sample],
            places=np.arange(len(prompts[:SAMPLE])),
            plain=RunningText(model, deep_layers(model, saes)),
        )

    @property
    def own(self) -> Float[Array, "text label"]:
        """The model's own answers, centred over labels, in nats."""
        return np.asarray(self.scores - self.scores.mean(1, keepdims=True))

    @property
    def first(self) -> Int[Tensor, " label"]:
        """The labels' first tokens."""
        return self.sample[0].answers.first

    @cached_property
    def evidence(self) -> Evidence:
        last = self.residuals(self.model.n_layers - 1)
        return evidence(self.model, self.own, last, evidence_tokens(self.model, self.labels))

    @cached_property
    def layer(self) -> int:
        """Where a coupling without labels, carried out, comes nearest to the scores that were its target."""
        given = list(self.layers or deep_layers(self.model, self.saes))
        return given[0] if len(given) == 1 else max(given, key=lambda k: (self.at(k).carried_out(), k))

    def at(self, layer: int) -> "Few":
        """The same texts, for a coupling at this layer."""
        few = replace(self, layers=[layer])
        vars(few)["evidence"] = self.evidence  # is of the texts alone
        if not self.sparse:
            vars(few)["gradients"] = self.gradients
        return few

    def carried_out(self) -> float:
        """Share of the label-free target, in squares over the sample, that its coupling makes up for in the answers."""
        edits = couple(self).steering.edits(self.saes)
        found = [answers_under_each(self.model, c, {"coupled": edits})["coupled"] for c in self.sample]
        scores = torch.cat(found).double().cpu().numpy()
        target = self.target(NO_ROWS, NO_ROWS)[self.places]
        left = target - (scores - scores.mean(1, keepdims=True) - self.own[self.places])
        return 1 - float((left**2).sum() / (target**2).sum())

    def _acts(self, layer: int) -> Float[Array, "text d_sae"]:
        return np.asarray(self.saes.encode(layer, self.residuals(layer)).float().cpu().numpy())

    @cached_property
    def acts(self) -> Float[Array, "text d_sae"]:
        """Activations at the coupling's layer."""
        return self._acts(self.layer)

    @cached_property
    def among(self) -> Int[Array, " feature"]:
        return readable(self.acts)

    @cached_property
    def states(self) -> Float[Array, "text d_model"]:
        """What the probe reads: residuals of the coupling's layer, standardised."""
        return np.asarray(np.clip(standardised(self.residuals(self.layer).double().cpu().numpy()), -5, 5))

    @cached_property
    def gate(self) -> Gate:
        """Open where prompts end, shut in running text."""
        layer = self.layer
        wanted = self.saes.encode(layer, self.residuals(layer)).float()
        return fit_gate(wanted, self.saes.encode(layer, self.plain(layer)).float())

    @cached_property
    def proposals(self) -> tuple[Int[Array, " feature"], Responses]:
        """Features that may say a label, and what they do; without autoencoders, rows of `dictionary`."""
        if self.dictionary is not None:
            rows = torch.from_numpy(self.dictionary).float()
            return np.arange(len(rows)), responses(self.model, self.sample, self.layer, rows)
        at = self.residuals(self.model.n_layers - 1).float().mean(0)
        features = proposed(self.model, self.saes, self.layer, at, self.first)
        return features, self.responses(features)

    @property
    def sparse(self) -> bool:
        """Whether there are autoencoders."""
        return not isinstance(self.saes, Coordinates)

    @cached_property
    def dictionary(self) -> Float[Array, "direction d_model"] | None:
        """Without autoencoders: directions that may say a label."""
        if self.sparse:
            return None
        if self.random_directions is not None:
            drawn = np.random.default_rng(self.random_directions)
            return units(drawn.standard_normal((2 * len(self.labels), self.model.d_model)))
        scores = self.weighed(NO_ROWS, NO_ROWS).scores
        known = scores - scores.mean(1, keepdims=True)
        return label_directions(self.gradients[self.layer], self.residuals(self.layer), known)

    @cached_property
    def gradients(self) -> Float[Array, "layer label d_model"]:
        return label_gradients(self.model, self.sample, len(self.labels))

    def decoder(self, features: Int[Array, " feature"]) -> Float[Array, "feature d_model"]:
        """Directions of some features of the coupling's layer; without autoencoders, rows of `dictionary`."""
        if self.dictionary is not None:
            return np.asarray(self.dictionary[features])
        return np.asarray(self.saes.directions(self.layer, features.tolist()).double().cpu().numpy())

    @cached_property
    def norm(self) -> float:
        """Mean length of a residual at the coupling's layer."""
        return float(self.residuals(self.layer).float().norm(dim=-1).mean())

    def responses(self, features: Int[Array, " feature"]) -> Responses:
        return responses(self.model, self.sample, self.layer, self.saes.directions(self.layer, features.tolist()))

    def weighed(self, rows: Int[Array, " example"], gold: Int[Array, " example"]) -> Weighed:
        return weighed(self.evidence, self.states if len(rows) else self.own, rows, gold)

    def target(self, rows: Int[Array, " example"], gold: Int[Array, " example"]) -> Float[Array, "text label"]:
        """Nats of each label that the model's own answer to each text lacks."""
        return _lacking(self.weighed(rows, gold).scores, self.own)

    @cached_property
    def answered_before(self) -> float:
        return self.answered(None)

    def answered(self, steering: Steering | None) -> float:
        """Probability that one of the labels is answered at all, mean over the sample."""
        mass = label_mass(self.model, self.first.tolist())
        edits = {"asked": {} if steering is None else steering.edits(self.saes)}
        parts = [answers_under_each(self.model, c, edits, read=mass)["asked"] for c in self.sample]
        return float(torch.cat(parts).mean())


@dataclass(frozen=True)
class Coupled:
    """A coupling's parts, and how they came about."""

    steering: Steering
    reading: SparseReading
    saying: Saying
    weighing: Weighing


def couple(
    few: Few,
    rows: Int[Array, " example"] = NO_ROWS,
    gold: Int[Array, " example"] = NO_ROWS,
    *,
    control: int | None = None,
) -> Coupled:
    """The coupling of some labelled texts; of none, what can be had without a label.

    Args:
        rows: their places among the texts.
        gold: their label numbers.
        control: a seed: as many readers and writers are drawn from features that were not chosen and fitted alike, and
            what they add is no longer than what the chosen ones add.
    """
    found = few.weighed(rows, gold)
    target = _lacking(found.scores, few.own)
    if not few.sparse:
        return _couple_densely(few, found, target, control)
    readers, (candidates, measured) = pursued(few.acts, target, few.n_readers, few.among), few.proposals
    reading = read_by(few.acts, target, readers)
    saying = spoken(candidates, measured, few.decoder(candidates), reading.amounts(few.acts), few.norm)
    if control is not None:
        rng, length = np.random.default_rng(control), saying.length
        reading = read_by(few.acts, target, _others(rng, few.among, readers, len(readers)))
        candidates = _others(rng, np.arange(few.saes.d_sae(few.layer)), candidates, len(saying.writers))
        measured, amounts = few.responses(candidates), reading.amounts(few.acts)
        saying = spoken(candidates, measured, few.decoder(candidates), amounts, few.norm, keep=None, longest=length)
    method = "coupled" if control is None else "random_features"
    return Coupled(lifted(few, _steering(few, method, reading, saying, target)), reading, saying, found.weighing)


def _couple_densely(few: Few, found: Weighed, target: Float[Array, "text label"], control: int | None) -> Coupled:
    """Without autoencoders: the whole residual is read; a control says what is read by random directions, as long."""
    dense, bias = _dense_reading(few, target)
    reading = SparseReading(np.arange(few.model.d_model), dense, bias)
    candidates, measured = few.proposals
    amounts = reading.amounts(few.acts)
    saying = spoken(candidates, measured, few.decoder(candidates), amounts, few.norm)
    if control is not None:
        few = replace(few.at(few.layer), random_directions=control)
        candidates, measured = few.proposals
        directions, length = few.decoder(candidates), saying.length
        saying = spoken(candidates, measured, directions, amounts, few.norm, keep=None, longest=length)
    method = "coupled" if control is None else "random_directions"
    return Coupled(lifted(few, _steering(few, method, reading, saying, target)), reading, saying, found.weighing)


def _dense_reading(
    few: Few, target: Float[Array, "text label"]
) -> tuple[Float[Array, "d_model label"], Float[Array, " label"]]:
    """Ridge regression of the targets on the whole residual: weights and bias."""
    x = few.residuals(few.layer).double().cpu().numpy()
    mean, spread = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1)
    dense = Ridge(alpha=DENSE * len(x)).fit(few.states, target).coef_.T / spread[:, None]
    return dense, target.mean(0) - mean @ dense


def coupled_steering(few: Few, rows: Int[Array, " example"], gold: Int[Array, " example"]) -> Steering:
    """`couple`'s steering alone."""
    return couple(few, rows, gold).steering


def couple_prior(few: Few, rows: Int[Array, " example"], gold: Int[Array, " example"]) -> Steering:
    """A constant: what a bias on the answers would do, said by the same features and behind the same gate."""
    bias = answer_bias(few.own[rows], gold)
    amounts = np.tile(bias - bias.mean(), (len(few.own), 1))
    candidates, measured = few.proposals
    saying = spoken(candidates, measured, few.decoder(candidates), amounts, few.norm)
    directions = torch.from_numpy(few.decoder(saying.writers)).float()
    vector = torch.from_numpy(amounts[0] @ saying.shares).float() @ directions
    return Steering("prior", vectors={few.layer: vector}, gates={few.layer: few.gate})


def couple_whole(few: Few, rows: Int[Array, " example"], gold: Int[Array, " example"]) -> Steering:
    """The same with the whole residual for a reader, in the place of a few features: what these leave unread."""
    whole = couple(few, rows, gold)
    target = _lacking(few.weighed(rows, gold).scores, few.own)
    dense, bias = _dense_reading(few, target)
    reading = SparseReading(NO_ROWS, np.zeros((0, len(few.labels))), bias)
    steering = _steering(few, "whole_residual", reading, whole.saying, target, torch.from_numpy(dense).float())
    return lifted(few, steering)


def lifted(few: Few, steering: Steering) -> Steering:
    """With all labels raised alike, as little as makes one of them be answered as often as before on the sample."""
    (layer, coupling), *_ = steering.couplings.items()
    for lift in LIFTS:
        raised = replace(coupling, bias=coupling.bias + lift, limit=coupling.limit + lift) if lift else coupling
        steering = replace(steering, couplings={layer: raised})
        if few.answered(steering) >= few.answered_before:
            break
    return steering


class RunningText:
    """Residuals of running text that ships, of several layers from one pass, when one of them is asked for.

    Its documents are those on which no price in language is measured.
    """

    def __init__(self, model: LanguageModel, layers: Sequence[int]) -> None:
        self.model, self.layers = model, layers

    def __call__(self, layer: int) -> Float[Tensor, "token d_model"]:
        return self._residuals[layer]

    @cached_property
    def _residuals(self) -> dict[int, Float[Tensor, "token d_model"]]:
        words, encoded, n = self.model.tokenization, [], 0
        for document in running_text():
            ids = words.bare_ids(document)[: min(WINDOW, self.model.context) - 1]
            encoded.append(Encoded(words.prepended + ids, 0))
            n += len(ids)
            if n >= PLAIN_TOKENS:
                break
        tokens = self.model.pad(encoded)
        found = residuals_after(self.model, tokens, self.layers)
        return {layer: residuals[tokens.mask].float() for layer, residuals in found.items()}


def deep_layers(model: LanguageModel, saes: SaeStack) -> list[int]:
    """Layers with an SAE where a coupling may be made: from `DEPTH` on, or the highest."""
    return [k for k in saes.layers if k >= DEPTH * (model.n_layers - 1)] or saes.layers[-1:]


def _steering(
    few: Few,
    method: str,
    reading: SparseReading,
    saying: Saying,
    target: Float[Array, "text label"],
    dense: Float[Tensor, "d_model label"] | None = None,
) -> Steering:
    writers, shares = saying.writers, saying.shares
    if not few.sparse:  # what is said by directions, said by all coordinates
        writers, shares = np.arange(few.model.d_model), shares @ few.decoder(writers)
    coupling = Coupling(
        readers=torch.from_numpy(reading.features),
        weights=torch.from_numpy(reading.weights).float(),
        bias=torch.from_numpy(reading.bias).float(),
        limit=LIMIT * float(np.quantile(np.abs(target), 0.99)),
        writers=torch.from_numpy(writers),
        shares=torch.from_numpy(shares).float(),
        dense=dense,
    )
    return Steering(method, couplings={few.layer: coupling}, gates={few.layer: few.gate})


def _lacking(scores: Float[Array, "text label"], own: Float[Array, "text label"]) -> Float[Array, "text label"]:
    """Nats of each label that the model's own answers lack."""
    return np.asarray(scores - scores.mean(1, keepdims=True) - own)


def _others(rng: np.random.Generator, among: Array, chosen: Array, n: int) -> Int[Array, " feature"]:
    """As many features that were not chosen as there are."""
    free = np.setdiff1d(among, chosen)
    return np.sort(rng.choice(free, min(n, len(free)), replace=False))
