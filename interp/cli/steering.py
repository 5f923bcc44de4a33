"""The commands that use a run's steering: to write text, and in other tools."""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from rich.table import Table

from interp.cli.console import Json, Out, Quiet, errors, hushed, json_text
from interp.cli.options import Count, Finite, Positive, Seed, folder_path
from interp.errors import InterpWarning, UserError
from interp.run.config import config_of
from interp.terminal import Screen


def generate(
    run: Path,
    *,
    prompt: str,
    emotion: str | None = None,
    strength: Finite | None = None,
    tokens: Count = 60,
    temperature: Positive = 0.0,
    seed: Seed = 0,
    chat: bool | None = None,
    json: Json = False,
) -> None:
    """Plain and steered text side by side.

    For example: `interp generate runs/tiny --prompt "When I opened the door" --emotion disgust`.

    Parameters
    ----------
    run
        A run folder.
    prompt
        Text to go on from; for a model that chats, what a user says.
    emotion
        Push towards this emotion: its causal features' directions, added at every position. Without it, the run's own
        steering, at the prompt's last token and at all that is generated.
    strength
        With an emotion, 1 adds as much as its own texts have, which often ends in one word over and over; default:
        0.4. Of the run's own steering, 1 is as it was fitted, and the default. 0: nothing; negative: away.
    tokens
        How many to write at most.
    temperature
        0: always the likeliest token.
    seed
        Of the draws, where temperature is above 0.
    chat
        Put the prompt into the model's chat template; default: as the run did.
    """
    from rich.live import Live

    from interp.run.steerable import Steerable
    from interp.steering.generating import repeats, stream
    from interp.steering.steering import Steering

    model, saes, steering = _steering_of(run, emotion, strength, chat=chat)
    if emotion is None:
        steering = replace(steering, positions="generated")
    strength = Steerable.strength(emotion, strength)
    if not json:
        frame = "in the model's chat template" if model.chat else "as it is, in no chat template"
        errors.print(f"The prompt stands {frame}.")
    options: dict[str, Any] = {"tokens": tokens, "temperature": temperature, "seed": seed}
    steered = f"{emotion or steering.method}, strength {strength:g}"
    streams = {
        "plain": stream(model, prompt, Steering("none"), **options),
        steered: stream(model, prompt, steering, saes, **options),
    }
    written = dict.fromkeys(streams, "")
    screen = Screen()
    shown = screen.is_terminal and not json
    with Live(console=screen, transient=True, auto_refresh=False) if shown else nullcontext() as live:
        while streams:
            for name in list(streams):
                text = next(streams[name], None)
                if text is None:
                    del streams[name]
                else:
                    written[name] = text
            if live is not None:
                live.update(_side_by_side(prompt, written), refresh=True)
    if json:
        facts = {"prompt": prompt, "chat": model.chat, "emotion": emotion, "strength": strength}
        print(json_text({**facts, "plain": written["plain"], "steered": written[steered]}))
    else:
        screen.print(_side_by_side(prompt, written))
    stuck = repeats(written[steered])
    if stuck is not None and repeats(written["plain"]) is None and strength:
        text = f"The steered text repeats {stuck!r}: strength {strength:g} is more than the model's language bears."
        other = "" if temperature else " or --temperature 0.8"
        warnings.warn(f"{text} Try --strength {strength / 2:g}{other}.", InterpWarning, stacklevel=1)


def export(
    run: Path,
    *,
    to: str,
    out: Out = None,
    emotion: str | None = None,
    strength: Finite | None = None,
    constant: Annotated[bool, Parameter(negative=())] = False,
    quiet: Quiet = False,
    json: Json = False,
) -> None:
    """Take a steering to another tool: hf, transformer_lens, lm-eval or gguf (llama.cpp).

    Without `--out`, the folder is RUN/export/TO.

    For example: `interp export runs/tiny --to lm-eval --emotion joy`.

    Parameters
    ----------
    run
        A run folder.
    to
        hf or transformer_lens: a folder with tensors and a short loader that needs torch and safetensors alone.
        lm-eval: the .pt file of lm-evaluation-harness' `--model steered`. gguf: a control vector of llama.cpp. The last
        two hold constant vectors only: give `--emotion` or `--constant`.
    emotion
        A constant push towards this emotion instead of the run's own steering.
    strength
        See `interp generate`.
    constant
        Of the run's own steering, only what it adds whatever it reads, at every position.
    """
    from interp.steering.export import export as run_export

    out = folder_path(out or run / "export" / to)
    # llama.cpp's control vectors cannot act on layer 0
    with hushed(quiet or json):
        model, saes, steering = _steering_of(run, emotion, strength, lowest=1 if to == "gguf" else 0)
        if constant:
            steering = steering.constant(saes)
        made = run_export(steering, model, saes, to, out)
    print(json_text({"to": to, "path": made}) if json else made)


def certify(run: Path, *, json: Json = False) -> None:
    """Measure what a run's certificate claims again, from its texts and its model; fails where anything differs.

    For example: `interp certify runs/smollm2`.

    Parameters
    ----------
    run
        A run folder that holds a certificate.json.
    """
    from interp.files.stored import read_json
    from interp.run.certifying import NAME
    from interp.run.certifying import certify as run_certify

    with hushed(json):
        figures = run_certify(run)
    other = [figure for figure in figures if not figure.same]
    if json:
        print(json_text({"certified": not other, "figures": {f.name: [f.certified, f.measured] for f in figures}}))
    else:
        print(read_json(run / NAME)["claim"])
    for figure in other[:1]:
        raise UserError(
            f"{figure.name} is certified as {figure.certified:.6g} and was measured as {figure.measured:.6g}"
            f" ({len(other)} of {len(figures)} figures differ): the certificate does not hold here."
        )
    if not json:
        errors.print(f"Certified: every file is as it was, and {len(figures)} figures came out the same.")


def _steering_of(
    run: Path, emotion: str | None, strength: float | None, chat: bool | None = None, lowest: int = 0
) -> tuple[Any, Any, Any]:
    """Model, SAEs and steering of a run folder; chats as the run did, unless `chat` says otherwise."""
    from interp.files.stored import as_recorded, read_record
    from interp.run.additive import towards
    from interp.run.steerable import Steerable
    from interp.steering.steering import FACTS, TENSORS, Steering

    config_of(run)  # what is no run folder is refused first
    if emotion is None:
        as_recorded(run, (FACTS, TENSORS), read_record(run))
    strength = Steerable.strength(emotion, strength)
    own = None if emotion else Steering.load(run).scaled(strength)
    loaded = Steerable.of_run(run, chat=chat)
    model, saes = loaded.model, loaded.saes
    if own is None:
        own = towards(run, saes, str(emotion), strength, lowest=lowest)
    if not own.layers:
        raise UserError(f"The steering of {run} is none: nothing was found to help. Name an --emotion to push towards.")
    return model, saes, own


def _side_by_side(prompt: str, written: dict[str, str]) -> Table:
    table = Table(title=prompt, show_lines=False, expand=True)
    for name in written:
        table.add_column(name, ratio=1, overflow="fold")
    table.add_row(*written.values())
    return table
