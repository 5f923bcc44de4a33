"""A causal language model as the tool sees it: tokens in, residuals and answer logits out, edits in between."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import pairwise
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import Cache, PreTrainedModel, PreTrainedTokenizerBase

from interp.errors import UserError
from interp.models.architectures import WRITERS, BlockPart, architecture_of
from interp.models.caching import cache_name
from interp.models.placing import Placing
from interp.models.tokenization import Tokenization
from interp.notebook import html_table, text_line
from interp.texts.prompts import Prompt

if TYPE_CHECKING:
    from interp.models.sources import ModelSource

Site = int | tuple[BlockPart, int]
"""Where a pass can be seen and changed: the residual after a layer (-1: what enters the first), or, by name and layer,
what one of its parts puts out: `("attention", 3)`; `("heads", 3)` and `("neurons", 3)`: what its heads, side by side,
and its neurons hold before they are projected."""
S = TypeVar("S", bound=Site)

Edit = Callable[[Float[Tensor, "example token d_model"]], Tensor | None]
"""Sees what passes a site; returns its replacement, or None to leave it."""


@dataclass(frozen=True)
class Tokens:
    """A batch of token ids. Where not said otherwise it is padded on its left: the answer position is the last column.

    `mask` may begin earlier than `ids`: then it covers tokens whose keys and values are already cached.
    """

    ids: Int[Tensor, "example token"]
    mask: Bool[Tensor, "example past_and_token"]

    @property
    def positions(self) -> Int[Tensor, "example token"]:
        return (self.mask.long().cumsum(-1) - 1).clamp(min=0)[:, -self.ids.shape[1] :]


@dataclass(frozen=True)
class Encoded:
    """A prompt as token ids, and how many tokens of its text had to be cut to fit the context."""

    ids: list[int]
    cut: int


class LanguageModel:
    """A Hugging Face decoder with named residual streams. Made by `load_model`.

    Attributes:
        hf: the Hugging Face module itself, raw weights, in eval mode.
        architecture: where its parts hang.
        blocks: its decoder blocks; "the residual of layer i" is what `blocks[i]` returns (`resid_post`).
        d_hidden: width of the MLPs' hidden layer, the widest that a pass holds.
        n_heads, d_head: attention heads of a layer, and the width of what each of them gathers.
        n_neurons: width of what the MLPs' last projection takes.
        parallel: whether attention and MLP of a block both read what enters it (most GPT-NeoX models).
        device: where token ids go in and answers come out; blocks may be elsewhere (`device_of`).
        chat: whether prompts are put into the tokenizer's chat template; decided once, when the model is loaded.
        chat_reason: why, in words, where `load_model` decided.
        source: what the weights were made from (file, quantisation, licence), where `load_model` made it.
        tokenization: the one way from prompts to token ids.
        placing: which tokens the pass under way holds, while something is `edited`.
    """

    chat_reason: str = ""
    source: "ModelSource | None" = None

    def __init__(
        self, hf: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, name: str, identity: str, *, chat: bool = False
    ) -> None:
        self.architecture = architecture_of(hf)
        self.hf = hf.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.name, self.identity = name, identity
        self.backbone: Any = attrgetter(self.architecture.backbone)(hf)
        config = hf.config.get_text_config()
        self.blocks: list[nn.Module] = list(getattr(self.backbone, self.architecture.blocks))
        self.final_norm: nn.Module = getattr(self.backbone, self.architecture.final_norm)
        head: Any = hf.get_output_embeddings()
        self.head_weight: Float[Tensor, "vocabulary d_model"] = head.weight
        self.head_bias: Float[Tensor, " vocabulary"] | None = getattr(head, "bias", None)
        self.softcap: float | None = getattr(config, "final_logit_softcapping", None)
        self.n_layers, self.d_model = len(self.blocks), config.hidden_size
        self.d_hidden: int = max(getattr(config, "intermediate_size", None) or 4 * self.d_model, self.d_model)
        self.n_heads: int = config.num_attention_heads
        self.d_head: int = getattr(config, "head_dim", None) or self.d_model // self.n_heads
        projection: Any = self.part(("neurons", 0))
        self.n_neurons: int = getattr(projection, "in_features", None) or projection.weight.shape[0]
        self.parallel: bool = bool(getattr(config, "use_parallel_residual", False))
        self.context: int = config.max_position_embeddings
        embedding: Any = hf.get_input_embeddings()
        self.device: torch.device = embedding.weight.device
        self.dtype: torch.dtype = self.head_weight.dtype
        self.placing = Placing(hf, self.backbone)
        self.tokenization = Tokenization(tokenizer, name)
        self.chat = chat
        if chat:
            self.tokenization.frame()  # a template that fails does so now

    def _shown(self) -> dict[str, object]:
        return {
            "name": self.name,
            "identity": self.identity,
            "architecture": type(self.hf).__name__,
            "layers": self.n_layers,
            "d_model": self.d_model,
            "heads": self.n_heads,
            "precision": f"{str(self.dtype).removeprefix('torch.')} on {self.device}",
            "prompts": "in the chat template" if self.chat else "as they are",
        }

    def __repr__(self) -> str:
        return text_line("LanguageModel", self._shown())

    def _repr_html_(self) -> str:
        return html_table("LanguageModel", self._shown())

    # -------------------------------------------------------------------------------- tokens

    def encode(
        self, prompts: Sequence[Prompt | str], *, room: int = 0, chat: bool | None = None, as_is: bool = False
    ) -> list[Encoded]:
        """Token ids of prompts; a text too long for the context loses tokens from its left, the question none.

        Args:
            room: tokens to leave free for what is generated.
            chat: through the chat template; None: as this model was loaded. Plain text takes False.
            as_is: keep blanks at a prompt's end, which otherwise are left to the word that follows.

        Raises:
            UserError: a prompt is empty, or too long even without its text; a chat template that fails.
        """
        chats = self.chat if chat is None else chat
        limit, out = self.context - room, []
        for prompt in prompts:
            shown = self.tokenization.framed(prompt, chat=chats, as_is=as_is)
            ids = self.tokenization.ids(shown, chat=chats)
            whole, text = len(ids), shown.text
            while len(ids) > limit and text:
                offsets = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
                drop = len(ids) - limit
                # a character spread over several tokens goes whole
                text = text[next((begin for begin, _ in offsets[drop:] if begin > 0), len(text)) :]
                ids = self.tokenization.ids(replace(shown, text=text), chat=chats)
            if not ids or len(ids) > limit:
                raise UserError(
                    f"A prompt takes {len(ids)} tokens without its text; it must take 1 to {limit}"
                    f" (context of {self.name}: {self.context}). Use fewer shots or a shorter template."
                )
            out.append(Encoded(ids, whole - len(ids)))
        return out

    def framed(self, prompt: Prompt | str, *, chat: bool | None = None, as_is: bool = False) -> Prompt:
        """The prompt as the model sees it: as it is, or a user's turn in the chat template, up to the assistant's."""
        return self.tokenization.framed(prompt, chat=self.chat if chat is None else chat, as_is=as_is)

    def ids(self, prompt: Prompt | str, *, chat: bool | None = None, as_is: bool = False) -> list[int]:
        """Token ids of one prompt, however long it is."""
        chats = self.chat if chat is None else chat
        return self.tokenization.ids(self.framed(prompt, chat=chats, as_is=as_is), chat=chats)

    def pieces(self, prompt: Prompt | str, ids: Sequence[int]) -> list[str]:
        """What each token adds to a prompt as the model sees it, blanks included; of a prompt that was cut, decoded."""
        shown = str(self.framed(prompt))
        found = self.tokenizer(shown, add_special_tokens=not self.chat, return_offsets_mapping=True)
        if list(found["input_ids"])[: len(ids)] != list(ids):
            return token_pieces(self.tokenizer, ids)
        ends = [0]
        for _, end in found["offset_mapping"][: len(ids)]:
            ends.append(max(end, ends[-1]))  # a special token has no place in the text
        return [shown[a:b] for a, b in pairwise(ends)]

    @property
    def frame(self) -> str | None:
        """What the chat template puts around every prompt; None where there is none. A date in it is today's."""
        return self.tokenization.frame().shown if self.chat else None

    @property
    def end_ids(self) -> list[int]:
        """Tokens that end what is generated: those of the generation settings, and the tokenizer's end of text."""
        settings = self.hf.generation_config
        ends = settings.eos_token_id if settings is not None else None
        every = {*(ends if isinstance(ends, list) else [ends]), self.tokenizer.eos_token_id}
        return sorted(end for end in every if end is not None)

    def written(self, ids: Sequence[int]) -> str:
        """Generated tokens as text, up to one that ends a text; special tokens are left out."""
        ends = set(self.end_ids)
        end = next((k for k, token in enumerate(ids) if token in ends), len(ids))
        return str(self.tokenizer.decode(list(ids[:end]), skip_special_tokens=True))

    def pad(self, encoded: Sequence[Encoded]) -> Tokens:
        """One left-padded batch."""
        width = max(len(e.ids) for e in encoded)
        pad = self.tokenizer.pad_token_id
        ids = torch.tensor([[pad] * (width - len(e.ids)) + e.ids for e in encoded], device=self.device)
        length = torch.tensor([len(e.ids) for e in encoded], device=self.device)
        return Tokens(ids, torch.arange(width, device=self.device) >= width - length[:, None])

    # -------------------------------------------------------------------------------- passes

    @contextmanager
    def edited(self, edits: Mapping[S, Edit]) -> Iterator[None]:
        """Every forward inside sees, and may replace, what passes the given sites.

        Raises:
            UserError: a layer the model does not have.
        """
        handles: list[Any] = []
        try:
            for site, edit in edits.items():
                if site == -1:
                    handles.append(self.blocks[0].register_forward_pre_hook(_as_pre_hook(edit)))
                elif not isinstance(site, int) and site[0] in WRITERS:
                    handles.append(self.part(site).register_forward_pre_hook(_as_pre_hook(edit)))
                else:
                    handles.append(self.part(site).register_forward_hook(_as_hook(edit)))
            with self.placing.noted():
                yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def recorded(self, sites: Iterable[S], read: Callable[[Tensor], Tensor] | None = None) -> Iterator[dict[S, Tensor]]:
        """By site, what passed it in the last forward inside, as edits around it left it.

        Args:
            read: what is kept of it; None: all, [example, token, d_model].

        Raises:
            UserError: a layer the model does not have.
        """
        seen: dict[S, Tensor] = {}

        def keep(site: S, passing: Tensor) -> None:
            seen[site] = passing if read is None else read(passing)

        with self.edited({site: partial(keep, site) for site in sites}):
            yield seen

    def part(self, site: Site) -> nn.Module:
        """The module whose output a site is; of heads and neurons, the projection that they enter.

        Raises:
            UserError: a layer the model does not have.
        """
        name, layer = (None, site) if isinstance(site, int) else site
        if not 0 <= layer < self.n_layers:
            raise UserError(f"{self.name} has layers 0 to {self.n_layers - 1}; got layer {layer}.")
        module = self.blocks[layer]
        if name in WRITERS:
            module = getattr(module, getattr(self.architecture, "attention" if name == "heads" else "mlp"))
        part: nn.Module = module if name is None else getattr(module, getattr(self.architecture, name))
        return part

    def norm(self, layer: int, name: Literal["mlp_norm", "attention_after", "mlp_after"]) -> nn.Module | None:
        """A norm of a block by what `Architecture` calls it; None where the family has none there."""
        own: str = getattr(self.architecture, name)
        return getattr(self.blocks[layer], own) if own else None

    def prompted(self, width: int | None) -> AbstractContextManager[None]:
        """Passes inside belong to prompts of `width` columns (padding included); what follows them was generated.

        `generate` says so by itself, and a pass without cached keys is a prompt; only passes behind a cache of one's
        own need it, so that a steering at the answer position finds its place. None: prompts that do not end in one
        column.
        """
        return self.placing.prompted(width)

    def device_of(self, layer: int) -> torch.device:
        """Where a block's weights are."""
        return next(self.blocks[layer].parameters()).device

    def run(self, tokens: Tokens, cache: Cache | None = None) -> None:
        """One pass through the blocks, without unembedding; `edited` is how one looks at it.

        Args:
            cache: keys and values that it goes on from, and leaves its own in.
        """
        self.backbone(
            input_ids=tokens.ids,
            attention_mask=tokens.mask.long(),
            position_ids=tokens.positions,
            use_cache=cache is not None,
            **{cache_name(self.backbone): cache},
        )

    def attention_mask(self, seen: Bool[Tensor, "example 1 query key"]) -> Tensor:
        """What each query attends to, as the attention in use takes it: boolean, or to be added to its scores."""
        if self.backbone.config._attn_implementation == "sdpa":
            return seen
        added = torch.zeros(seen.shape, dtype=self.dtype, device=seen.device)
        return added.masked_fill_(~seen, torch.finfo(self.dtype).min)

    def rotary(self, layer: int, like: Tensor, positions: Int[Tensor, "row token"]) -> tuple[Tensor, Tensor] | None:
        """Rotary position embeddings of a layer; None where positions are learned and already in the residual."""
        embedding = getattr(self.backbone, "rotary_emb", None)
        if embedding is None:
            return None
        by_type = "layer_type" in inspect.signature(embedding.forward).parameters
        kind = (self.backbone.config.layer_types[layer],) if by_type else ()
        cos, sin = embedding(like, positions, *kind)
        return cos, sin

    def unembed(
        self, residual: Float[Tensor, "*row d_model"], tokens: Int[Tensor, " answer"] | None = None
    ) -> Float[Tensor, "*row answer"]:
        """Final norm and unembedding of residuals; with `tokens`, only their rows of the vocabulary are computed."""
        weight, bias = self.head_weight, self.head_bias
        if tokens is not None:
            rows = tokens.to(weight.device)
            weight, bias = weight[rows], None if bias is None else bias[rows]
        normed = self.final_norm(residual.to(next(self.final_norm.parameters()).device))
        logits = nn.functional.linear(normed.to(weight.device), weight, bias).to(self.device)
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap

    @cached_property
    def bridge(self) -> Any:
        """A TransformerLens `TransformerBridge` on the same weights, for hooks of your own; `hf` stays untouched."""
        import copy

        from transformer_lens.model_bridge import TransformerBridge

        shared = {id(t): t for t in (*self.hf.parameters(), *self.hf.buffers())}
        clone = copy.deepcopy(self.hf, shared)
        clone.config = copy.deepcopy(self.hf.config)
        clone.config.architectures = [type(self.hf).__name__]  # absent where the config never came from a file
        return TransformerBridge.boot_transformers(
            self.name, hf_model=clone, tokenizer=self.tokenizer, device=str(self.device), dtype=self.dtype
        )

    @torch.no_grad()
    def verify(self) -> None:
        """Fails unless every part is where `ARCHITECTURES` says and our read-out equals the model's own logits.

        Raises:
            UserError: the module tree is another one.
        """
        texts = ["A first short check.", "A second, somewhat longer check of the model."]
        tokens = self.pad(self.encode(texts, chat=False))
        layers, last = range(self.n_layers), partial(torch.select, dim=1, index=-1)
        parts = [(part, layer) for part in get_args(BlockPart) for layer in layers]
        writers: tuple[tuple[BlockPart, BlockPart], ...] = (("heads", "attention"), ("neurons", "mlp"))
        with self.recorded([-1, *layers], last) as residuals, self.recorded(parts, last) as outputs:
            theirs = self.hf(
                input_ids=tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.positions
            ).logits[:, -1]
        for layer in layers:
            fired = layer in residuals and all((part, layer) in outputs for part in get_args(BlockPart))
            norm: tuple[BlockPart, int] = ("input_norm", layer)
            if (
                not fired
                or self._apart(self.part(norm)(residuals[layer - 1].to(outputs[norm].device)), outputs[norm])
                or any(
                    self._apart(self.part((inner, layer))(outputs[inner, layer]), outputs[outer, layer])
                    for inner, outer in writers
                )
                or outputs["heads", layer].shape[-1] != self.n_heads * self.d_head
            ):
                raise UserError(f"{self.name}: layer {layer} is not built as those of other {type(self.hf).__name__}.")
        if self._apart(self.unembed(residuals[self.n_layers - 1]), theirs):
            raise UserError(f"{self.name}: the residual of the last layer does not lead to the model's own logits.")

    def _apart(self, ours: Float[Tensor, "row column"], theirs: Float[Tensor, "row column"]) -> bool:
        worst = (ours - theirs).abs().max().item() / max(1.0, theirs.abs().max().item())
        return not worst < (1e-4 if self.dtype == torch.float32 else 3e-2)


def token_pieces(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> list[str]:
    """What each token adds to the text; of a character spread over several tokens, the last one has all of it."""
    pieces: list[str] = []
    held: list[int] = []
    for token in ids:
        held.append(token)
        text = str(tokenizer.decode(held))
        if text.endswith("\ufffd") and len(held) < 8:
            pieces.append("")
            continue
        begins_word = str(tokenizer.convert_ids_to_tokens(held[0])).startswith("\u2581")  # SentencePiece's blank
        pieces.append(f" {text}" if begins_word and not text.startswith(" ") else text)
        held = []
    if held:
        pieces[-1] = str(tokenizer.decode(held))
    return pieces


def _as_pre_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        new = edit(inputs[0])
        return None if new is None else (new, *inputs[1:])

    return hook


def _as_hook(edit: Edit) -> Callable[..., Any]:
    def hook(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> Any:
        """Blocks return the residual, or (older ones) a tuple that begins with it."""
        residual = output[0] if isinstance(output, tuple) else output
        new = edit(residual)
        if new is None:
            return None
        return (new, *output[1:]) if isinstance(output, tuple) else new

    return hook
