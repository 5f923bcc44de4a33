"""The Python call behind each thing on the page, to be copied."""

from collections.abc import Mapping

from interp.app.workbench import Workbench
from interp.steering.mixing import Key

OPEN = "from interp.app.workbench import Workbench\n\nbench = Workbench.open({name!r})\n"


def _opened(bench: Workbench) -> str:
    return OPEN.format(name=bench.name)


def look_call(bench: Workbench, text: str) -> str:
    return f"{_opened(bench)}found = bench.look({text!r})\nprint(found.answer, found.features[:3])\n"


def card_call(bench: Workbench, layer: int, feature: int) -> str:
    return f"{_opened(bench)}print(bench.card({layer}, {feature}))\n"


def dialogue_call(bench: Workbench, text: str, before: bool) -> str:
    told = ", before=True" if before else ""
    return f"{_opened(bench)}track = bench.dialogue({text!r}{told})\nprint(track.answers, track.probabilities)\n"


def steering_call(
    bench: Workbench, emotions: Mapping[str, float], features: Mapping[Key, float], own: float | None
) -> str:
    """The steering alone."""
    if own is not None:
        return f"{_opened(bench)}steering = bench.steering(own={own:g})\n"
    moved = {emotion: strength for emotion, strength in emotions.items() if strength}
    gained = {key: gain for key, gain in features.items() if gain != 1}
    given = [f"emotions={moved!r}"] if moved else []
    given += [f"features={gained!r}"] if gained else []
    return f"{_opened(bench)}steering = bench.steering({', '.join(given)})\n"


def write_call(steering: str, prompt: str, tokens: int, temperature: float, seed: int) -> str:
    """Behind `steering_call`, the two texts."""
    options = f"tokens={tokens}, temperature={temperature:g}, seed={seed}"
    return f"{steering}for both in bench.side_by_side({prompt!r}, steering, {options}):\n    pass\nprint(both)\n"


def export_call(steering: str, to: str) -> str:
    """Behind `steering_call`, files for another tool."""
    return f'{steering}from pathlib import Path\n\nbench.export(steering, {to!r}, Path("steering-{to}"))\n'
