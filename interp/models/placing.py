"""Which tokens of a text a pass holds, and where its prompt ends: by absolute position, whatever is cached."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from interp.errors import UserError
from interp.models.caching import cache_in


@dataclass(frozen=True)
class Span:
    """The columns of a batch (padding included) that one pass computes.

    Attributes:
        start: first column; those before it have their keys and values cached.
        stop: the column after the last.
        prompt: how many columns the prompt has; None where that cannot be known.
    """

    start: int
    stop: int
    prompt: int | None

    @property
    def from_answer(self) -> slice:
        """Columns of this pass from the prompt's last token on, counted within the pass.

        Raises:
            UserError: a pass behind cached tokens that does not say where its prompt ended.
        """
        if self.prompt is None:
            raise UserError(
                f"Where the prompt ends is not known in a pass of {self.stop - self.start} tokens behind {self.start}"
                " others, so a steering at the answer position cannot be placed there: use `generate`, pass prompts"
                " whole, or enter `model.prompted(n_tokens)` around the passes."
            )
        return slice(min(max(self.prompt - 1 - self.start, 0), self.stop - self.start), None)

    @property
    def answer(self) -> slice:
        """The column of the prompt's last token within the pass; an empty slice where the pass does not hold it."""
        begin = self.from_answer.start
        return slice(begin, begin + (self.start + begin == (self.prompt or 0) - 1))


class Placing:
    """Keeps book of a model's passes while somebody looks."""

    def __init__(self, hf: Any, backbone: nn.Module) -> None:
        self.hf, self.backbone = hf, backbone
        self.span: Span | None = None
        self.width: int | Literal["unsaid"] | None = "unsaid"
        self.watchers = 0
        """How many are looking now: inside `edited`, passes may not be what the model alone would make of them."""

    @contextmanager
    def prompted(self, width: int | None) -> Iterator[None]:
        """Passes inside belong to prompts of `width` columns, padding included; what follows them was generated.

        None: their prompts do not end in one column.
        """
        before, self.width = self.width, width
        try:
            yield
        finally:
            self.width = before

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Every pass inside is noted as `span`, those of `generate` with the prompt that it was given."""
        handle = self.backbone.register_forward_pre_hook(self._note, with_kwargs=True)
        own = self.hf.__dict__.get("generate")
        self.hf.generate = self._prompting(self.hf.generate)
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1
            handle.remove()
            if own is None:
                del self.hf.generate
            else:
                self.hf.generate = own

    def _note(self, module: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        given = options.get("inputs_embeds")
        if given is None:
            given = options["input_ids"] if options.get("input_ids") is not None else args[0]
        past = cache_in(options)
        start = 0 if past is None else int(past.get_seq_length())
        stop = start + given.shape[1]
        whole = stop if start == 0 else None  # with nothing before it, and unless told otherwise, a pass is a prompt
        self.span = Span(start, stop, whole if self.width == "unsaid" else self.width)

    def _prompting(self, generate: Callable[..., Any]) -> Callable[..., Any]:
        def placed(inputs: Any = None, *args: Any, **options: Any) -> Any:
            known = (inputs, options.get("input_ids"), options.get("inputs_embeds"))
            prompt = next((ids for ids in known if ids is not None), None)
            if prompt is None:
                return generate(inputs, *args, **options)
            with self.prompted(prompt.shape[1]):
                return generate(inputs, *args, **options)

        return placed
