"""What a chosen steering does, in words and feature by feature, from the run's files."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from interp.report.words import counted, layer_list, number
from interp.run.reading import RunFiles

TENSORS = "steering.safetensors"


@dataclass(frozen=True)
class GainedFeature:
    """A feature whose activation the steering multiplies by `gain`, and the emotions it was found causal for."""

    layer: int
    feature: int
    gain: float
    emotions: list[str]


@dataclass(frozen=True)
class Steered:
    """What is changed.

    Attributes:
        vectors: layers to which a vector is added.
        gates: layers at which a gate decides how far.
        couplings: by layer, how many features are read, and how many are added.
    """

    features: list[GainedFeature]
    vectors: list[int]
    gates: list[int]
    couplings: dict[int, tuple[int, int]]


def steered(run: RunFiles) -> Steered | None:
    """None where nothing was chosen, or the run holds no tensors."""
    path = run.folder / TENSORS
    if run.steering is None or not path.is_file():
        return None
    arrays = _arrays(path, path.stat().st_mtime_ns)
    layers = {kind: sorted({int(k.split(".")[1]) for k in arrays if k.startswith(kind)}) for kind in PARTS}
    causal = run.causal_for()
    features = [
        GainedFeature(k, int(f), float(g), causal.get((k, int(f)), []))
        for k in layers["gains"]
        for f, g in zip(arrays[f"gains.{k}.features"], arrays[f"gains.{k}.gains"], strict=True)
    ]
    couplings = {
        k: (len(arrays[f"couplings.{k}.readers"]), len(arrays[f"couplings.{k}.writers"])) for k in layers["couplings"]
    }
    return Steered(features, layers["vectors"], layers["gates"], couplings)


PARTS = ("gains", "vectors", "gates", "couplings")


@lru_cache(maxsize=2)
def _arrays(path: Path, _: int) -> dict[str, np.ndarray]:
    try:
        return load_file(path)
    except (OSError, SafetensorError):
        return {}


def said(run: RunFiles) -> str:
    """A sentence: which features of which emotions, how much, at which layers."""
    facts = run.json("steering")
    name = f"{facts['method'].replace('_', ' ')}, {facts['setting']}"
    found = steered(run)
    if found is None or not (found.features or found.vectors or found.couplings):
        return f"{name[0].upper()}{name[1:]}, was chosen."
    n_layers = run.record["model"]["n_layers"]
    parts = []
    if found.features:
        parts.append(_features_said(run, found.features, n_layers))
    if found.vectors:
        parts.append(f"a vector is added at {layer_list(found.vectors, n_layers)}")
    for layer, (readers, writers) in found.couplings.items():
        parts.append(
            f"what all of layer {layer}'s residual says of the emotions is coupled to directions that say them"
            if not run.record["saes"]["layers"]
            else f"{counted(readers, 'feature')} of layer {layer} that read the emotions are coupled to"
            f" {counted(writers, 'feature')} that say them"
        )
    gated = ", as far as a gate lets it through" if found.gates else ""
    text = " and ".join(parts)
    labels = ""
    if facts.get("n_unlabelled"):
        labels = f", fitted on {counted(facts['n_fit'], 'labelled text')} and {facts['n_unlabelled']:,} without label"
    return f"{text[0].upper()}{text[1:]}{gated} ({name}{labels})."


def _features_said(run: RunFiles, features: list[GainedFeature], n_layers: int) -> str:
    gains = [f.gain for f in features]
    low, high = min(gains), max(gains)
    times = number(low) if np.isclose(low, high) else f"{number(low)} to {number(high)}"
    counts = {label: sum(label in f.emotions for f in features) for label in run.labels}
    of = ", ".join(f"{label} {n}" for label, n in counts.items() if n)
    layers = sorted({f.layer for f in features})
    causal = f" (causal for {of})" if of else ""
    return (
        f"{counted(len(features), 'feature')}{causal} at {layer_list(layers, n_layers)}"
        f" act{'s' if len(features) == 1 else ''} {times} times as strongly"
    )
