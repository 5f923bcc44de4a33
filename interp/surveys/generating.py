"""Replies by greedy generation, batched with left padding."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

from interp.models.language_model import LanguageModel, Tokens


class ListClosed(StoppingCriteria):
    """A row is done when what it wrote holds a closing bracket, after `marker` if there is one, or is long enough.

    Args:
        start: width of the prompts.
        most_tokens: of each row, so that a row's answer does not depend on the rows beside it.
    """

    def __init__(self, model: LanguageModel, start: int, most_tokens: Sequence[int], marker: str = "") -> None:
        self.tokenizer, self.start, self.marker = model.tokenizer, start, marker
        self.most_tokens = most_tokens

    def __call__(self, input_ids: Int[Tensor, "row token"], scores: Tensor, **_: object) -> Bool[Tensor, " row"]:
        written = self.tokenizer.batch_decode(input_ids[:, self.start :])
        n = input_ids.shape[1] - self.start
        done = [
            n >= most or "]" in text.partition(self.marker)[2] if self.marker else n >= most or "]" in text
            for text, most in zip(written, self.most_tokens, strict=True)
        ]
        return torch.tensor(done, device=input_ids.device)


@torch.no_grad()
def replies(
    model: LanguageModel, prompts: Tokens, *, most_tokens: int, stopping: Sequence[StoppingCriteria] = ()
) -> list[str]:
    """What the model writes after each prompt, up to a token that ends a text or to what stops it."""
    config = GenerationConfig(
        do_sample=False,
        max_new_tokens=most_tokens,
        pad_token_id=model.tokenizer.pad_token_id,
        eos_token_id=model.end_ids or None,
    )
    written = model.hf.generate(
        input_ids=prompts.ids,
        attention_mask=prompts.mask.long(),
        generation_config=config,
        stopping_criteria=StoppingCriteriaList(stopping),
    )
    return [model.written(ids) for ids in written[:, prompts.ids.shape[1] :].tolist()]
