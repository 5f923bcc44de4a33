"""Keys and values of a pass, whatever transformers calls them."""

import inspect

import torch
from torch import nn

from interp.models.caching import NAMES, cache_in, cache_name


def test_every_family_names_what_it_takes(any_model):
    for module in (any_model.hf, any_model.backbone, any_model.blocks[0]):
        assert cache_name(module) in inspect.signature(module.forward).parameters
        assert cache_name(module) in NAMES


def test_what_is_given_and_what_is_left_is_found(any_model):
    ids, seen = torch.tensor([[5, 6, 7]]), []
    hook = any_model.backbone.register_forward_pre_hook(
        lambda module, args, options: seen.append(cache_in(options)), with_kwargs=True
    )
    try:
        first = any_model.hf(ids, use_cache=True)
        second = any_model.hf(ids, use_cache=True, **{cache_name(any_model.hf): cache_in(first)})
    finally:
        hook.remove()
    assert seen[0] is None
    assert seen[1] is cache_in(first)
    assert cache_in(second).get_seq_length() == 6


def test_the_newer_name_goes_first():
    class Older(nn.Module):
        def forward(self, x, past_key_values=None): ...

    class Newer(nn.Module):
        def forward(self, x, cache=None, past_key_values=None): ...

    class Anything(nn.Module):
        def forward(self, *args, **options): ...

    assert [cache_name(kind()) for kind in (Older, Newer, Anything)] == ["past_key_values", "cache", "past_key_values"]
    assert cache_in({"past_key_values": 1}) == 1
    assert cache_in({"cache": 2, "past_key_values": None}) == 2
    assert cache_in({}) is None
