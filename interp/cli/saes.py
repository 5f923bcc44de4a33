"""`interp saes`: the commands. Heavy imports wait until a command runs."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import cyclopts
from cyclopts import Parameter
from rich.table import Table

from interp.cli.console import Arguments, Json, Out, Quiet, errors, hushed, json_text, overrides
from interp.cli.options import Count, Limit, Seed, folder_path
from interp.errors import UserError
from interp.reporting import bars, silent

if TYPE_CHECKING:
    from interp.training.running import Event

app = cyclopts.App(name="saes", help="Sparse autoencoders: trained for a model that has none, and measured.")


@app.command
def train(*arguments: Arguments, quiet: Quiet = False, json: Json = False) -> None:
    """Train SAEs on a model's residual streams, several layers from one pass over the text, and measure them.

    Usage: interp saes train CONFIG.yaml [--any.field VALUE ...]

    A training that was stopped goes on where it was: give the same command again.

    For example: `interp saes train experiments/saes/tiny.yaml --k 64 --out saes/k64`.
    """
    from interp.training.config import load_training_config

    config = load_training_config(*_parse(arguments))
    from interp.files.stored import read_json
    from interp.training.running import train_saes

    show, quiet = _Progress(), quiet or json
    try:
        with hushed(quiet):
            found = train_saes(config) if quiet else train_saes(config, progress=show, bars=bars)
    finally:
        show.close()
    card = read_json(found.folder / "card.json")
    if json:
        print(json_text({**card, "folder": found.folder}))
        return
    if not quiet:
        _show_card(card)
        errors.print(f"{found.seconds:.0f} s")
    print(found.folder)


@app.command
def check(
    saes: str,
    *,
    model: str,
    plain: Annotated[list[str] | None, Parameter(negative=())] = None,
    prompts: str | None = None,
    split: str = "test",
    path: str | None = None,
    limit: Limit = 144,
    labels: Annotated[list[str] | None, Parameter(negative=())] = None,
    tokens: Count = 8192,
    layers: Annotated[list[int] | None, Parameter(negative=())] = None,
    width: str | None = None,
    l0: str | None = None,
    template: str = "default",
    seed: Seed = 0,
    device: str = "auto",
    dtype: str = "auto",
    out: Out = None,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Measure SAEs on text: reconstruction, sparsity, loss recovered, and what becomes of the model's answers.

    With `--out`, card.json and card.md are written into that folder; without it, nothing is written.

    For example: `interp saes check saes/mine --model tiny`, or
    `interp saes check gpt2-small-res-jb --model openai-community/gpt2 --layers 3 --layers 8`.

    Parameters
    ----------
    saes
        Folder with a folder per layer, bundled name, or release of SAELens' registry.
    model
        Bundled name, hub id, or folder in Hugging Face format.
    plain
        Plain-text file (.txt or .txt.gz) that the SAEs were not trained on; default: a short one that ships.
    prompts
        Corpus of labelled texts; default: the bundled vignettes.
    split
        Its split.
    path
        Its released file or folder.
    labels
        Answers to choose from; default: Ekman's six emotions.
    tokens
        Tokens of plain text to measure on.
    layers
        Only these layers.
    width
        Number of features, where a release has several.
    l0
        Mean number of active features, where a release has several.
    template
        As in a run.
    seed
        Of the draw of texts.
    device
        auto, cpu, cuda.
    dtype
        Of the model: auto, float32, bfloat16.
    """
    from pydantic import ValidationError

    from interp.models.loading import load_model
    from interp.run.config import CorpusConfig
    from interp.training.card_files import as_json, write_card
    from interp.training.config import explained
    from interp.training.measuring import check_saes_quality

    try:
        corpus = CorpusConfig(prompts or "vignettes", split, path, limit)
    except ValidationError as error:
        raise UserError(explained(error, "the command line")) from None
    if tokens < 1:
        raise UserError(f"--tokens must be at least 1; got {tokens}.")
    if out is not None:
        folder_path(out)
    loaded = load_model(model, device=device, dtype=dtype)
    options = {"labels": labels} if labels else {}
    with hushed(quiet or json):
        found = check_saes_quality(
            saes,
            loaded,
            plain=plain or (),
            prompts=[corpus],
            tokens=tokens,
            layers=layers,
            width=width,
            l0=_maybe_number(l0),
            template=template,
            seed=seed,
            progress=silent if quiet or json else bars,
            **options,
        )
    if out is not None:
        write_card(found.card, out, found.data)
    card = as_json(found.card, found.data)
    if json:
        print(json_text(card))
        return
    if not quiet:
        _show_card(card)
    if out is not None:
        print(out)


