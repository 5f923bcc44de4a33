"""What commands have in common: --json, --quiet, --out, --limit and --log have one name, one type and one sentence."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from cyclopts import App, Parameter

from interp.cli import main as cli
from interp.cli.console import Json, Log, Out, Quiet
from interp.cli.options import Limit
from interp.texts.examples import load_corpus

SHARED: dict[str, Any] = {"--json": Json, "--quiet": Quiet, "--out": Out, "--limit": Limit, "--log": Log}
KEEP_RUNNING = {("serve",), ("app",)}
SHOW_ONLY = {
    *(("models",), ("corpora",), ("check",), ("certify",), ("generate",)),
    *(("express", "score"), ("reliability", "score")),
}
"""Commands whose result is what they print: no file of theirs is left to be named."""
TAKE_FIELDS = {(command.__name__,) for command in cli.TAKE_CONFIG} | {("sweep",), ("saes", "train")}
"""Commands of which --out is a field of a file."""


def commands(app: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    for name in app:
        if name.startswith("-"):
            continue
        inner = app[name]
        if inner.default_command is None:
            yield from commands(inner, (*path, name))
        else:
            yield (*path, name), inner


def flags(command: App) -> dict[str, tuple[Any, str]]:
    """By name, the type of an option and its help."""
    found = command.assemble_argument_collection(parse_docstring=True)
    return {name: (one.hint, str(one.parameter.help)) for one in found for name in one.names}


def differences(name: str, command: tuple[Any, str]) -> bool:
    kind, *more = SHARED[name].__metadata__
    said = next(one.help for one in (kind, *more) if isinstance(one, Parameter) and one.help)
    return command != (SHARED[name].__origin__, said)


def complaints(app: App) -> list[str]:
    """What in the commands of an app is not as everywhere else."""
    found = []
    for path, command in commands(app):
        own, name = flags(command), " ".join(path)
        found += [f"{name} {flag}: {own[flag]}" for flag in SHARED if flag in own and differences(flag, own[flag])]
        needed = {"--json"} if path in SHOW_ONLY else set() if path in KEEP_RUNNING else {"--json", "--quiet"}
        found += [f"{name} has no {flag}" for flag in sorted(needed - {*own})]
        if path in SHOW_ONLY and "--out" in own:
            found.append(f"{name} writes files and has no --quiet")
        if "--out" in own and "--out" not in command.help and path not in TAKE_FIELDS:
            found.append(f"{name} does not say where the result goes without --out")
    return found


def test_shared_flags_have_one_name_one_type_and_one_sentence_in_every_command():
    assert len(list(commands(cli.app))) > 25
    assert complaints(cli.app) == []


def test_a_command_that_differs_is_seen():
    app = App()

    @app.command
    def other(*, json: bool = False, out: Path = Path("here"), limit: int = 3) -> None:
        """A command of its own kind."""

    found = complaints(app)
    assert [line.split(":")[0] for line in found] == [
        *("other --json", "other --out", "other --limit", "other has no --quiet"),
        "other does not say where the result goes without --out",
    ]


def test_the_documentation_says_where_every_command_writes():
    page = (Path(__file__).parents[1] / "docs/pages/commands.md").read_text(encoding="utf-8")
    for path, command in commands(cli.app):
        if "--out" in flags(command):
            assert f"| `{' '.join(path)}` |" in page, path
    for flag, kind in SHARED.items():
        said = next(one.help for one in kind.__metadata__ if isinstance(one, Parameter) and one.help)
        assert f"`{flag}`" in page
        assert said in " ".join(page.split()), flag


def outcome(words: list[str], capsys, monkeypatch) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["interp", *map(str, words)])
    code = 0
    try:
        cli.main()
    except SystemExit as stopped:
        code = int(stopped.code or 0)
    shown = capsys.readouterr()
    return code, shown.out, shown.err


@pytest.fixture
def answers(tmp_path) -> list[Path]:
    """Two files of answers to two questions."""
    rows = {
        "id": ["a-0", "b-0"],
        "number_of_labels": [1, 1],
        "labels": ["['happy']", "['afraid']"],
        "output_formatted": ["['happy']", "['sad']"],
    }
    paths = [tmp_path / f"{name}.csv" for name in ("first", "second")]
    for path in paths:
        pd.DataFrame(rows).to_csv(path, index=False)
    return paths


def test_express_compare_prints_one_document_or_one_path(answers, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = ["express", "compare", *answers, "--resamples", "20"]
    code, out, err = outcome([*words, "--json"], capsys, monkeypatch)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert Path(told["page"]) == Path("runs/express-comparison/comparison.html")
    assert [*told["entries"]] == ["first", "second"]
    code, out, err = outcome([*words, "--quiet", "--out", tmp_path / "there"], capsys, monkeypatch)
    assert (code, out.split(), err) == (0, [str(tmp_path / "there/comparison.html")], "")
    code, out, err = outcome(words, capsys, monkeypatch)
    assert code == 0
    assert "AccL" in err
    assert out.strip() == "runs/express-comparison/comparison.html"


def test_reliability_compare_prints_one_document_or_one_path(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = ["reliability", "run", "--limit", "1", "--variations", "order", "--resamples", "20"]
    code, out, err = outcome([*asked, "--quiet"], capsys, monkeypatch)
    assert (code, out.split(), err) == (0, ["runs/reliability-tiny"], "")
    words = ["reliability", "compare", "runs/reliability-tiny"]
    code, out, err = outcome([*words, "--json"], capsys, monkeypatch)
    told = json.loads(out)
    assert (code, err) == (0, "")
    assert told["page"] == "runs/reliability.html"
    assert told["runs"][0]["name"] == "tiny"
    assert 0 <= told["runs"][0]["questionnaire"]["order"]["value"] <= 1
    code, out, err = outcome([*words, "--quiet"], capsys, monkeypatch)
    assert (code, out.split(), err) == (0, ["runs/reliability.html"], "")


def test_nothing_goes_into_the_folder_one_stands_in(answers, capsys, monkeypatch, tmp_path):
    before = {path.name for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    posts = tmp_path / "first.csv"
    pd.DataFrame({"id": ["a"], "text": ["I feel happy that the sun came out."]}).to_csv(posts, index=False)
    code, out, err = outcome(["express", "build", posts, "--json"], capsys, monkeypatch)
    told = json.loads(out)
    assert (code, err, told["segments"]) == (0, "", 1)
    assert told["path"] == "runs/first-segments.csv"
    assert (tmp_path / told["path"]).is_file()
    assert {path.name for path in tmp_path.iterdir()} == before | {"runs"}


def test_limit_draws_with_the_seed():
    drawn = [load_corpus("vignettes", split="all", limit=10, seed=seed) for seed in (0, 0, 1)]
    texts = [{one.text for one in own} for own in drawn]
    assert len(texts[0]) == 10
    assert texts[0] == texts[1] != texts[2]
