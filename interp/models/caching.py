"""Keys and values that a pass goes on from: transformers calls them `past_key_values`, and from 5.24 on `cache`."""

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

NAMES = ("cache", "past_key_values", "layer_past")
"""What a forward may call them, the newest first."""


@cache
def _name(kind: type[nn.Module]) -> str:
    known = inspect.signature(kind.forward).parameters
    return next((name for name in NAMES if name in known), "past_key_values")


def cache_name(module: nn.Module) -> str:
    """The argument of a model or a block that takes keys and values."""
    return _name(type(module))


def given_cache(options: Mapping[str, Any]) -> Any:
    """The keys and values among the arguments of a pass; None where it begins anew."""
    return next((options[name] for name in NAMES if options.get(name) is not None), None)


def left_cache(output: Any) -> Any:
    """The keys and values that a pass leaves behind."""
    return given_cache(output)
