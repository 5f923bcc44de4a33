"""A quality card as JSON and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from interp import __version__
from interp.files.folder import write_json, writing
from interp.files.jsonable import jsonable
from interp.training.card import Card, LayerCard

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
    return jsonable({**asdict(card), "data": dict(data), "definitions": DEFINITIONS, "interp": __version__})


def as_markdown(card: Card, data: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    lines = [f"# Sparse autoencoders for {card.model}", ""]
    lines += [f"{note}\n" for note in notes]
    lines += ["## Quality on held-out text", "", *_table(card), ""]
    lines += [f"- {key}: {value}" for key, value in data.items()]
    lines += ["", "## What the columns mean", "", *(f"- **{key}**: {value}." for key, value in DEFINITIONS.items()), ""]
    lines += [f"Model {card.model_identity}, SAEs {card.saes_identity}, interp {__version__}.", ""]
    return "\n".join(lines)


COLUMNS = (
    "layer", "kind", "features", "FVU", "cosine", "L0", "FVU at answer", "cosine at answer", "L0 at answer", "dead",
    "dense", "loss recovered", "KL per token", "accuracy", "reconstructed", "same answers", "KL of answers",
)  # fmt: skip


def _table(card: Card) -> list[str]:
    rows = [COLUMNS, ["---:"] * len(COLUMNS), *(cells(layer) for layer in card.layers)]
    return ["| " + " | ".join(row) + " |" for row in rows]


def cells(layer: LayerCard) -> list[str]:
    """One layer as the words of a table, in the order of `COLUMNS`."""
    plain, answer, loss, answers = layer.plain, layer.answer, layer.loss, layer.answers
    return [
        str(layer.layer),
        layer.architecture,
        str(layer.d_sae),
        *([f"{plain.fvu:.3f}", f"{plain.cosine:.3f}", f"{plain.l0:.1f}"] if plain else ["-"] * 3),
        *([f"{answer.fvu:.3f}", f"{answer.cosine:.3f}", f"{answer.l0:.1f}"] if answer else ["-"] * 3),
        f"{layer.dead / layer.d_sae:.3f}",
        f"{layer.dense / layer.d_sae:.3f}",
        *([f"{loss.recovered:.4f}", f"{loss.kl:.3f}"] if loss else ["-"] * 2),
        *(
            [
                f"{answers.accuracy:.3f}",
                f"{answers.accuracy_reconstructed:.3f}",
                f"{answers.same:.3f}",
                f"{answers.kl:.4f}",
            ]
            if answers
            else ["-"] * 4
        ),
    ]
