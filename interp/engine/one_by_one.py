"""Features removed one by one, each from the examples that it is traced on and active in."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.engine.ablation import FeatureEdits, edited_logits
from interp.engine.capture import Captured
from interp.engine.everywhere import ablate_everywhere
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack


class TracedFeatures(NamedTuple):
    """Features of a layer, and which of them are traced on which emotion's examples."""

    features: Int[Tensor, " feature"]
    of_emotion: Bool[Tensor, "emotion feature"]

    @classmethod
    def of(cls, pairs: Iterable[tuple[int, int]], n_emotions: int) -> "TracedFeatures":
        """From (feature, emotion) pairs."""
        feature, emotion = torch.tensor(sorted(set(pairs))).T
        features, column = feature.unique(return_inverse=True)
        of_emotion = torch.zeros(n_emotions, len(features), dtype=torch.bool)
        of_emotion[emotion, column] = True
        return cls(features, of_emotion)


@dataclass(frozen=True)
class OneByOne:
    """Single features removed from single examples, one a row.

    Attributes:
        edits: which layer, example and feature; `change` is NaN where it differs from position to position.
        logits: of the answers without the feature.
        clean: of the answers as they are.
    """

    edits: FeatureEdits
    logits: Float[Tensor, "row answer"]
    clean: Float[Tensor, "row answer"]

    @property
    def flipped(self) -> Bool[Tensor, " row"]:
        """Whether the answer becomes another."""
        return self.logits.argmax(-1) != self.clean.argmax(-1)

    def effects(self, targets: Int[Tensor, " row"]) -> Float[Tensor, " row"]:
        """Fall of the target answer's log-probability over the label set, in nats."""
        fall = self.clean.log_softmax(-1) - self.logits.log_softmax(-1)
        return fall.gather(1, targets[:, None].to(fall.device))[:, 0]

    def logit_effects(self) -> Float[Tensor, "row answer"]:
        """Fall of every answer's logit, minus the mean fall over the label set."""
        fall = self.clean - self.logits
        return fall - fall.mean(1, keepdim=True)

    def columns(self, gold: Int[Tensor, " example"], rows: Int[np.ndarray, " example"]) -> dict[str, np.ndarray]:
        """Of a table with a line for each removal, as `interp.analysis.effects` reads it.

        Args:
            gold: emotion of each example.
            rows: by what number the table names each example.

        Returns:
            row, layer and feature; effect: fall of the gold answer's log-probability (nats); flipped: whether the
            answer becomes another; and one column per emotion, its number as text: `logit_effects`.
        """
        example = self.edits.example.cpu()
        columns = {"layer": self.edits.layer, "feature": self.edits.feature}
        columns |= {"effect": self.effects(gold[example]), "flipped": self.flipped}
        columns |= {str(emotion): fall for emotion, fall in enumerate(self.logit_effects().unbind(1))}
        return {"row": rows[example.numpy()]} | {name: values.cpu().numpy() for name, values in columns.items()}


@torch.no_grad()
def ablate_one_by_one(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    traced: Mapping[int, TracedFeatures],
    gold: Int[Tensor, " example"],
    *,
    position: Literal["answer", "all"] = "answer",
) -> OneByOne:
    """Answer logits without each feature alone; where it is inactive it has no effect, and there is no row.

    Args:
        captured: with keys and values; for all positions also with every traced layer's residuals everywhere.
        traced: by layer.
        gold: emotion of each example.
        position: where the features are removed.

    Raises:
        UserError: no SAE at a layer, or a feature it does not have.
        EngineError: an unedited row moved.
    """
    removed = _everywhere if position == "all" else _at_answer
    edits, logits = removed(model, saes, captured, traced, gold)
    return OneByOne(edits, logits, captured.answer_logits[edits.example])


def _at_answer(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    traced: Mapping[int, TracedFeatures],
    gold: Int[Tensor, " example"],
) -> tuple[FeatureEdits, Float[Tensor, "row answer"]]:
    """All layers' edits in one sweep."""
    parts = []
    for layer, (features, of_emotion) in traced.items():
        index = features.to(model.device)
        acts = saes.encode_features(layer, captured.residuals[layer], index)  # [example, feature]
        example, column = ((acts > 0) & of_emotion[gold].to(acts.device)).nonzero(as_tuple=True)
        parts.append(FeatureEdits(torch.full_like(example, layer), example, index[column], -acts[example, column]))
    edits = FeatureEdits.joined(parts)
    return edits, edited_logits(model, saes, captured, edits)


def _everywhere(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    traced: Mapping[int, TracedFeatures],
    gold: Int[Tensor, " example"],
) -> tuple[FeatureEdits, Float[Tensor, "row answer"]]:
    """Each feature removed at every position where it fires; rows in which it fires nowhere are left out."""
    parts, logits = [], [captured.answer_logits[:0]]
    for layer, (features, of_emotion) in traced.items():
        example, column = of_emotion[gold].nonzero(as_tuple=True)
        example, feature = example.to(model.device), features[column].to(model.device)
        without = ablate_everywhere(model, saes, captured, layer=layer, example=example, feature=feature)
        fired = (without != captured.answer_logits[example]).any(1)
        example, feature = example[fired], feature[fired]
        change = torch.full(example.shape, torch.nan, device=example.device)
        parts.append(FeatureEdits(torch.full_like(example, layer), example, feature, change))
        logits.append(without[fired])
    return FeatureEdits.joined(parts), torch.cat(logits)
