"""Wrong input, generated from the fields of the configuration and the signatures of the commands.

Each gives exit code 2 and at most three lines; none of it gets as far as loading a model.
"""

import inspect
import sys
from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest

from interp.cli import express, reliability
from interp.cli import main as cli
from interp.cli import saes as saes_cli
from interp.files.scalars import alternatives, hints_of
from interp.models import loading
from interp.run import pipeline
from interp.run.config import Config

HOSTILE = ["\x1b[31mred", "a\nb", "", "half \ud83d", "nul\0"]
"""No text of one line."""
NUMBERS = ["many", "-1", "1.5", "nan", "inf", "true", "1e400", "9" * 5000, "[1]", "{a: 1}"]
WRONG: dict[Any, list[str]] = {
    int: NUMBERS,
    float: ["many", "-1", "nan", "inf", "-inf", "true", "[1]", "9" * 5000],
    bool: ["maybe", "2", "[true]", "{}"],
    str: HOSTILE,
    list: ["x", "{a: b}", "[", "[[1, 2]]", "[{nonsense: 1}]", "[" * 3000],
    dict: ["x", "[a]", "{", "{a: [b]}", "{a: boredom}", "{a: b, a: c}"],
    "part": ["[a]", "{nonsense: 1}", "{a", "{name: x, name: y}", "&a {name: *a}"],
}
SEVERAL_LINES = "prompt.template"
PLAIN = (
    *("plot", "inspect", "circuit", "patch", "generate", "export", "compare", "models", "corpora", "findings"),
    *("certify", "serve", "log", "tables"),
)
COMMANDS = {
    **{(name,): getattr(cli, name) for name in PLAIN},
    ("app",): cli.app_page,
    **{("express", name): getattr(express, name) for name in ("score", "run", "compare", "build")},
    ("saes", "check"): saes_cli.check,
    **{("reliability", name): getattr(reliability, name) for name in ("score", "run", "bias", "compare")},
}


def config_inputs(kind: Any = Config, prefix: str = "") -> Iterator[tuple[str, ...]]:
    """(--dotted.key, wrong value) for every field, by its type."""
    hints = get_type_hints(kind, include_extras=True)
    for f in fields(kind):
        key, kinds = prefix + f.name, alternatives(hints[f.name])
        yield f"--{key}x", "1"
        yield (f"--{key}",)
        for wrong in _wrong(kinds):
            if (wrong == "" and type(None) in kinds) or (key == SEVERAL_LINES and wrong in ("a\nb", "")):
                continue
            if key == "saes" and wrong[0] != "{":  # a name
                continue
            yield f"--{key}", wrong
        for inner in kinds:
            if is_dataclass(inner):
                yield from config_inputs(inner, f"{key}.")
            elif get_origin(inner) is list and is_dataclass(get_args(inner)[0]):
                yield from config_inputs(get_args(inner)[0], f"{key}.0.")


def _wrong(kinds: list[Any]) -> list[str]:
    """Values that none of the types has."""
    for kind in (list, dict):
        if any(get_origin(k) is kind for k in kinds):
            return WRONG[kind]
    if any(is_dataclass(k) for k in kinds):
        return WRONG["part"]
    if str in kinds:
        return WRONG[str]
    found = next((WRONG[k] for k in (float, int, bool) if k in kinds), ["nonsense", "[x]", "0"])
    return [w for w in found if not any(get_origin(k) is Literal and w in get_args(k) for k in kinds)]


