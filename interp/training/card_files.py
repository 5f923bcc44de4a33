"""A quality card as JSON and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from interp import __version__
from interp.files.folder import write_json, writing
from interp.files.jsonable import jsonable
from interp.report.contents import Columns, PageColumn, PageTable
from interp.report.markdown import markdown_table
from interp.training.card import Card

DEFINITIONS = {
    "FVU": "fraction of variance unexplained: sum of squared errors over the sum of squared deviations from the mean of"
    " the same positions",
    "cosine": "mean cosine between residual and reconstruction",
    "L0": "mean number of active features per position",
    "dead": "share of features that are active nowhere in the held-out text and prompts",
    "dense": "share of features that are active at more than 10 % of the plain text's positions",
    "loss recovered": "(H_zero - H_reconstructed) / (H_zero - H_original), H: next-token cross-entropy on plain text"
    " with the layer's residual set to zero, reconstructed, or as it is",
    "KL": "KL divergence from the unchanged model, of the next token on plain text, or of the labels, in nats",
    "positions": "residuals are read and replaced at every position but the first of each text; positions whose"
    " residual is more than ten times as long as the median (attention sinks) are counted and not measured",
}


def write_card(card: Card, folder: Path, data: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
    """`card.json` and `card.md` in `folder`.

    Args:
        data: what the card was made on, for the reader.
        notes: further sentences for the Markdown.
    """
    write_json(folder / "card.json", as_json(card, data))
    with writing(folder / "card.md") as part:
        part.write_text(as_markdown(card, data, notes), encoding="utf-8")


def as_json(card: Card, data: Mapping[str, Any]) -> dict[str, Any]:
    return dict(jsonable({**asdict(card), "data": dict(data), "definitions": DEFINITIONS, "interp": __version__}))


def as_markdown(card: Card, data: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    table = quality_table([asdict(layer) for layer in card.layers])
    lines = [f"# Sparse autoencoders for {card.model}", ""]
    lines += [f"{note}\n" for note in notes]
    lines += ["## Quality on held-out text", "", markdown_table(table), ""]
    lines += [f"- {key}: {value}" for key, value in data.items()]
    lines += ["", "## What the columns mean", "", *(f"- **{key}**: {value}." for key, value in DEFINITIONS.items()), ""]
    lines += [f"Model {card.model_identity}, SAEs {card.saes_identity}, interp {__version__}.", ""]
    return "\n".join(lines)


QUALITY: Columns = {
    "layer": PageColumn("layer", "number", 0),
    "architecture": PageColumn("kind"),
    "d_sae": PageColumn("features", "number", 0),
    "plain.fvu": PageColumn("FVU", "number"),
    "plain.cosine": PageColumn("cosine", "number"),
    "plain.l0": PageColumn("L0", "number", 1),
    "answer.fvu": PageColumn("FVU at answer", "number"),
    "answer.cosine": PageColumn("cosine at answer", "number"),
    "answer.l0": PageColumn("L0 at answer", "number", 1),
    "dead": PageColumn("dead", "number"),
    "dense": PageColumn("dense", "number"),
    "loss.recovered": PageColumn("loss recovered", "number", 4),
    "loss.kl": PageColumn("KL per token", "number"),
    "answers.accuracy": PageColumn("accuracy", "number"),
    "answers.accuracy_reconstructed": PageColumn("reconstructed", "number"),
    "answers.same": PageColumn("same answers", "number"),
    "answers.kl": PageColumn("KL of answers", "number", 4),
}
"""By entries of a layer in `card.json`."""


def quality_table(layers: Sequence[Mapping[str, Any]]) -> PageTable:
    """A row per layer; what was not measured is missing."""
    known = pd.json_normalize(list(layers))
    shares = {part: known[part] / known["d_sae"] for part in ("dead", "dense")}
    note = " ".join(f"{key}: {value}." for key, value in DEFINITIONS.items())
    whole = known.assign(**shares).reindex(columns=list(QUALITY))
    return PageTable.of(whole, QUALITY, name="quality", title="Quality on held-out text", note=note)
