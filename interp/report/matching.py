"""Figures and tables of what is the same in two runs: layers, features, causal features."""

from collections.abc import Mapping, Sequence

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from interp.analysis.matching import LEAST_ACTIVE
from interp.report.contents import Columns, PageColumn, PageFigure, PageTable
from interp.report.looks import RUNS, THIN, add_heat, styled
from interp.run.alike import OTHER_MODEL, OTHER_SAES, RunMatches

MOST_PRINTED = 10
"""Layers in whose cells values are printed."""
SHOWN = 60
"""Rows of the list of universal features, the strongest of each emotion."""
Pair = tuple[str, str]
"""The run whose features are looked for, and the one in which they are."""


def layer_figures(found: Mapping[Pair, RunMatches]) -> list[PageFigure]:
    """Heat maps of layer by layer, one figure for every two runs."""
    figures: list[PageFigure] = []
    for (run, beside), matches in found.items():
        caption = (
            f"Rows: layers of {run}; columns: layers of {beside} ({matches.kind}). First: the best correlation of a"
            " feature with any feature of the other layer, over the same texts, less the best it has when the other"
            f" run's texts are permuted; mean over the layer's features ({_span(matches.layers['n_features'])} that"
            f" fire on {LEAST_ACTIVE} texts or more); darkest: {_top(matches.layers):.2f}. Second: linear CKA of the"
            f" residuals, unbiased: how alike the layers are as wholes, up to rotation. n = {matches.n:,} texts that"
            " both read."
        )
        figures.append(
            PageFigure(
                f"alike-{len(figures)}",
                f"{run} in {beside}",
                _layers(matches.layers, run, beside),
                caption,
                group="alike",
            )
        )
    return figures


def depth_figure(found: Mapping[Pair, RunMatches], depths: Mapping[str, int]) -> PageFigure:
    """How far the features of every layer are found again, over relative depth."""
    figure = go.Figure()
    for i, ((run, beside), matches) in enumerate(found.items()):
        own = matches.features.groupby("layer", as_index=False).agg(
            held_out=("held_out", "mean"), universal=("universal", "mean"), n=("feature", "size")
        )
        figure.add_scatter(
            x=own["layer"] / max(depths[run] - 1, 1),
            y=own["held_out"],
            name=f"{run} in {beside}",
            mode="lines+markers",
            line={"color": RUNS[i % len(RUNS)], "dash": "solid" if matches.kind == OTHER_MODEL else "dot", "width": 2},
            customdata=own[["layer", "universal", "n"]],
            hovertemplate="layer %{customdata[0]}: %{y:.2f}; universal %{customdata[1]:.0%} of %{customdata[2]:,}",
        )
    figure.add_hline(y=0, line=THIN)
    figure.update_xaxes(title_text="relative depth")
    figure.update_yaxes(title_text="correlation on held-out texts")
    ceiling = (
        " Dotted: the same model, that is the ceiling: so far do two autoencoders agree on the same residuals."
        if any(m.kind != OTHER_MODEL for m in found.values())
        else ""
    )
    caption = (
        "Mean over a layer's features of the correlation with the partner in any layer of the other run: the partner is"
        " chosen on one half of the texts, the correlation measured on the other half, so that chance gives zero; what"
        " is silent in a half counts as zero there."
        f"{ceiling}"
    )
    return PageFigure("found-again", "How far features are found again", styled(figure, 320), caption)


PAIRS: Columns = {
    "run": PageColumn("features of"),
    "beside": PageColumn("looked for in"),
    "kind": PageColumn("which is"),
    "n": PageColumn("texts", "number", 0),
    "features": PageColumn("features", "number", 0),
    "correlation": PageColumn("best correlation", "number", 2),
    "floor": PageColumn("permuted texts", "number", 2),
    "held_out": PageColumn("on held-out texts", "number", 2),
    "matched": PageColumn("q < 0.05", "share", 0),
    "universal": PageColumn("universal", "share", 0),
}


def pairs_table(found: Mapping[Pair, RunMatches]) -> PageTable:
    """A row for every two runs."""
    rows = [
        {
            "run": run,
            "beside": beside,
            "kind": m.kind,
            "n": m.n,
            "features": len(m.features),
            **m.features[["correlation", "floor", "held_out", "universal"]].mean().to_dict(),
            "matched": (m.features["q"] < 0.05).mean(),
        }
        for (run, beside), m in found.items()
    ]
    note = (
        f"Features that fire on {LEAST_ACTIVE} of the common texts or more, with the best partner in any layer of the"
        " other run. Permuted texts: the best correlation that chance gives. q: of the best correlation against"
        " permuted texts, over all features of the run. Universal: q < 0.05, and this is the partner's own best"
        f" feature in its layer. {OTHER_SAES[0].upper()}{OTHER_SAES[1:]}: the ceiling."
    )
    return PageTable.of(pd.DataFrame(rows), PAIRS, name="alike", title="How many features are found again", note=note)


