"""The package from outside: its names, and how little is loaded before it is needed."""

import subprocess
import sys

import pytest


def test_the_command_line_is_there_before_torch():
    code = (
        "import sys, contextlib, io\n"
        "from interp.cli import main as cli\n"
        "for words in (['--help'], ['plot', 'nowhere'], ['express', 'score', 'nowhere.csv']):\n"
        "    sys.argv = ['interp', *words]\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        cli.main()\n"
        "import interp.report, interp.report.comparing, interp.files.folder, interp.surveys.express.scoring\n"
        "print([m for m in ('torch', 'transformers', 'sae_lens', 'datasets') if m in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_the_package_are_what_they_say_however_they_are_loaded():
    import interp
    import interp.capture
    from interp import capture, load_model

    assert callable(interp.capture) and callable(capture) and callable(load_model)
    with pytest.raises(AttributeError, match="no attribute 'captur'"):
        _ = interp.captur
    assert set(interp.__all__) <= set(dir(interp))
