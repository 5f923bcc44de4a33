"""Where a language model recognises emotions, through which sparse features, and how to steer them."""

from interp.capture import Captured, capture
from interp.corpora import Example, load_corpus
from interp.errors import UserError
from interp.loading import load_model
from interp.model import LanguageModel
from interp.sae_loading import load_saes
from interp.saes import SaeStack
from interp.steering.steering import Steering

__version__ = "0.1.0"
__all__ = [
    "Captured",
    "Example",
    "LanguageModel",
    "SaeStack",
    "Steering",
    "UserError",
    "capture",
    "load_corpus",
    "load_model",
    "load_saes",
]
