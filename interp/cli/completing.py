"""Completion of the command line in a shell: commands, options, fields of the configuration and the words they take."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import cyclopts
from cyclopts import Parameter
from cyclopts.completion.detect import ShellDetectionError, detect_shell

from interp.errors import UserError
from interp.files.folder import writing
from interp.run.fields import ConfigField, config_fields

PLACES = ("discover", "fit", "test.0", "anchors.0")
Shell = Literal["bash", "zsh", "fish"]
ZSH_LOADS = """
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _cyclopts_{name} "$@"
else
  compdef _cyclopts_{name} {name}
fi
"""
"""End of a script for zsh: found by compinit under any name, it completes at the first Tab; sourced, from then on."""


def completed(app: cyclopts.App, takes_config: Sequence[Callable[..., None]]) -> cyclopts.App:
    """The command line as a shell is to complete it: with every field as an option where a configuration is taken.

    Args:
        app: the command line, whose own commands are taken over.
        takes_config: those of its functions that take a configuration.
    """
    fuller = cyclopts.App(name=app.name, version=app.version)
    for name in app:
        if not name.startswith("-"):
            function = app[name].default_command
            fuller.command(app[name] if function not in takes_config else _with_fields(cast(Any, function)), name=name)
    return fuller


def install(app: cyclopts.App, shell: Shell | None, output: Path | None) -> str:
    """Writes the script, and without a file to write makes the shell load it; returns what was done, in a line.

    Args:
        app: as `completed` gives it.

    Raises:
        UserError: the shell is not told and cannot be seen, or the file cannot be written.
    """
    if shell is None:
        try:
            shell = cast(Shell, detect_shell())
        except ShellDetectionError:
            raise UserError("Which shell this is cannot be told; give --shell bash, zsh or fish.") from None
    if output is None:
        path = app.install_completion(shell=shell, add_to_startup=True)
        return f"{path} completes commands and fields; begin a new shell."
    script = app.generate_completion(shell=shell)
    if shell == "zsh":
        # As generated it defines a function, which zsh calls only where the file has the function's own name.
        script += ZSH_LOADS.format(name=app.name[0])
    with writing(output) as part:
        part.write_text(script, encoding="utf-8")
    return f"{output} completes commands and fields once your shell loads it; nothing else was changed."


def _with_fields(command: Callable[..., None]) -> Callable[..., None]:
    """A function of the same options and all fields as options, for its signature alone."""
    own = [
        p
        for p in inspect.signature(command).parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name != "arguments"
    ]

    def described(**_: Any) -> None:
        pass

    config = inspect.Parameter("config", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=Path | None)
    described.__signature__ = inspect.Signature([config, *own, *map(_parameter, _placed())])  # type: ignore[attr-defined]
    described.__doc__ = (inspect.getdoc(command) or "").partition("\n")[0]
    described.__name__ = command.__name__
    return described


def _placed() -> list[ConfigField]:
    """Fields, those of corpora at each place."""
    found = []
    for field in config_fields():
        places = PLACES if ".PART." in field.key else ("0",)
        found += [field._replace(key=field.key.replace("PART", p).replace(".N.", f".{p}.")) for p in places]
    return found


def _parameter(field: ConfigField) -> inspect.Parameter:
    words = [*field.words, *_known(field)]
    kind: Any = Literal[tuple(words)] if words else Path if field.key.endswith(("path", "out")) else str
    said = field.means.partition(". ")[0]
    annotation = Annotated[kind, Parameter(name=f"--{field.key}", help=said)]
    name = "field_" + field.key.replace(".", "_")
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _known(field: ConfigField) -> list[str]:
    """Names that a field knows."""
    from interp.models.sources import packaged_models
    from interp.resources import BUNDLED, BUNDLED_SAES
    from interp.texts.corpora import CORPORA
    from interp.texts.emotions import LABEL_SETS

    known: dict[str, Sequence[str]] = {
        "model": [*BUNDLED, *packaged_models()],
        "saes.name": ["none", *BUNDLED_SAES],
        "labels": list(LABEL_SETS),
        "prompt.template": ["default", "question", "options", "context"],
    }
    if field.key in known:
        return list(known[field.key])
    if field.key.startswith("corpora.") and field.key.endswith(".name"):
        return [*CORPORA, "local"]
    if field.key.startswith("corpora.") and field.key.endswith(".split"):
        return ["discover", "fit", "test", "train", "validation", "all"]
    return []
