"""The fields of the configuration as flags: what each takes, its default and its meaning."""

import ast
import inspect
import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

from interp.run import config

KINDS = ((bool, "true|false"), (int, "number"), (float, "number"), (str, "text"), (list, "list"), (dict, "mapping"))


class ConfigField(NamedTuple):
    """A field of the configuration.

    Attributes:
        key: dotted, PART and N standing for a corpus' place (`corpora.PART.limit`, `corpora.ratings.N.limit`).
        kind: what it takes: number, text, true|false, list, mapping; of words, those.
        words: the words that it takes, where it takes words alone or beside others.
        default: as it is written in YAML; empty where there is none.
        means: what its docstring says.
    """

    key: str
    kind: str
    words: list[str]
    default: str
    means: str


def config_fields() -> list[ConfigField]:
    """Every field, in the order of the configuration."""
    return list(_fields(config.Config, ""))


def _fields(kind: type, prefix: str) -> Iterator[ConfigField]:
    types, means = get_type_hints(kind), _docstrings(kind)
    for f in fields(kind):
        own = types[f.name]
        if is_dataclass(own):
            if f.name not in ("discover", "fit"):
                yield from _fields(own, f"{prefix}{f.name}.")  # type: ignore[arg-type]
        elif own not in (list[config.CorpusConfig], list[config.RatingsConfig]):
            words = _words(own)
            yield ConfigField(prefix + f.name, _kind(own, words), words, _default(f), means.get(f.name, ""))
    if kind is config.CorporaConfig:
        yield from _fields(config.CorpusConfig, f"{prefix}PART.")
        yield from _fields(config.RatingsConfig, f"{prefix}ratings.N.")


def _words(kind: Any) -> list[str]:
    """The words of a `Literal`, also within a union."""
    if get_origin(kind) is Literal:
        return [str(a) for a in get_args(kind)]
    return [w for part in get_args(kind) for w in _words(part)] if get_origin(kind) is not list else []


def _kind(kind: Any, words: list[str]) -> str:
    others = [name for base, name in KINDS if base in _bases(kind)]
    if bool in _bases(kind):
        others = [name for name in others if name != "number"]
    return "|".join([*words, *dict.fromkeys(others)])


def _bases(kind: Any) -> set[type]:
    if get_origin(kind) is Literal:
        return set()
    origin = get_origin(kind)
    if origin in (list, dict):
        return {origin}
    if isinstance(kind, type):
        return {kind}
    return {base for part in get_args(kind) if part is not type(None) for base in _bases(part)}


def _default(f: "Field[Any]") -> str:
    if f.default is None or isinstance(f.default, bool):
        return json.dumps(f.default)
    if f.default is not MISSING:
        return str(f.default)
    return "" if f.default_factory is MISSING else str(f.default_factory()).replace("'", "")


def _docstrings(kind: type) -> dict[str, str]:
    """Strings that stand below fields."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        above.target.id: " ".join(str(below.value.value).split())
        for above, below in pairwise(definition.body)
        if isinstance(above, ast.AnnAssign) and isinstance(above.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
    }