def _maybe_number(word: str | None) -> float | str | None:
    try:
        return None if word is None else float(word)
    except ValueError:
        return word


def _show_card(card: Mapping[str, Any]) -> None:
    """The main columns of a quality card."""
    data = card["data"]
    table = Table(title=f"{card['saes']} on {card['model']}", caption=f"{data['plain text']}; {data['prompts']}")
    for column in (
        "layer",
        "FVU",
        "L0",
        "FVU at answer",
        "dead",
        "dense",
        "loss recovered",
        "accuracy",
        "reconstructed",
    ):
        table.add_column(column, justify="right")

    def number(part: Mapping[str, Any] | None, key: str, digits: int = 3) -> str:
        return "-" if not part or part[key] is None else f"{part[key]:.{digits}f}"

    for layer in card["layers"]:
        table.add_row(
            str(layer["layer"]),
            number(layer["plain"], "fvu"),
            number(layer["plain"], "l0", 1),
            number(layer["answer"], "fvu"),
            f"{layer['dead'] / layer['d_sae']:.3f}",
            f"{layer['dense'] / layer['d_sae']:.3f}",
            number(layer["loss"], "recovered", 4),
            number(layer["answers"], "accuracy"),
            number(layer["answers"], "accuracy_reconstructed"),
        )
    errors.print(table)


def _parse(arguments: Sequence[str]) -> tuple[Path, dict[str, str]]:
    """The config file, and what stands behind it."""
    if not arguments or arguments[0].startswith("--"):
        raise UserError("Give a config file, such as experiments/saes/tiny.yaml, and then pairs such as --k 64.")
    return Path(arguments[0]), overrides(arguments[1:], "--k 64")


class _Progress:
    """One bar per stage; where nobody looks, a line now and then."""

    def __init__(self) -> None:
        from tqdm import tqdm

        self._bars: dict[str, tqdm] = {}
        self._new = tqdm
        self._said: dict[int | None, int] = {}

    def __call__(self, event: "Event") -> None:
        if not errors.is_terminal:
            self._line(event)
            return
        bar = self._bars.get(event.stage)
        if bar is None:
            bar = self._new(total=event.total, desc=f"  {event.stage}", unit=" positions", dynamic_ncols=True)
            self._bars[event.stage] = bar
        bar.n = event.done
        if event.line is not None:
            bar.set_postfix_str(f"layer {event.layer}: {_described(event)}", refresh=False)
        bar.update(0)

    def _line(self, event: "Event") -> None:
        share = 20 * event.done // max(event.total, 1)
        if event.stage == "capture" and share == self._said.get(None):
            return
        if event.stage == "train" and (event.line is None or share == self._said.get(event.layer)):
            return
        self._said[event.layer] = share
        what = "text read" if event.layer is None else f"layer {event.layer}"
        errors.print(
            f"{what}: {event.done:,} of {event.total:,} positions, {event.rate:,.0f}/s{_described(event, ', ')}"
        )

    def close(self) -> None:
        for bar in self._bars.values():
            bar.close()


def _described(event: "Event", before: str = "") -> str:
    line = event.line
    return (
        "" if line is None else f"{before}loss {line.loss:.4g}, FVU {line.fvu:.3f}, L0 {line.l0:.0f}, {line.dead} dead"
    )
