"""What a look at one text finds: evidence by layer and token, and the features behind the answer."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


@dataclass(frozen=True)
class BehindAnswer:
    """A feature that is active at the answer position, and what the answers are without it.

    Attributes:
        effect: fall of the answer's log-probability when the feature is removed, in nats; negative: it works against.
        without: probabilities of the labels without it.
        causal_for: emotions for which the run found it causal.
    """

    layer: int
    feature: int
    activation: float
    effect: float
    without: list[float]
    causal_for: list[str]


@dataclass(frozen=True)
class Inspection:
    """What `interp.run.inspecting.inspect` found.

    Attributes:
        evidence: probabilities of the labels if a layer's residual at a token were read out directly (logit lens).
        probabilities: of the labels, by condition; `plain` is the model as it is.
        cut: tokens of the text that did not fit the context.
    """

    text: str
    labels: list[str]
    tokens: list[str]
    evidence: Float[np.ndarray, "layer token label"]
    probabilities: Mapping[str, list[float]]
    features: list[BehindAnswer]
    cut: int

    @property
    def answer(self) -> str:
        plain = self.probabilities["plain"]
        return self.labels[plain.index(max(plain))]