EMOTIONS: Columns = {
    "run": PageColumn("features of"),
    "beside": PageColumn("looked for in"),
    "emotion": PageColumn("emotion"),
    "n_causal": PageColumn("causal", "number", 0),
    ("universal", "ci_low", "ci_high"): PageColumn("universal", "interval", 2),
    "n_controls": PageColumn("controls", "number", 0),
    ("universal_controls", "controls_low", "controls_high"): PageColumn("controls universal", "interval", 2),
    "same": PageColumn("partner causes the same", "share", 0),
    "same_floor": PageColumn("permuted texts", "share", 0),
    "p": PageColumn("p", "number", 3),
}


def emotions_table(found: Mapping[Pair, RunMatches]) -> PageTable:
    """A row for every two runs and emotion."""
    rows = pd.concat(
        [m.emotions.assign(run=run, beside=beside) for (run, beside), m in found.items()], ignore_index=True
    )
    note = (
        "Causal features of the emotion, and the random features that they were compared with when they were traced."
        " Universal: share of them, with 95 % Wilson intervals. Partner causes the same: of the causal features,"
        " universal or not, those whose best partner is causal for the same emotion in the other run; beside it the"
        " same where texts are permuted, and p by permutation (of few permutations, so never very small)."
    )
    return PageTable.of(rows, EMOTIONS, name="alike_emotions", title="Are causes universal?", note=note)


FEATURES: Columns = {
    "emotion": PageColumn("causal for"),
    "run": PageColumn("features of"),
    ("layer", "feature"): PageColumn("layer, feature", "feature"),
    "beside": PageColumn("found in"),
    ("layer_beside", "feature_beside"): PageColumn("layer, feature there", "feature"),
    "causal_beside": PageColumn("causal there for"),
    "correlation": PageColumn("correlation", "number", 2),
    "floor": PageColumn("permuted texts", "number", 2),
    "held_out": PageColumn("on held-out texts", "number", 2),
    "within": PageColumn("within emotions", "number", 2),
}


def features_table(found: Mapping[Pair, RunMatches], emotions: Sequence[str]) -> PageTable | None:
    """Universal causal features of each emotion, the most alike first; None where there is none."""
    parts = []
    for (run, beside), m in found.items():
        own = m.features[m.features["universal"]]
        for emotion in emotions:
            its = own[[emotion in cell.split(", ") for cell in own["causal"]]]
            its = its.sort_values("held_out", ascending=False, kind="stable").head(max(SHOWN // len(emotions), 3))
            parts.append(its.assign(emotion=emotion, run=run, beside=beside))
    rows = pd.concat(parts, ignore_index=True)
    if not len(rows):
        return None
    rows["causal_beside"] = rows["causal_beside"].replace("", "-")
    note = (
        "Causal features that are found again, the most alike of each emotion. On held-out texts: with the partner that"
        " the other half of the texts chooses. Within emotions: the same without the mean of each emotion, what the two"
        " tell alike besides the emotion itself. All features are in matches.parquet."
    )
    return PageTable.of(rows, FEATURES, name="universal", title="Universal causal features", note=note)


def _layers(layers: pd.DataFrame, run: str, beside: str) -> go.Figure:
    titles = ["features: correlation beyond chance", "residuals: CKA"]
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.14)
    values = {"excess": layers["correlation"] - layers["floor"], "cka": layers["cka"]}
    for column, (name, value) in enumerate(values.items(), 1):
        wide = layers.assign(shown=value).pivot(index="layer", columns="layer_beside", values="shown")
        wide.index, wide.columns = wide.index.map(str), wide.columns.map(str)
        top = 1.0 if name == "cka" else _top(layers)
        printed = "{:.2f}" if max(wide.shape) <= MOST_PRINTED else None
        told = f"layer %{{y}} of {run}, layer %{{x}} of {beside}: %{{z:.3f}}"
        add_heat(figure, wide, told, form=printed, limits=(0, top), row=1, col=column)
        figure.update_xaxes(title_text=f"layer of {beside}", type="category", row=1, col=column)
        figure.update_yaxes(title_text=f"layer of {run}" if column == 1 else None, type="category", row=1, col=column)
    return styled(figure, 150 + 26 * max(len(layers["layer"].unique()), 8))


def _top(layers: pd.DataFrame) -> float:
    """Where the colour is full."""
    return max(0.05, float((layers["correlation"] - layers["floor"]).max()))


def _span(n: pd.Series) -> str:
    low, high = int(n.min()), int(n.max())
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
