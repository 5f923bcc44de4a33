"""Keys and values that a pass goes on from: transformers calls them `past_key_values`, and from 5.24 on `cache`."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

NAMES = ("cache", "past_key_values", "layer_past")
"""What a forward may call them, the newest first."""


_known: dict[type[nn.Module], str] = {}


def cache_name(module: nn.Module) -> str:
    """The argument of a model or a block that takes keys and values."""
    kind = type(module)
    if kind not in _known:
        parameters = inspect.signature(kind.forward).parameters
        _known[kind] = next((name for name in NAMES if name in parameters), "past_key_values")
    return _known[kind]


def cache_in(named: Mapping[str, Any]) -> Any:
    """The keys and values among the arguments of a pass, or in its output; None where there are none."""
    return next((named[name] for name in NAMES if named.get(name) is not None), None)
