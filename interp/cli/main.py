"""The `interp` command."""

import os
import sys
import traceback
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import cyclopts
from cyclopts.exceptions import CycloptsError

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from interp import __version__
from interp.cli.circuits import circuit, patch
from interp.cli.console import errors, print_fields
from interp.cli.listing import corpora, models
from interp.cli.looking import compare, findings, inspect, plot
from interp.cli.running import check, fetch, run, steer, trace, trees
from interp.cli.serving import app as app_page
from interp.cli.serving import serve
from interp.cli.steering import certify, export, generate
from interp.cli.streaming import stream
from interp.cli.sweeping import sweep
from interp.cli.tables import tables
from interp.cli.tracking import log
from interp.errors import InterpWarning, UserError, printable, quoted
from interp.reporting import reporting, terminal_reporter

MOST_OF_A_MESSAGE = 600
"""Characters of an error message that are shown."""

app = cyclopts.App(
    name="interp",
    version=__version__,
    help="Where a language model recognises emotions, through which sparse features, and how to steer them.",
    suppress_keyboard_interrupt=False,
)
for command in (
    *(run, trace, trees, steer, sweep, stream, plot, inspect, circuit, patch, compare, findings),
    *(models, corpora, check, fetch, generate, export, certify, serve, log, tables),
):
    app.command(command)
app.command(app_page, name="app")
app.command("interp.cli.express:app", name="express", help="Does a model name what people say they feel?")
app.command("interp.cli.reliability:app", name="reliability", help="Does the answer survive the way of asking?")
app.command("interp.cli.saes:app", name="saes", help="Sparse autoencoders: trained and measured.")
TAKE_CONFIG = (run, trace, trees, steer, check, fetch)
"""Commands of which every field of the configuration is an option."""


@app.command(name="--install-completion")
def install_completion(
    *,
    shell: Literal["bash", "zsh", "fish"] | None = None,
    output: Annotated[Path | None, cyclopts.Parameter(name=["-o", "--output"])] = None,
) -> None:
    """Complete commands and fields in your shell; with --output FILE, only write the script there.

    Parameters
    ----------
    shell
        Default: the one this runs in.
    output
        Where to write the script; no file of your shell is touched then.
    """
    from interp.cli.completing import completed, install

    print(install(completed(app, TAKE_CONFIG), shell, output))


def main() -> None:
    """Entry point: 0 when done, 2 for the user's mistakes and interruption, 1 for ours."""
    warnings.filterwarnings("ignore")
    warnings.filterwarnings("default", category=InterpWarning)
    warnings.showwarning = _show_warning
    for output in (sys.stdout, sys.stderr):
        if hasattr(output, "reconfigure"):
            output.reconfigure(errors="backslashreplace")
    news = terminal_reporter(lambda line: errors.print(line, style="bold"))
    try:
        for word in sys.argv[1:]:
            if "\0" in word or any("\ud800" <= letter <= "\udfff" for letter in word):
                raise UserError(f"The argument {quoted(word)} is not UTF-8 text.")
        with reporting(news):
            if {"--help", "-h"} & {*sys.argv[2:]} and sys.argv[1] in [command.__name__ for command in TAKE_CONFIG]:
                with suppress(SystemExit):
                    app(exit_on_error=False, print_error=False)
                print_fields()
                return
            app(exit_on_error=False, print_error=False)
    except UserError as error:
        _fail(str(error), 2)
    except CycloptsError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("Interrupted. What is finished is kept; the same command goes on from there.", 2)
    except BrokenPipeError:  # `interp models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except Exception as error:
        _fail(*_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """What went wrong, and the exit code: memory, disk and files are the user's to mend."""
    from interp.files.folder import out_of_space

    if isinstance(error, MemoryError) or "OutOfMemory" in type(error).__name__ or "allocate memory" in str(error):
        return "Out of memory. Use a smaller --batch_size or --corpora.*.limit; what is finished is kept.", 2
    if out_of_space(error):
        where = f" ({error.filename})" if isinstance(error, OSError) and error.filename else ""
        return f"No space left on device{where}. What is finished is kept; make room and give the same command.", 2
    if isinstance(error, OSError):
        return f"{error.strerror or error}: {quoted(error.filename or 'file system')}. What is finished is kept.", 2
    said = f"Internal error, our fault ({type(error).__name__}: {error})"
    log = _log()
    return f"{said}; the traceback is in {log}." if log else f"{said}; no log of it could be written.", 1


def _log() -> Path | None:
    """The traceback in a file: in the working folder, else in the one for temporary files, else nowhere."""
    from tempfile import gettempdir

    from interp.files.folder import writing

    for folder in (Path(), Path(gettempdir())):
        log = folder / "interp-error.log"
        try:
            with writing(log) as part:
                part.write_text(traceback.format_exc(), encoding="utf-8", errors="replace")
        except OSError:
            continue
        return log
    return None


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    errors.print(f"note: {message}", style="yellow")


def _fail(message: str, code: int) -> None:
    line = printable(" ".join(message.split()))
    line = line if len(line) <= MOST_OF_A_MESSAGE else line[:MOST_OF_A_MESSAGE] + " ..."
    errors.print(f"interp: {line}", style="red")
    sys.exit(code)
