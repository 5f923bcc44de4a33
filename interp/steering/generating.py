"""Text with and without steering, token by token."""

from collections.abc import Iterator

import torch

from interp.errors import UserError
from interp.model import LanguageModel
from interp.saes import SaeStack
from interp.steering.steering import Steering


@torch.no_grad()
def stream(
    model: LanguageModel,
    prompt: str,
    steering: Steering,
    saes: SaeStack | None = None,
    *,
    tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
) -> Iterator[str]:
    """The text so far (without the prompt) after every new token; keys and values are kept.

    Args:
        temperature: 0 takes the likeliest token; above, tokens are drawn with `seed`.

    Raises:
        UserError: an empty prompt, or one that leaves no room for the tokens.
    """
    ids = model.tokenizer(prompt)["input_ids"]
    if not prompt.strip():
        raise UserError("The prompt is empty; give some text to go on from.")
    if len(ids) + tokens > model.context:
        raise UserError(
            f"The prompt takes {len(ids)} tokens; with {tokens} more that is over the context of {model.name}"
            f" ({model.context}). Shorten it, or ask for fewer tokens."
        )
    hooks = steering.hooks(model, saes)
    generator = torch.Generator().manual_seed(seed)
    written: list[int] = []
    step = torch.tensor([ids], device=model.device)
    past = None
    for _ in range(tokens):
        with model.edited(hooks):
            out = model.hf(input_ids=step, past_key_values=past, use_cache=True)
        past, logits = out.past_key_values, out.logits[0, -1].float().cpu()
        if temperature > 0:
            token = int(torch.multinomial((logits / temperature).softmax(-1), 1, generator=generator))
        else:
            token = int(logits.argmax())
        if token == model.tokenizer.eos_token_id:
            return
        written.append(token)
        step = torch.tensor([[token]], device=model.device)
        yield str(model.tokenizer.decode(written))
