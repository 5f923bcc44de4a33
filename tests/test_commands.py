"""Commands of whole runs: what they print, what they refuse, and how they end."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from types import SimpleNamespace

import pytest
from worlds import shell, start

from interp.cli import main as cli
from interp.run import pipeline
from interp.run.fields import config_fields
from interp.run.steerable import Steerable

COMMANDS = ["run", "trace", "steer", "plot", "inspect", "generate", "export", "compare", "models", "check", "fetch"]
COMMANDS += ["findings", "trees", "circuit", "patch", "certify", "serve", "log", "tables"]


def test_the_command_prints_the_report_last(world, tmp_path):
    done = shell("run", str(world / "small.yaml"), "--out", "here", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "here/small/report.html"
    assert (tmp_path / "here/small/report.html").stat().st_size > 1e5
    assert "macro-F1" in done.stderr
    again = shell("plot", "here/small", cwd=tmp_path)
    assert again.returncode == 0
    assert again.stdout == done.stdout


REFUSALS = {
    "no such config": (["run", "nowhere.yaml"], "No config file 'nowhere.yaml'"),
    "unknown option": (
        ["run", "{c}", "--tracing.candidate", "3"],
        "unknown key 'tracing.candidate'; did you mean 'candidates'",
    ),
    "unknown top-level option": (["run", "{c}", "--modell", "x"], "--modell; did you mean 'model'"),
    "value missing": (["run", "{c}", "--seed"], "--seed needs a value"),
    "value of the wrong kind": (["run", "{c}", "--tracing.candidates", "many"], "tracing.candidates"),
    "value out of range": (["run", "{c}", "--tracing.candidates", "0"], "candidates must be at least 1"),
    "unknown corpus": (["run", "{c}", "--corpora.discover.name", "goemotion"], "did you mean 'goemotions'"),
    "unknown split": (["run", "{c}", "--corpora.discover.split", "discovr"], "did you mean 'discover'"),
    "missing corpus file": (["run", "{c}", "--corpora.discover.path", "gone.csv"], "gone.csv"),
    "missing column": (["run", "{c}", "--corpora.discover.text_column", "wordz"], "did you mean 'words'"),
    "unknown label": (["run", "{c}", "--labels", "[anger, fear, boredom]"], "boredom"),
    "one label": (["run", "{c}", "--labels", "[anger]"], "at least two"),
    "unknown model": (["run", "{c}", "--model", "tinny"], "did you mean 'tiny'"),
    "empty model folder": (["run", "{c}", "--model", "{w}/saes"], "config.json"),
    "missing SAE folder": (["run", "{c}", "--saes", "{w}/gone"], "gone"),
    "SAE folder without SAEs": (["run", "{c}", "--saes", "{w}/model"], "folder per layer"),
    "unknown template": (["run", "{c}", "--prompt.template", "defalt"], "did you mean 'default'"),
    "template without text": (["run", "{c}", "--prompt.template", "Say {labels}"], "{text}"),
    "unknown device": (["run", "{c}", "--device", "gpu0"], "device"),
    "unknown dtype": (["run", "{c}", "--dtype", "float23"], "dtype"),
    "missing plain text": (["run", "{c}", "--fluency.path", "gone.txt"], "gone.txt"),
    "no run folder to plot": (["plot", "."], "no run folder"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_input_gets_one_clear_line_and_exit_code_two(world, tmp_path, case, capfd, monkeypatch):
    words, expected = REFUSALS[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "interp",
            *(
                w.format(c=world / "small.yaml", w=world) if "{text}" not in w and "{labels}" not in w else w
                for w in words
            ),
        ],
    )
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    err = capfd.readouterr().err
    assert stopped.value.code == 2, err
    lines = [line for line in err.splitlines() if line.startswith("interp:")]
    assert len(lines) == 1
    assert expected in lines[0]
    assert "Traceback" not in err


def test_an_unwritable_folder_is_refused(world, tmp_path):
    (tmp_path / "file").touch()
    done = shell("run", str(world / "small.yaml"), "--out", "file", cwd=tmp_path)
    assert done.returncode == 2
    assert "Cannot write to file" in done.stderr


def test_a_full_disk_is_one_line_and_loses_nothing(world, tmp_path, monkeypatch, capfd):
    from interp.run.stages import trace

    def full(path, table):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(trace, "tables", SimpleNamespace(write=full))
    monkeypatch.setattr(sys, "argv", ["interp", "run", str(world / "small.yaml"), "--out", str(tmp_path)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "No space left on device" in capfd.readouterr().err
    monkeypatch.undo()
    resumed = start(world, tmp_path)
    assert "capture" in resumed.skipped
    assert resumed.ran[:6] == ["trace", "steer", "causes", "evaluate", "parts", "selectivity"]


def test_our_own_faults_exit_with_one(world, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pipeline, "run", lambda *a, **k: 1 / 0)
    monkeypatch.setattr(sys, "argv", ["interp", "run", str(world / "small.yaml")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 1
    assert "our fault (ZeroDivisionError" in capfd.readouterr().err
    assert "1 / 0" in (tmp_path / "interp-error.log").read_text()


def test_interruption_is_one_line(world, monkeypatch, capfd):
    def interrupted(*a, **k):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["interp", "run", str(world / "small.yaml")])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "goes on from there" in capfd.readouterr().err


def test_tables_come_as_json(world, finished, tmp_path):
    done = shell("run", str(world / "small.yaml"), "--out", str(finished.parent), "--json", cwd=tmp_path)
    found = json.loads(done.stdout)
    assert done.stderr.count("note:") == len(done.stderr.splitlines())  # no progress beside it
    assert found["report"].endswith("report.html")
    assert found["ran"] == []
    gains = [r for r in found["evaluation"] if r["metric"] == "macro_f1_gain" and r["method"] == "steered"]
    assert gains
    assert gains[0]["corpus"] == "local"
    checked = json.loads(shell("check", str(world / "small.yaml"), "--json", cwd=tmp_path).stdout)
    assert checked["downloads"] == []
    assert checked["peak_bytes"] > 0
    assert checked["stages"]


def test_completion_for_the_shell_is_written(tmp_path):
    done = shell("--install-completion", "--shell", "bash", "--output", "interp.sh", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    script = (tmp_path / "interp.sh").read_text()
    for known in ("--tracing.candidates", "--corpora.discover.name", "goemotions", "smollm2-135m-instruct", "bfloat16"):
        assert known in script
    assert [file.name for file in tmp_path.iterdir()] == ["interp.sh"]  # and the shell's own files are not touched


def test_the_completion_completes_fields_names_and_words(tmp_path):
    """As bash would: the last word is completed by the function that the script defines."""
    done = shell("--install-completion", "--shell", "bash", "--output", "interp.sh", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr

    def offered(*words: str) -> set[str]:
        given = " ".join(repr(word) for word in ("interp", *words))
        state = f"COMP_WORDS=({given}); COMP_CWORD={len(words)}; COMPREPLY=()"
        code = f"source interp.sh; {state}; _interp; printf '%s\\n' \"${{COMPREPLY[@]}}\""
        return {*subprocess.run(["bash", "-c", code], cwd=tmp_path, capture_output=True, text=True).stdout.split()}

    assert "--tracing.candidates" in offered("run", "--trac")
    assert {"goemotions", "local"} <= offered("run", "--corpora.discover.name", "")
    assert {"tiny", "smollm2-135m-instruct"} <= offered("run", "--model", "")
    assert {"circuit", "check"} <= offered("c")


ASK_ZSH = r"""
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "stty cols 200; autoload -U compinit; fpath=($PWD \$fpath); compinit -u -D; $1; print rea''dy"
zpty -r shell said '*ready*'
zpty -w -n shell "interp run --tracing.posi"$'\t'
zpty -r shell said '*--tracing.position*' && print -r -- "$said"
zpty -d shell
"""
"""Does $1 in an interactive zsh, types the beginning of a field and a Tab, and prints what is shown."""


@pytest.mark.parametrize(
    ("name", "load"), [("_interp", ":"), ("_cyclopts_interp", ":"), ("interp.zsh", ". ./interp.zsh")]
)
def test_zsh_completes_whatever_the_script_is_called_and_however_it_is_loaded(name, load, tmp_path):
    done = shell("--install-completion", "--shell", "zsh", "--output", name, cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    script = (tmp_path / name).read_text()
    assert script.startswith("#compdef interp\n")
    for call in ('_cyclopts_interp "$@"', "compdef _cyclopts_interp interp", "_cyclopts_interp() {"):
        assert call in script
    if not shutil.which("zsh"):
        pytest.skip("no zsh: nothing is completed in it")
    (tmp_path / "ask.zsh").write_text(ASK_ZSH)
    asked, plain = ["zsh", "-f", "ask.zsh", load], os.environ | {"TERM": "dumb"}
    shown = subprocess.run(asked, cwd=tmp_path, capture_output=True, text=True, timeout=30, env=plain)
    assert "--tracing.position" in shown.stdout, shown.stderr


def test_fish_completes_fields_and_words(tmp_path):
    done = shell("--install-completion", "--shell", "fish", "--output", "interp.fish", cwd=tmp_path, HOME=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "-l tracing.position -x -a 'answer all'" in (tmp_path / "interp.fish").read_text()
    if not shutil.which("fish"):
        pytest.skip("no fish: nothing is completed in it")

    def offered(line: str) -> set[str]:
        code = f"source interp.fish; complete -C '{line}'"
        said = subprocess.run(["fish", "-N", "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=30)
        return {words.split("\t")[0] for words in said.stdout.splitlines()}

    assert "--tracing.position" in offered("interp run --tracing.posi")
    assert {"answer", "all"} == offered("interp run --tracing.position ")


def test_help_lists_every_field_with_its_type_and_default(tmp_path):
    done = shell("run", "--help", cwd=tmp_path, COLUMNS="80")
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    told = "".join(shell("run", "--help", cwd=tmp_path, COLUMNS="300").stdout.split())
    for field in config_fields():
        assert field.means, field.key
        assert f"--{field.key}{field.kind}{f'[{field.default}]' if field.default else ''}".replace(" ", "") in told
    keys = {field.key for field in config_fields()}
    assert {"tracing.candidates", "saes.name", "corpora.PART.limit", "corpora.ratings.N.columns", "seed"} <= keys


def test_without_a_terminal_stages_are_lines_and_nothing_is_drawn(world, tmp_path):
    done = shell("trace", str(world / "small.yaml"), "--out", "here", cwd=tmp_path)
    assert "\r" not in done.stderr
    assert "%|" not in done.stderr
    assert "capture, stage 1 of " in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command, capsys):
    cli.app.help_print([command])
    assert "For example:" in capsys.readouterr().out


def test_serve_answers_until_interrupted(finished, tmp_path):
    """The command as a user gives it: an address, an answer under the run's emotions, and an end on Ctrl+C."""
    pytest.importorskip("fastapi", reason="FastAPI is not installed: pip install 'interp[serve]'")
    emotions = Steerable.of_run(finished).emotions
    words = [sys.executable, "-m", "interp.cli", "serve", str(finished), "--port", "0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as served:
        try:
            said = next(line for line in served.stderr if "http://" in line)
            address = re.search(r"http://[\d.:]+/v1", said)[0]
            names = [m["id"] for m in _posted(f"{address}/models", None)["data"]]
            assert names[0] == finished.name
            assert set(names) >= {f"{finished.name}:{emotion}" for emotion in emotions}
            reply = _posted(f"{address}/completions", {"model": names[-1], "prompt": "The dog", "max_tokens": 3})
            assert 0 <= reply["usage"]["completion_tokens"] <= 3
            served.send_signal(signal.SIGINT)
            assert served.wait(timeout=60) in (0, 2, -signal.SIGINT)
        finally:
            served.kill()


def _posted(address: str, body: dict | None) -> dict:
    """The JSON that comes back."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address, data, {"content-type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)
