"""Sparse features of residuals, on disk as compressed sparse rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from scipy.sparse import csr_array
from torch import Tensor

from interp.errors import DamagedError
from interp.files.folder import writing
from interp.files.stored import read_arrays
from interp.saes.stack import SaeStack


@dataclass(frozen=True)
class LayerFeatures:
    """Features of one layer at the answer position, with what reconstruction misses.

    Attributes:
        acts: [example, d_sae], activations in residual units.
        error: [example], squared distance between residual and reconstruction.
        spread: [example], squared distance between residual and the mean residual; FVU = sum(error) / sum(spread).
    """

    acts: csr_array
    error: np.ndarray
    spread: np.ndarray

    def rows(self, examples: np.ndarray) -> "LayerFeatures":
        return LayerFeatures(self.acts[examples], self.error[examples], self.spread[examples])


@torch.no_grad()
def encode_layer(
    saes: SaeStack, layer: int, residuals: Callable[[], Iterable[Float[Tensor, "example d_model"]]]
) -> LayerFeatures:
    """Features of a layer for all examples, a batch of rows at a time.

    Args:
        residuals: called twice, for the mean and for the features; yields the residuals in batches of rows.

    Raises:
        UserError: no SAE at that layer.
    """
    device = saes.device(layer)
    sums, counts = zip(*((rows.sum(0, dtype=torch.float64), len(rows)) for rows in residuals()), strict=True)
    mean = (torch.stack(sums).sum(0) / sum(counts)).float().to(device)
    parts, error, spread = [], [], []
    for rows in residuals():
        x = rows.to(device).float()
        parts.append(csr_array(saes.encode(layer, x).float().cpu().numpy()))
        error.append((x - saes.reconstruct(layer, x)).square().sum(-1).cpu().numpy())
        spread.append((x - mean).square().sum(-1).cpu().numpy())
    stacked = parts[0] if len(parts) == 1 else _stack(parts)
    return LayerFeatures(stacked, np.concatenate(error), np.concatenate(spread))


def save_features(path: Path, features: LayerFeatures) -> None:
    """`np.load` and `scipy.sparse.load_npz` both read it."""
    a = features.acts
    with writing(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            format=np.array("csr"),
            _is_array=np.array(True),
            shape=np.array(a.shape),
            indptr=a.indptr,
            indices=a.indices,
            data=a.data,
            error=features.error,
            spread=features.spread,
        )


def load_features(path: Path) -> LayerFeatures:
    """What `save_features` wrote.

    Raises:
        DamagedError: the file is none of those.
    """
    f = read_arrays(path)
    try:
        acts = csr_array((f["data"], f["indices"], f["indptr"]), shape=tuple(f["shape"]))
        return LayerFeatures(acts, f["error"], f["spread"])
    except (KeyError, ValueError) as error:
        raise DamagedError(path, f"not the features of a layer: {error}") from None


def _stack(parts: list[csr_array]) -> csr_array:
    from scipy.sparse import vstack

    return csr_array(vstack(parts, format="csr"))
