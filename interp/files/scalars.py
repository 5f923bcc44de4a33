"""Words to values by the type of their field: YAML whose scalars are all text, and flags that are never YAML."""

import math
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from interp.errors import UserError, quoted

NOTHING = ("", "~", "null", "Null", "NULL", "none", "None", "NONE")
"""What stands for None in a field that can be left empty."""
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
MOST_BYTES, MOST_NODES = 2**20, 10_000
"""Of a configuration file, and of its values with every alias written out."""
MOST_DEEP = 50
MOST_DIGITS = 30


class _Words(yaml.SafeLoader):
    """YAML in which every plain scalar is text, keys stand once, and aliases cannot multiply.

    With the resolvers of YAML 1.1, `yes` and `no` are booleans, `1_0` is ten and `12:30` is 750.
    """

    yaml_implicit_resolvers = {"<": [("tag:yaml.org,2002:merge", re.compile("^<<$"))]}  # noqa: RUF012

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self.depth += 1
        if self.depth > MOST_DEEP:
            raise yaml.YAMLError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > MOST_NODES:
            raise yaml.YAMLError(f"its aliases stand for more than {MOST_NODES:,} values")
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for i, key in enumerate(keys):
            if key in keys[:i] and key != "<<":
                raise yaml.MarkedYAMLError(None, None, f"the key {quoted(key)} stands twice", node.start_mark)
        return dict(super().construct_mapping(node, deep))


def _written_out(node: yaml.Node, known: dict[int, float]) -> float:
    """Values below a node, aliases counted each time they stand; infinite where a node holds itself."""
    if id(node) not in known:
        known[id(node)] = math.inf
        inner: Iterator[yaml.Node] = iter(())
        if isinstance(node, yaml.MappingNode):
            inner = (part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            inner = iter(node.value)
        known[id(node)] = 1 + sum(_written_out(part, known) for part in inner)
    return known[id(node)]


def load_words(path: Path) -> dict[str, Any]:
    """A YAML file's mapping, all scalars as text.

    Raises:
        UserError: no such file, not a mapping, or not YAML.
    """
    if not path.is_file():
        raise UserError(f"No config file {quoted(str(path))}; give a YAML file such as experiments/tiny.yaml.")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES >> 20} MB: it is no config file.")
    try:
        tree = _words(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path} is not UTF-8 text: it is no config file.") from None
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not valid YAML{_place(error)}") from None
    if tree is not None and not isinstance(tree, dict):
        raise UserError(f"{path} must hold a mapping of keys to values, such as `name: tiny`.")
    return tree or {}


def _words(text: str) -> Any:
    return yaml.load(text, _Words)


def _place(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = quoted(str(getattr(error, "problem", None) or error).splitlines()[0], 120)[1:-1]
    return f": {problem}." if mark is None else f", line {mark.line + 1}: {problem}."


def alternatives(hint: Any) -> list[Any]:
    """The types that a hint stands for, without their annotations."""
    if get_origin(hint) is Annotated:
        return alternatives(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [kind for inner in get_args(hint) for kind in alternatives(inner)]
    return [hint]


def dotted_keys(kind: Any, prefix: str = "") -> list[str]:
    """Names of a dataclass' fields, and of those of the dataclasses in them."""
    keys, kinds = [], get_type_hints(kind)
    for field in fields(kind):
        keys.append(prefix + field.name)
        if is_dataclass(kinds[field.name]):
            keys += dotted_keys(kinds[field.name], f"{prefix}{field.name}.")
    return keys


def hints_of(kind: Any) -> dict[str, Any]:
    """The types of a dataclass' fields, with their annotations."""
    return _hints(kind)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: hints[f.name] for f in fields(kind)}


def typed(value: Any, hint: Any, *, key: str | None = None) -> Any:
    """Words as the values they are in a field of type `hint`; what does not fit stays as it is, to be refused.

    Args:
        key: of a flag; its lists and mappings are written in YAML's flow style, `[a, b]` and `{a: b}`.

    Raises:
        UserError: a flag's list or mapping that is none.
    """
    kinds = alternatives(hint)
    if isinstance(value, str):
        if key is not None and any(_is_compound(kind) for kind in kinds) and value not in NOTHING:
            return typed(_flow(value, key, kinds), hint)
        return _scalar(value, kinds)
    for kind in kinds:
        if isinstance(value, list) and get_origin(kind) is list:
            return [typed(item, get_args(kind)[0]) for item in value]
        if isinstance(value, Mapping) and get_origin(kind) is dict:
            return {name: typed(item, get_args(kind)[1]) for name, item in value.items()}
        if isinstance(value, Mapping) and is_dataclass(kind):
            known = hints_of(kind)
            return {name: typed(item, known[name]) if name in known else item for name, item in value.items()}
    return value


def _is_compound(kind: Any) -> bool:
    return get_origin(kind) in (list, dict) or is_dataclass(kind)


def _flow(text: str, key: str, kinds: list[Any]) -> Any:
    listed = any(get_origin(kind) is list for kind in kinds)
    shape = "a list such as [a, b]" if listed else "a mapping such as {a: b}"
    try:
        value = _words(text)
    except yaml.YAMLError:
        value = None
    if not isinstance(value, list if listed else dict):
        raise UserError(f"--{key} must be {shape}; got {quoted(text)}.")
    return value


def _scalar(text: str, kinds: list[Any]) -> Any:
    if type(None) in kinds and text in NOTHING:
        return None
    if bool in kinds and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if int in kinds and re.fullmatch(rf"[+-]?\d{{1,{MOST_DIGITS}}}", text):
        return int(text)
    if float in kinds and re.fullmatch(
        r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,4})?|[+-]?\.?(nan|inf)", text, re.IGNORECASE
    ):
        return float(text.lower().replace(".nan", "nan").replace(".inf", "inf"))
    for kind in kinds:
        if get_origin(kind) is Literal and text.lower() in get_args(kind):
            return text.lower()
    return text
