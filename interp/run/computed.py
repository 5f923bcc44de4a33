"""What a run will take where its model is not here: computed from the shapes of model and SAEs, nothing measured."""

import json
from dataclasses import replace
from math import ceil
from types import SimpleNamespace
from typing import Any

from interp.errors import UserError
from interp.models.hub import cached_file
from interp.models.sources import packaged_models
from interp.resources import NO_SAES
from interp.run.config import Config
from interp.run.inputs import Inputs
from interp.run.scaling import SHAPES, Shape, capture_flops, encode_flops, row_flops, shape_of
from interp.run.stage import Speeds
from interp.texts.prompts import build_prompts

RATE = 1e14
"""Operations a second for which times are computed: what a large GPU may sustain."""
LETTERS = 4
"""Of a token, in English text."""
SAMPLE = 200
"""Texts from which the length of prompts is estimated."""


def computed(inputs: Inputs) -> dict[str, float] | None:
    """Seconds at `RATE` by stage, of those that take long; None where the shapes, or the texts, are not known.

    Loading, statistics and reports are not in them. Prompts count a token for every `LETTERS` letters, and labels the
    one that tells them apart.
    """
    shape = known_shape(inputs.config)
    if shape is None:
        return None
    from interp.run.checking import MeasuredSpeeds

    try:
        texts = [example.text for _, example in inputs.examples[:SAMPLE]]
    except UserError:
        return None
    prompts = build_prompts(texts, inputs.labels, template=inputs.config.prompt.template, shots=inputs.shots)
    letters = sum(len(prompt.before) + len(prompt.text) + len(prompt.after) for prompt in prompts)
    tokens = ceil(letters / len(prompts) / LETTERS)
    needed = (capture_flops(shape, tokens), row_flops(shape, tokens), encode_flops(shape))
    speeds = MeasuredSpeeds(Speeds(*(flops / RATE for flops in needed)), tokens, shape.saes)
    return {one.stage: one.seconds for one in speeds.estimates(inputs)}


def known_shape(config: Config) -> Shape | None:
    """Of a model by its name, or by its config.json where that alone is here; with the SAEs asked for.

    Raises:
        UserError: SAEs that the release does not have.
    """
    packaged = packaged_models().get(config.model)
    name = config.model if packaged is None else packaged.original
    shape = SHAPES.get(name) or _described(name)
    if shape is None:
        return None
    d_sae, saes = _features(config)
    return replace(shape, d_sae=d_sae, saes=saes)


def _described(name: str) -> Shape | None:
    try:
        path = cached_file(name, "config.json")
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path is not None else {}
        return shape_of(SimpleNamespace(**found.get("text_config", found))) if found else None
    except (OSError, ValueError, AttributeError, TypeError):  # no hub id, or a model of another kind
        return None


def _features(config: Config) -> tuple[int, int]:
    """Features of an SAE and how many SAEs there are; none where the registry does not say."""
    from interp.saes.releases import choose_saes, known_releases

    saes = config.saes
    if saes.name == NO_SAES or saes.name not in known_releases():
        return 0, 0
    chosen = choose_saes(saes.name, layers=saes.layers, width=saes.width, l0=saes.l0).values()
    return max((choice.width or 0 for choice in chosen), default=0), len(chosen)
