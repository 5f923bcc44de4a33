"""Where in a text a steering acts."""

from collections.abc import Mapping
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from interp.engine.suffix import ResidualEdit
from interp.models.language_model import Edit
from interp.models.placing import Placing

Positions = Literal["answer", "all", "generated"]
"""The prompt's last token; every token; the prompt's last token and all that is generated.

By the position in the text, however it is cut into passes (`interp.models.placing`).
"""
WHERE: Mapping[Positions, str] = {
    "answer": "the prompt's last token",
    "generated": "the prompt's last token and all that is generated",
    "all": "every position",
}


def placed(positions: Positions, edit: ResidualEdit, placing: Placing) -> Edit:
    """The edit where it is wanted, by the absolute position of a pass's tokens: what is cached makes no difference."""
    if positions == "all":
        return edit

    def where_wanted(x: Float[Tensor, "example token d_model"]) -> Float[Tensor, "example token d_model"] | None:
        span = placing.span
        assert span is not None, "a steering's hooks are used inside `LanguageModel.edited`"
        where = span.answer if positions == "answer" else span.from_answer
        here = x[:, where]
        if not here.shape[1]:
            return None
        return torch.cat([x[:, : where.start], edit(here), x[:, where.start + here.shape[1] :]], dim=1)

    return where_wanted