def command_inputs() -> Iterator[tuple[str, ...]]:
    """Every command without what it needs, with an unknown option, and with a wrong value for each option."""
    for words, function in COMMANDS.items():
        hints = get_type_hints(function, include_extras=True)
        given: list[str] = []
        options = {}
        for name, parameter in inspect.signature(function).parameters.items():
            kinds = alternatives(hints[name])
            flag = f"--{name.strip('_').replace('_', '-')}"
            if is_dataclass(kinds[0]):  # its fields are the flags
                own = hints_of(kinds[0])
                options |= {f"--{f.name.replace('_', '-')}": alternatives(own[f.name]) for f in fields(kinds[0])}
                needed = [f.name for f in fields(kinds[0]) if f.default is MISSING and f.default_factory is MISSING]
                given += [word for field in needed for word in (f"--{field}", "nowhere/at/all")]
            elif parameter.kind is parameter.KEYWORD_ONLY:
                options[flag] = kinds
                if parameter.default is parameter.empty:
                    given += [flag, "nowhere/at/all"]
            elif parameter.default is parameter.empty:
                given = ["nowhere/at/all", *given]
        if given:
            yield words
        yield (*words, *given, "--nonsense", "1")
        for flag, kinds in options.items():
            if bool not in kinds:
                yield (*words, *given, flag)
            if int in kinds:
                wrong = ["many", "-1", "nan", "9" * 5000, "9" * 12]
            elif float in kinds:
                wrong = ["many", "nan", "inf"]
            else:
                wrong = ["nul\0", "half \ud83d"]
            for value in wrong if bool not in kinds else ["nonsense"]:
                yield (*words, *given, f"{flag}={value}")


class AcceptedError(Exception):
    """The configuration was taken for right."""


def outcome(words: tuple[str, ...], capsys, monkeypatch) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["interp", *words])
    with pytest.raises((SystemExit, AcceptedError)) as stopped:
        cli.main()
    shown = capsys.readouterr()
    return getattr(stopped.value, "code", 0), shown.err


def complaint(words: tuple[str, ...], code: int, said: str) -> str | None:
    """What is wrong with the way in which an input was refused."""
    lines = said.strip().splitlines()
    if code != 2 or not 1 <= len(lines) <= 3 or "Traceback" in said or len(said) > 1000 or "\x1b[31mred" in said:
        return f"{[w[:60] for w in words]} -> {code}: {said[:300]!r}"
    return None


def battery(inputs: list[tuple[str, ...]], capsys, monkeypatch) -> list[str]:
    return [c for words in inputs if (c := complaint(words, *outcome(words, capsys, monkeypatch)))]


@pytest.fixture(autouse=True)
def _nothing_runs(monkeypatch, tmp_path):
    def accepted(*_: object, **__: object) -> None:
        raise AcceptedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", accepted)
    monkeypatch.setattr(loading, "load_model", accepted)
    monkeypatch.setattr(cli, "_explained", lambda error: (_ for _ in ()).throw(error), raising=True)


def test_every_wrong_value_of_every_field_is_one_line(capsys, monkeypatch):
    inputs = [("run", *words) for words in config_inputs()]
    assert len(inputs) > 150
    assert not battery(inputs, capsys, monkeypatch)


def test_every_wrong_use_of_every_command_is_one_line(capsys, monkeypatch):
    inputs = list(command_inputs())
    assert len(inputs) > 100
    assert not battery(inputs, capsys, monkeypatch)


def test_the_battery_sees_every_command():
    known = {(name,) for name in cli.app if not name.startswith("-")}
    listed = {words[:1] for words in COMMANDS} | {
        ("run",),
        ("trace",),
        ("trees",),
        ("steer",),
        ("check",),
        ("fetch",),
        ("sweep",),
        ("stream",),
    }
    assert known <= listed
    for group, app in (("express", express.app), ("reliability", reliability.app), ("saes", saes_cli.app)):
        assert {(group, name) for name in app if not name.startswith("-")} <= {*COMMANDS, ("saes", "train")}


def test_right_values_are_taken(capsys, monkeypatch, tmp_path):
    right = {
        "--name": "2024",
        "--labels": "[yes, no]",
        "--prompt.template": "Text: {text} # of a kind\nEmotion:",
        "--corpora.discover.path": str(Path("a #b: c.csv")),
        "--corpora.discover.mapping": "{0: yes, 1: no}",
        "--saes.width": "16k",
        "--saes.layers": "[0, 5]",
        "--batch_size": "auto",
        "--prompt.chat": "false",
    }
    words = [word for pair in right.items() for word in pair]
    code, said = outcome(("run", *words), capsys, monkeypatch)
    assert (code, said) == (0, "")
