"""Where a language model recognises emotions, through which sparse features, and how to steer them."""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from interp import _moved

if TYPE_CHECKING:
    from interp.engine.capture import Captured, capture
    from interp.errors import UserError
    from interp.models.language_model import LanguageModel
    from interp.models.loading import load_model
    from interp.report.opened import OpenedRun, open_run
    from interp.saes.loading import load_saes
    from interp.saes.stack import SaeStack
    from interp.steering.steering import Steering
    from interp.texts.examples import Example, load_corpus

__version__ = "0.2.0"
__all__ = [
    "Captured",
    "Example",
    "LanguageModel",
    "OpenedRun",
    "SaeStack",
    "Steering",
    "UserError",
    "capture",
    "load_corpus",
    "load_model",
    "load_saes",
    "open_run",
]
_WHERE = {
    "Captured": "interp.engine.capture",
    "Example": "interp.texts.examples",
    "LanguageModel": "interp.models.language_model",
    "OpenedRun": "interp.report.opened",
    "SaeStack": "interp.saes.stack",
    "Steering": "interp.steering.steering",
    "UserError": "interp.errors",
    "capture": "interp.engine.capture",
    "load_corpus": "interp.texts.examples",
    "load_model": "interp.models.loading",
    "load_saes": "interp.saes.loading",
    "open_run": "interp.report.opened",
}


def __getattr__(name: str) -> Any:
    """Names are loaded when they are asked for (PEP 562): torch and what stands on it take seconds."""
    if name in _WHERE:
        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module 'interp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """`interp.capture` is the function: the module that once had that name must not put itself in its place."""

    def __setattr__(self, name: str, value: object) -> None:
        if isinstance(value, ModuleType) and name in _WHERE:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
_moved.install()
