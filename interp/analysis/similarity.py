"""How alike two models' layers are as a whole: linear CKA of their residuals on the same texts.

Kornblith et al. 2019, "Similarity of neural network representations revisited", section 3, with the unbiased estimate
of HSIC by Song et al. 2012: with fewer texts than dimensions the plain one calls any two layers alike.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float

Array = np.ndarray
LEAST_TEXTS = 4
"""Texts below which the unbiased estimate is not defined."""


def similarity(
    one: Sequence[Float[Array, "_ d_model"]], other: Sequence[Float[Array, "_ d_other"]]
) -> Float[Array, "layer layer_beside"]:
    """Linear CKA of every layer of one model with every layer of another; 1: the same up to rotation and scale.

    Raises:
        ValueError: other texts, or too few of them.
    """
    n = {len(residuals) for residuals in (*one, *other)}
    if len(n) != 1 or min(n) < LEAST_TEXTS:
        raise ValueError(f"residuals of the same texts expected, at least {LEAST_TEXTS}; {sorted(n)} given")
    first, second = (np.stack([_centred(r) for r in layers]).reshape(len(layers), -1) for layers in (one, other))
    crossed = first @ second.T
    norms = np.sqrt(np.maximum((first**2).sum(1)[:, None] * (second**2).sum(1)[None], 1e-300))
    return np.asarray(crossed / norms)


def similarity_table(
    layers: Sequence[int], beside: Sequence[int], values: Float[Array, "layer beside"]
) -> pd.DataFrame:
    """A row per pair of layers: `layer`, `layer_beside` and `cka`."""
    index = pd.MultiIndex.from_product([layers, beside], names=["layer", "layer_beside"])
    return pd.DataFrame({"cka": values.ravel()}, index=index).reset_index()


def _centred(residuals: Float[Array, "text d_model"]) -> Float[Array, "text text"]:
    """The U-centred Gram matrix: inner products of two of these, over n (n - 3), are unbiased HSIC."""
    x = residuals.astype(np.float64)
    x = x - x.mean(0)  # large common parts would cost digits
    gram = x @ x.T
    np.fill_diagonal(gram, 0)
    n = len(gram)
    means = gram.sum(1) / (n - 2)
    gram -= means[:, None] + means[None] - gram.sum() / ((n - 1) * (n - 2))
    np.fill_diagonal(gram, 0)
    return np.asarray(gram)
