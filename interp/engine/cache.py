"""What a pass over prompts leaves behind for those that follow it: keys, values and residuals."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class SharedPrefix:
    """The tokens with which all prompts begin (a chat frame, solved examples), passed through the model once."""

    ids: list[int]
    keys: list[Float[Tensor, "kv_head token d_head"]]
    values: list[Float[Tensor, "kv_head token d_head"]]
    residuals: list[Float[Tensor, "token d_model"]]
    """By layer."""

    def __len__(self) -> int:
        return len(self.ids)

    def begins(self, ids: Sequence[int]) -> bool:
        """Whether a prompt begins with it and goes on."""
        return len(ids) > len(self.ids) and list(ids[: len(self.ids)]) == self.ids


@dataclass(frozen=True)
class PromptCache:
    """Keys and values of a batch of prompts: all that passes above an edit need of the tokens before it."""

    examples: list[int]
    """Which examples (columns of `Captured`) the rows are, in order."""
    keys: Mapping[int, Float[Tensor, "prompt kv_head token d_head"]]
    values: Mapping[int, Float[Tensor, "prompt kv_head token d_head"]]
    """By layer, left-padded."""
    mask: Bool[Tensor, "prompt token"]
    position: Int[Tensor, " prompt"]
    """The answer position's place in its prompt, padding not counted."""
    embedded: Float[Tensor, "prompt tail d_model"]
    """What enters the first block at the answer position and at the answers' continuation tokens."""
    continued: Sequence[Float[Tensor, "prompt continuation d_model"]]
    """By layer, residuals of the answers' continuation tokens (`LabelTokens`); without tokens where none are needed."""
    everywhere: Mapping[int, Float[Tensor, "prompt token d_model"]] = field(default_factory=dict)
    """Residuals at all positions, for the layers asked for."""

    def select(self, prompts: Sequence[int], *, above: int = -1) -> "PromptCache":
        """Some of the prompts, in that order, without the padding that they do not need.

        Args:
            prompts: their places in the cache.
            above: keys and values of layers up to this one are left out.
        """
        if list(prompts) == list(range(len(self.examples))):
            return self
        index = torch.tensor(prompts, device=self.mask.device)
        mask = self.mask[index]
        start = int(mask.any(0).long().argmax())
        return replace(
            self,
            examples=[self.examples[i] for i in prompts],
            keys={k: x[index.to(x.device), :, start:] for k, x in self.keys.items() if k > above},
            values={k: x[index.to(x.device), :, start:] for k, x in self.values.items() if k > above},
            mask=mask[:, start:],
            position=self.position[index],
            embedded=self.embedded[index],
            continued=[x[index] for x in self.continued],
            everywhere={k: x[index, start:] for k, x in self.everywhere.items()},
        )
