"""What README, documentation, notebooks and help tell people to type is there: commands, options, fields, names.

`python -m benchmarks.documented` runs it.
"""

import ast
import importlib
import re
from pathlib import Path

import pytest
from cyclopts.exceptions import MissingArgumentError

from benchmarks.documented import ROOT, Snippet, commands, imported, mentions, snippets, variants
from interp.cli.console import parsed
from interp.cli.main import TAKE_CONFIG, app
from interp.run.config import load_config

COMMANDS, SNIPPETS, MENTIONS = commands(), snippets(), mentions()
PLACEHOLDER = re.compile(r"\b(CONFIG|\w+\.yaml)\b|\[|\\\||\| \w")
"""Stands for something, or for several things."""


def named(snippet: Snippet) -> str:
    return f"{snippet.page}:{snippet.line}"


def check(words: list[str]) -> None:
    """The words as the command line reads them; of commands that take a configuration, every field."""
    command, bound, *_ = app.parse_args(words, exit_on_error=False, print_error=False)
    if command not in TAKE_CONFIG:
        return
    arguments = list(bound.args)
    if words[0] == "fetch" and not Path(arguments[0]).suffix:
        return
    path, overrides = parsed(arguments)
    mine = path is not None and path.name == "mine.yaml"  # of one's own
    load_config(ROOT / "experiments/tiny.yaml" if mine else path, overrides)


def test_the_pages_have_commands_and_snippets():
    assert len(COMMANDS) > 60
    assert len(SNIPPETS) > 15
    pages = {one.page for one in (*COMMANDS, *SNIPPETS)}
    assert {"README.md", "docs/pages/howto/steer.md", "notebooks/04_your_own_model_and_saes.ipynb"} <= pages
    assert {"interp/cli/running.py", "notebooks/06_circuits.ipynb", "docs/pages/faq.md"} <= {m.page for m in MENTIONS}
    assert len(MENTIONS) > 100


@pytest.mark.parametrize("command", COMMANDS, ids=named)
def test_every_command_is_one_with_options_and_fields_that_there_are(command, monkeypatch):
    monkeypatch.chdir(ROOT)
    for words in variants(command.code):
        check(words)


@pytest.mark.parametrize("mention", MENTIONS, ids=named)
def test_what_sentences_speak_of_is_there(mention, monkeypatch):
    monkeypatch.chdir(ROOT)
    mentioned(mention.code)


def mentioned(code: str) -> None:
    """A command and those of its options that a sentence names; it may leave out what the command needs."""
    if PLACEHOLDER.search(code):
        assert code.split()[1] in {*app}, code
        return
    for words in variants(code):
        if words == ["fetch"]:
            continue
        try:
            check(words)
        except MissingArgumentError:
            _, (*_, command), _ = app.parse_commands(words)
            known = {name for one in command.assemble_argument_collection() for name in one.names}
            assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known, code


def test_a_sentence_that_speaks_of_nothing_is_found():
    for code in (
        "interp exprot RUN",
        "interp export RUN --too hf",
        "interp run --tracing.candidate 3",
        "interp chek CONFIG",
    ):
        with pytest.raises(Exception, match=r"exprot|too|candidate|chek"):
            mentioned(code)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=named)
def test_every_snippet_is_python_and_finds_what_it_imports(snippet):
    ast.parse(snippet.code)
    for module, name in imported(snippet.code):
        found = importlib.import_module(module)
        if not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")


@pytest.mark.parametrize(
    "words",
    [["run", "--tracing.candidate", "3"], ["generate", "runs/x"], ["export", "runs/x", "--too", "hf"], ["exprot", "x"]],
)
def test_a_command_that_is_not_there_is_found(words):
    with pytest.raises(Exception, match=r"candidate|prompt|too|exprot"):
        check(words)


def test_optional_parts_and_alternatives_are_written_out():
    assert list(variants("interp export r --to hf|gguf [--emotion joy | --constant]")) == [
        ["export", "r", "--to", "hf"],
        ["export", "r", "--to", "gguf"],
        ["export", "r", "--to", "hf", "--emotion", "joy"],
        ["export", "r", "--to", "gguf", "--emotion", "joy"],
        ["export", "r", "--to", "hf", "--constant"],
        ["export", "r", "--to", "gguf", "--constant"],
    ]
