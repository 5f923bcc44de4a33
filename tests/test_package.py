"""The package from outside: its names, and how little is loaded before it is needed."""

import ast
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from house import MODULES


def test_the_command_line_is_there_before_torch():
    code = (
        "import sys, contextlib, io\n"
        "from interp.cli import main as cli\n"
        "for words in (['--help'], ['plot', 'nowhere'], ['express', 'score', 'nowhere.csv']):\n"
        "    sys.argv = ['interp', *words]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        cli.main()\n"
        "import interp.report, interp.report.comparing, interp.files.folder, interp.surveys.express.scoring\n"
        "late = ('torch', 'transformers', 'sae_lens', 'transformer_lens', 'datasets', 'wandb')\n"
        "print([m for m in late if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_the_package_are_what_they_say_however_they_are_loaded():
    import interp
    import interp.capture
    from interp import capture, load_model

    assert callable(interp.capture)
    assert callable(capture)
    assert callable(load_model)
    with pytest.raises(AttributeError, match="no attribute 'captur'"):
        _ = interp.captur
    assert set(interp.__all__) <= set(dir(interp))


ROOT = Path(__file__).parents[1]


def test_a_wheel_holds_what_ships_and_is_one_folder():
    """What `shipped` names lies in the wheel where it is looked for; an editable install copies nothing."""
    built = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]
    wheel = built["targets"]["wheel"]
    assert "force-include" not in wheel
    assert "force-include" not in built
    assert wheel["dev-mode-dirs"] == ["."]
    for name in ("sae_checkpoints/tiny", "sae_checkpoints/smollm2-135m-instruct", "experiments/tiny.yaml"):
        assert name in wheel["only-include"]
    for name in wheel["only-include"]:
        assert (ROOT / name).exists()
        first = name.split("/")[0]
        assert first == "interp" or wheel["sources"][first] == f"interp/{first}"


@pytest.mark.parametrize("kind", ["standard", "editable"])
def test_an_install_has_one_interp_folder(kind, tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    [path] = wheels.WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=[kind])
    with zipfile.ZipFile(path) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
        if kind == "editable":
            assert names == {"_interp.pth"}
            assert Path(wheel.read("_interp.pth").decode().strip()) == ROOT
        else:
            assert {name.split("/")[0] for name in names} == {"interp"}
            tracked = [*(ROOT / "sae_checkpoints/tiny").rglob("*"), ROOT / "experiments/tiny.yaml"]
            assert {f"interp/{one.relative_to(ROOT)}" for one in tracked if one.is_file()} <= names


FOR_ITS_OWN_PROCESS = {"interp.engine.kept"}


def test_every_file_of_tensors_gets_the_mode_of_other_files():
    """safetensors makes files for their owner alone; what is written under `writing` is not."""
    found = 0
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        blocks = [n for n in ast.walk(tree) if isinstance(n, ast.With) and "writing(" in ast.unparse(n.items[0])]
        under = {id(inner) for block in blocks for inner in ast.walk(block)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "save_file":
                found += 1
                assert id(node) in under or module in FOR_ITS_OWN_PROCESS, f"{module}:{node.lineno}"
    assert found >= 6


def test_help_takes_a_part_of_the_time_that_torch_takes():
    """In processor time, so that a busy machine does not count."""
    script = "import resource, sys\n{}\nprint(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]))"
    helped = "import contextlib, io\nsys.argv = ['interp', '--help']\nfrom interp.cli import main as cli\n"
    helped += "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n    cli.main()"

    def seconds(code: str) -> float:
        done = subprocess.run([sys.executable, "-c", script.format(code)], capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert seconds(helped) < seconds("import sae_lens") / 2


def test_the_citation_names_this_version():
    from interp import __version__

    cited = yaml.safe_load((Path(__file__).parents[1] / "CITATION.cff").read_text(encoding="utf-8"))
    assert cited["version"] == __version__
    assert {"cff-version", "message", "title", "authors"} <= {*cited}
    assert cited["license"] in (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
