"""Gates that open for one kind of text: a few features that tell the fit texts from the texts to be left alone."""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from interp.steering.steering import Gate

N_FEATURES = 16
OPEN_ELSEWHERE = 0.01
"""Share of the anchor texts for which a gate may be more than half open."""
PENALTY, SHARPNESS = 0.1, 2.0


def fit_gate(
    wanted: Float[Tensor, "example d_sae"],
    anchors: Float[Tensor, "anchor d_sae"],
    allowed: np.ndarray | None = None,
) -> Gate:
    """Logistic regression on the `N_FEATURES` features whose mean activation differs most, in standard deviations.

    No emotion label is used. The threshold lies where `OPEN_ELSEWHERE` of the anchors would pass.

    Args:
        wanted, anchors: activations at one layer's answer position.
        allowed: feature numbers to choose from (a control chooses among random ones); None: all.
    """
    acts = torch.cat([wanted, anchors]).cpu().numpy()
    inside = np.r_[np.ones(len(wanted)), np.zeros(len(anchors))]
    spread = acts.std(0)
    difference = np.abs(acts[inside == 1].mean(0) - acts[inside == 0].mean(0))
    score = np.divide(difference, spread, out=np.zeros_like(spread), where=spread > 0)
    if allowed is not None:
        score[np.setdiff1d(np.arange(len(score)), allowed)] = -1
    chosen = np.sort(np.argsort(-score, kind="stable")[:N_FEATURES])
    scale = np.where(spread[chosen] > 0, spread[chosen], 1)
    found = LogisticRegression(C=PENALTY, max_iter=500).fit(acts[:, chosen] / scale, inside)
    weights = SHARPNESS * found.coef_[0] / scale
    threshold = np.quantile(acts[inside == 0][:, chosen] @ weights, 1 - OPEN_ELSEWHERE)
    bias = min(SHARPNESS * float(found.intercept_[0]), -float(threshold))
    return Gate(torch.from_numpy(chosen), torch.from_numpy(weights).float(), bias)
