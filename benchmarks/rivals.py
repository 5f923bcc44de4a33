"""What people use today, written as they write it: one edit, one forward pass."""

from collections.abc import Callable
from contextlib import contextmanager

import torch
from transformers import DynamicCache

from benchmarks.worlds import World
from interp.models.caching import cache_name
from interp.models.language_model import Tokens


def tokens_of(world: World, prompt: int) -> Tokens:
    return world.model.pad([world.model.encode([world.prompts[prompt]])[0]])


@contextmanager
def _edited(world: World, layer: int, delta: torch.Tensor):
    def at_last(x: torch.Tensor) -> torch.Tensor:
        x = x.clone()
        x[:, -1] += delta
        return x

    with world.model.edited({layer: at_last}):
        yield


@torch.no_grad()
def hooked_forward(world: World, prompt: int, layer: int, delta: torch.Tensor, **options: object) -> torch.Tensor:
    """(c) a hooked Hugging Face forward with full logits; (d) with `logits_to_keep=1`, those of the last position."""
    tokens = tokens_of(world, prompt)
    with _edited(world, layer, delta):
        return world.model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long(), **options).logits[:, -1]


@torch.no_grad()
def bridge_forward(world: World, prompt: int, layer: int, delta: torch.Tensor) -> torch.Tensor:
    """(e) TransformerBridge.run_with_hooks."""

    def hook(x: torch.Tensor, hook: object) -> torch.Tensor:
        x[:, -1] += delta
        return x

    tokens = tokens_of(world, prompt)
    return world.model.bridge.run_with_hooks(
        tokens.ids, attention_mask=tokens.mask.long(), fwd_hooks=[(f"blocks.{layer}.hook_out", hook)]
    )[:, -1]


def nnsight_forward(world: World) -> Callable[[int, int, torch.Tensor], torch.Tensor]:
    """(f) nnsight on the same modules."""
    from nnsight import NNsight

    wrapped = NNsight(world.model.hf)

    @torch.no_grad()
    def forward(prompt: int, layer: int, delta: torch.Tensor) -> torch.Tensor:
        tokens = tokens_of(world, prompt)
        blocks = wrapped.transformer.h if hasattr(world.model.hf, "transformer") else wrapped.model.layers
        with wrapped.trace(input_ids=tokens.ids, attention_mask=tokens.mask.long()):
            blocks[layer].output[:, -1] += delta
            logits = wrapped.output.logits.save()
        return logits[:, -1]

    return forward


@torch.no_grad()
def repeated_cache(world: World, prompt: int, layer: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """(g) one token per edit through the whole model, the prompt's keys and values repeated for every edit.

    The prompt's own pass is made here, once; the forward that is returned repeats its cache and runs the edits.
    """
    model, tokens = world.model, tokens_of(world, prompt)
    base = DynamicCache()
    model.run(Tokens(tokens.ids[:, :-1], tokens.mask[:, :-1]), cache=base)

    @torch.no_grad()
    def forward(deltas: torch.Tensor) -> torch.Tensor:
        n, cache = len(deltas), DynamicCache()
        for k, kept in enumerate(base.layers):
            cache.update(kept.keys.repeat_interleave(n, 0), kept.values.repeat_interleave(n, 0), k)
        with model.edited({layer: lambda x: x + deltas[:, None]}):
            return model.hf(
                input_ids=tokens.ids[:, -1:].expand(n, -1),
                attention_mask=tokens.mask.long().expand(n, -1),
                position_ids=tokens.positions[:, -1:].expand(n, -1),
                logits_to_keep=1,
                **{cache_name(model.hf): cache},
            ).logits[:, -1]

    return forward


@torch.no_grad()
def pass_per_layer(world: World) -> None:
    """(b) one whole pass per layer with the SAE's activations at every position, as run_with_cache_with_saes."""
    for layer in world.saes.layers:
        for prompt in range(len(world.prompts)):
            tokens = tokens_of(world, prompt)
            kept = []
            with world.model.edited(
                {layer: lambda x, layer=layer, kept=kept: kept.append(world.saes.encode(layer, x))}
            ):
                world.model.hf(input_ids=tokens.ids, attention_mask=tokens.mask.long())


def cached_with_saes(world: World) -> Callable[[], None]:
    """(h) SAELens: the model wrapped once, then `run_with_cache_with_saes` with each layer's SAE, keeping its features.

    SAEs are given the hook name that the wrapped model knows, since its alias `hook_resid_post` does nothing there.
    """
    from copy import deepcopy

    from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

    model = world.model
    shared = {id(t): t for t in (*model.hf.parameters(), *model.hf.buffers())}
    clone = deepcopy(model.hf, shared)
    clone.config.architectures = [type(model.hf).__name__]
    bridge = SAETransformerBridge.boot_transformers(
        model.name, hf_model=clone, tokenizer=model.tokenizer, device=str(model.device), dtype=model.dtype
    )
    saes = []
    for layer in world.saes.layers:
        sae = deepcopy(world.saes[layer])
        sae.cfg.metadata.hook_name = f"blocks.{layer}.hook_out"
        saes.append(sae)

    @torch.no_grad()
    def work() -> None:
        for sae in saes:
            name = f"{sae.cfg.metadata.hook_name}.hook_sae_acts_post"
            for prompt in range(len(world.prompts)):
                tokens = tokens_of(world, prompt)
                _, cache = bridge.run_with_cache_with_saes(
                    tokens.ids, saes=[sae], attention_mask=tokens.mask.long(), names_filter=name
                )
                assert cache[name].shape[-1] == sae.cfg.d_sae

    return work
