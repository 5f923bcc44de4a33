"""What a model does when a layer's residual is replaced: passes that begin above that layer."""

from collections.abc import Callable

from jaxtyping import Bool, Float
from torch import Tensor

from interp.engine.passes import residuals_after, starting_after
from interp.models.language_model import LanguageModel, Tokens

Residual = Float[Tensor, "text token d_model"]


def residuals(model: LanguageModel, tokens: Tokens, layers: list[int]) -> dict[int, Residual]:
    """Residuals of these layers, and of the last one, at all positions."""
    return residuals_after(model, tokens, {*layers, model.n_layers - 1})


def last_residual(model: LanguageModel, tokens: Tokens, layer: int, replaced: Residual) -> Residual:
    """The last layer's residual if that of `layer` were `replaced`; blocks up to `layer` are passed over."""
    last = model.n_layers - 1
    with starting_after(model, layer, replaced):
        return residuals_after(model, tokens, [last])[last]


def body(tokens: Tokens) -> Bool[Tensor, "text token"]:
    """All positions but padding and the first one of each text, where most models keep an attention sink."""
    return tokens.mask & (tokens.positions > 0)


Replace = Callable[[Float[Tensor, "position d_model"]], Float[Tensor, "position d_model"]]


def with_body(residual: Residual, where: Bool[Tensor, "text token"], replace: Replace) -> Residual:
    """The residual with other values at the positions of `where`."""
    out = residual.clone()
    out[where] = replace(residual[where]).to(out.dtype)
    return out
