"""A training as a page: learning curves of every layer, and the quality card."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import yaml

from interp.files.stored import read_json
from interp.report.contents import Page, PageFigure, Section
from interp.report.looks import FURTHER, PHASES, styled
from interp.report.page import write_page
from interp.report.sentences import Sentence
from interp.training.card_files import DEFINITIONS, quality_table

CURVES = (
    ("fvu", "unexplained variance (FVU)", "of each batch, as a share of the variance of that batch; lower is better"),
    ("loss", "loss", "in units in which residuals have a common length; auxiliary losses included"),
    ("l0", "active features (L0)", "per position"),
    ("dead", "dead features", "not active in the last steps, as many as `dead_after` says"),
)
LINES = tuple(dict.fromkeys((*PHASES, *FURTHER)))


def write_learning(folder: Path) -> Path:
    """Writes `learning.html` of a training, finished or not, and returns its path. It needs no network."""
    record = read_json(folder / "training.json")
    logs = {
        int(path.stem.removeprefix("layer_")): pd.read_csv(path)
        for path in sorted((folder / "log").glob("layer_*.csv"))
    }
    card = read_json(folder / "card.json") if (folder / "card.json").exists() else None
    config, model = record["config"], record["model"]
    page = Page(
        title=f"Sparse autoencoders for {Path(model['name']).name}",
        lead=(
            f"{config['architecture']}, {config['d_sae']} features, layers {', '.join(map(str, record['layers']))};"
            f" {config['tokens']:,} positions each; seed {config['seed']}; interp {record['interp']}"
        ),
        answer=[Sentence("", words) for words in _answer(card)],
        sections=[Section("Learning curves", "learning", _curves(logs)), *_quality(card)],
        provenance=f"Model {model['name']} ({model['identity']}, read in {model['dtype'].removeprefix('torch.')}).",
        config=yaml.safe_dump({k: v for k, v in config.items() if k != "out"}, sort_keys=False, allow_unicode=True),
        command="interp saes train",
    )
    return write_page(folder / "learning.html", page)


def _curves(logs: Mapping[int, pd.DataFrame]) -> list[PageFigure]:
    figures = []
    for column, title, caption in CURVES:
        figure = go.Figure()
        for n, (layer, log) in enumerate(logs.items()):
            line = {"color": LINES[n % len(LINES)], "width": 1.5}
            figure.add_scatter(x=log["positions"], y=log[column], name=f"layer {layer}", mode="lines", line=line)
        figure.update_xaxes(title="positions")
        figure.update_yaxes(title=title, rangemode="tozero")
        text = f"{title[0].upper()}{title[1:]}, {caption}."
        figures.append(PageFigure(f"curve_{column}", title, styled(figure, 380), text, group="learning"))
    return figures


def _quality(card: Mapping[str, Any] | None) -> list[Section]:
    if card is None:
        return []
    figure = go.Figure()
    for n, (part, name) in enumerate((("plain", "plain text"), ("answer", "answer position"))):
        rows = [(layer["layer"], layer[part]["fvu"]) for layer in card["layers"] if layer[part]]
        if rows:
            x, y = zip(*rows, strict=True)
            figure.add_scatter(x=x, y=y, name=name, mode="lines+markers", line={"color": PHASES[n]})
    figure.update_xaxes(title="layer", dtick=1 if len(card["layers"]) < 20 else None)
    figure.update_yaxes(title="unexplained variance (FVU)", rangemode="tozero")
    caption = f"On held-out text. FVU: {DEFINITIONS['FVU']}."
    shown = PageFigure("quality_fvu", "FVU", styled(figure, 340), caption)
    return [Section("Quality", "quality", [shown], [quality_table(card["layers"])])]


def _answer(card: Mapping[str, Any] | None) -> list[str]:
    """What the card says, in a few sentences."""
    if card is None:
        return ["The training is not finished: the quality card comes at its end."]
    lines = []
    for part, where in (("plain", "over plain text"), ("answer", "at the answer position")):
        found = {layer["layer"]: layer[part]["fvu"] for layer in card["layers"] if layer[part]}
        if found:
            worst = max(found, key=lambda k: found[k])
            lines.append(f"Unexplained variance {where}: at most {found[worst]:.3f} (layer {worst}).")
    recovered = {layer["layer"]: layer["loss"]["recovered"] for layer in card["layers"] if layer["loss"]}
    if recovered:
        worst = min(recovered, key=lambda k: recovered[k])
        lines.append(f"Loss recovered: at least {recovered[worst]:.3f} (layer {worst}).")
    return lines
