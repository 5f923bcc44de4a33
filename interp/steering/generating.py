"""Text with and without steering, token by token."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UserError
from interp.models.caching import cache_in, cache_name
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.steering.steering import Steering
from interp.texts.prompts import Prompt

REPEATED = 3
"""So many times the same few words in a row, and a text counts as stuck."""
LONGEST_REPEAT = 4


@torch.no_grad()
def stream(
    model: LanguageModel,
    prompt: Prompt | str,
    steering: Steering,
    saes: SaeStack | None = None,
    *,
    tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool | None = None,
) -> Iterator[str]:
    """The text so far (without the prompt) after every new token, up to one that ends a text.

    Args and errors are those of `written_ids`.
    """
    options: dict[str, Any] = {"tokens": tokens, "temperature": temperature, "seed": seed, "chat": chat}
    for ids in written_ids(model, prompt, steering, saes, **options):
        yield str(model.tokenizer.decode(ids))


@torch.no_grad()
def written_ids(
    model: LanguageModel,
    prompt: Prompt | str,
    steering: Steering,
    saes: SaeStack | None = None,
    *,
    tokens: int = 60,
    temperature: float = 0.0,
    seed: int = 0,
    chat: bool | None = None,
) -> Iterator[list[int]]:
    """The tokens written so far, after every new one, up to one that ends a text.

    Args:
        temperature: 0 takes the likeliest token; above, tokens are drawn with `seed`.
        chat: through the chat template; None: as the model was loaded.

    Raises:
        UserError: an empty prompt, or one that leaves no room for the tokens.
    """
    if not str(prompt).strip():
        raise UserError("The prompt is empty; give some text to go on from.")
    ids = model.ids(prompt, chat=chat)
    if len(ids) + tokens > model.context:
        raise UserError(
            f"The prompt takes {len(ids)} tokens; with {tokens} more that is over the context of {model.name}"
            f" ({model.context}). Shorten it, or ask for fewer tokens."
        )
    hooks = steering.hooks(model, saes)
    generator = torch.Generator().manual_seed(seed)
    ends = set(model.end_ids)
    written: list[int] = []
    step = torch.tensor([ids], device=model.device)
    past = None
    for _ in range(tokens):
        with model.prompted(len(ids)), model.edited(hooks):
            out = model.hf(input_ids=step, use_cache=True, **{cache_name(model.hf): past})
        past, logits = cache_in(out), out.logits[0, -1].float().cpu()
        token = drawn(logits, temperature, generator)
        if token in ends:
            return
        written.append(token)
        step = torch.tensor([[token]], device=model.device)
        yield list(written)


@torch.no_grad()
def perplexity_of(model: LanguageModel, prompt: Sequence[int], written: Sequence[int]) -> float:
    """How surprising the model, as it is, finds what was written after a prompt: exp of the mean surprise a token."""
    ids = torch.tensor([[*prompt, *written]], device=model.device)
    logits = model.hf(input_ids=ids, logits_to_keep=len(written) + 1).logits[0, :-1].float()
    return float(torch.nn.functional.cross_entropy(logits, ids[0, len(prompt) :]).exp())


def drawn(
    logits: Float[Tensor, " vocabulary"], temperature: float, generator: torch.Generator, *, top_p: float = 1.0
) -> int:
    """The likeliest token at temperature 0; above, one drawn from the likeliest ones that together have `top_p`."""
    if temperature <= 0:
        return int(logits.argmax())
    chances = (logits / temperature).softmax(-1)
    if top_p < 1:
        ordered, index = chances.sort(descending=True, stable=True)
        ordered[ordered.cumsum(-1) - ordered >= top_p] = 0
        chances = torch.zeros_like(chances).scatter(-1, index, ordered)
    return int(torch.multinomial(chances, 1, generator=generator))


def repeats(text: str) -> str | None:
    """The words that a text says over and over (`REPEATED` times in a row, at most `LONGEST_REPEAT` words), if any."""
    words = text.split()
    for length in range(1, LONGEST_REPEAT + 1):
        for start in range(len(words) - length * REPEATED + 1):
            phrase = words[start : start + length]
            if all(words[start + k * length : start + (k + 1) * length] == phrase for k in range(1, REPEATED)):
                return " ".join(phrase)
    return None
