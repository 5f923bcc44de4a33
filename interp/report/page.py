"""A run folder to `report.html`."""

from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
import plotly.graph_objects as go
import yaml
from plotly.offline import get_plotlyjs

from interp.folder import read_json, writing
from interp.report import causes, figures, steering

TOP_FEATURES = 40


@dataclass(frozen=True)
class Figure:
    """A figure as HTML, with what it shows, its n, and how to read it."""

    title: str
    html: str
    caption: str


@dataclass(frozen=True)
class RunFiles:
    """What a run has written so far; a missing file is None."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        return read_json(self.folder / "run.json")

    def table(self, name: str) -> pd.DataFrame | None:
        path = self.folder / f"{name}.parquet"
        return pd.read_parquet(path) if path.exists() else None

    def json(self, name: str) -> dict[str, Any] | None:
        path = self.folder / f"{name}.json"
        return read_json(path) if path.exists() else None

    @property
    def labels(self) -> list[str]:
        return self.record["config"]["labels"]


def write_report(folder: Path) -> Path:
    """Writes `report.html` of a run, finished or not, and returns its path.

    The same files give the same bytes; no network is needed to read it.
    """
    run = RunFiles(folder)
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string((files("interp.report") / "template.html").read_text(encoding="utf-8"))
    config = {key: value for key, value in run.record["config"].items() if key != "out"}
    page = template.render(
        record=run.record,
        config=yaml.safe_dump(config, sort_keys=False, allow_unicode=True),
        plotly=get_plotlyjs(),
        examples=_example_counts(run),
        answer=_answer(run),
        why=_why(run),
        figures=_figures(run),
        methods=_methods(run),
        fluency=_fluency(run),
        features=_features(run),
        signals=_signals(run),
        missing=[name for name in EXPECTED if not (folder / name).exists()],
    )
    path = folder / "report.html"
    with writing(path) as part:
        part.write_text(page, encoding="utf-8")
    return path


EXPECTED = (
    "signals.parquet",
    "phases.json",
    "effects.parquet",
    "concentration.parquet",
    "joint.parquet",
    "overshadowing.parquet",
    "insertion.parquet",
    "baselines.parquet",
    "why.parquet",
    "steering.json",
    "evaluation.parquet",
)


# ------------------------------------------------------------------------------------------ the answer


def _answer(run: RunFiles) -> list[str]:
    """Where, which, and what steering changed: a sentence or two each, made of the run's numbers."""
    return [s for s in (_where(run), _which(run), _steered(run)) if s]


def _where(run: RunFiles) -> str | None:
    phases = run.json("phases")
    return None if phases is None else f"{run.record['model']['n_layers']} layers: {phases['verdict']}"


def _which(run: RunFiles) -> str | None:
    table = run.table("concentration")
    if table is None:
        return None
    whole = table[table["phase"] == "all"].set_index("emotion")
    if not whole["n_causal"].any():
        return "No feature's removal lowers the right answer beyond its controls: no causal feature was found."
    counts = ", ".join(f"{label} {int(n)}" for label, n in whole["n_causal"].items())
    known = whole[whole["n_causal"] > 0].sort_values("effective_number")
    first, last = known.index[0], known.index[-1]
    effective = known["effective_number"]
    return (
        f"Causal features per emotion: {counts}."
        f" Most concentrated: {first} (effectively {effective[first]:.1f} features);"
        f" most diffuse: {last} ({effective[last]:.1f})."
    )


def _steered(run: RunFiles) -> str | None:
    steering, table = run.json("steering"), run.table("evaluation")
    if steering is None or table is None:
        return None
    if steering["method"] == "none":
        return f"Steering: none. {steering['reason']}"
    gains = table[(table["method"] == "steered") & (table["metric"] == "macro_f1_gain")]
    changes = "; ".join(
        f"{r.corpus} {r.value:+.3f} [{r.ci_low:+.3f}, {r.ci_high:+.3f}], n = {r.n}" for r in gains.itertuples()
    )
    ratio = table[(table["method"] == "steered") & (table["metric"] == "perplexity_ratio")]["value"]
    cost = f" Perplexity ratio on plain text {ratio.iloc[0]:.3f}." if len(ratio) else ""
    return f"Steering ({steering['method']}, {steering['setting']}) changes macro-F1 on test: {changes}.{cost}"


# ------------------------------------------------------------------------------------------ figures


def _drawn(name: str, title: str, figure: go.Figure, caption: str) -> Figure:
    config = {"responsive": True, "displaylogo": False, "displayModeBar": "hover"}
    html = figure.to_html(include_plotlyjs=False, full_html=False, div_id=f"figure-{name}", config=config)
    return Figure(title, html, caption)


def _layer_phases(run: RunFiles) -> Figure | None:
    signals, phases = run.table("signals"), run.json("phases")
    if signals is None:
        return None
    boundaries = ""
    if phases and phases["boundaries"]:
        spans = zip(phases["boundaries"], phases["intervals"], strict=True)
        boundaries = " Boundaries: " + ", ".join(f"layer {b} [{low}, {high}]" for b, (low, high) in spans) + "."
    caption = (
        f"Each point is one layer's value over n = {int(signals['n'].max())} discover examples;"
        " bands are 95 % bootstrap intervals (a jackknife for the count)."
        " Shading: phases, change points of the probes, selective features and causal signals together."
        f"{boundaries} Upper panels show what a layer's residual holds, the middle ones what the answer takes from it:"
        " a high probe with a low ablation effect is information that is there and not used."
    )
    return _drawn("layer-phases", "Where: signals over layers", figures.layer_phases(signals, phases), caption)


def _causal_effects(run: RunFiles) -> Figure | None:
    effects = run.table("effects")
    if effects is None or effects.empty:
        return None
    caption = (
        "Each circle is one feature: how much the gold emotion's log-probability falls when that feature alone is"
        " removed at the answer position, mean over the emotion's discover examples"
        f" (n = {int(effects['n'].min())} to {int(effects['n'].max())})."
        " Filled: causal, that is, interval above zero, above the 99th percentile of the controls, and a larger effect"
        " where the emotion is than where it is not (q < 0.05)."
        " Grey: random active features matched in strength. High and alone:"
        " a concentrated cause; many low ones: a diffuse one."
    )
    return _drawn(
        "effects", "Which: causal effects by phase and emotion", figures.causal_effects(effects, run.labels), caption
    )


def _concentration(run: RunFiles) -> Figure | None:
    table = run.table("concentration")
    if table is None or not table["n_causal"].any():
        return None
    caption = (
        "Left: share of an emotion's summed causal effect that its strongest 1, 5 and 10 features hold."
        " Right: effective number of features, (sum of effects)^2 / sum of squares:"
        " 1 if one feature does it all, the number of causal features if all do the same."
        f" n = {int(table['n'].min())} to {int(table['n'].max())} examples per emotion."
    )
    return _drawn("concentration", "How concentrated", figures.concentration(table, run.labels), caption)


def _joint(run: RunFiles) -> Figure | None:
    table = run.table("joint")
    if table is None or table.empty:
        return None
    caption = (
        "Fall of the gold emotion's log-probability when its k strongest causal features are removed together, over all"
        " layers; dotted: as many controls. Bars: 95 % intervals over the emotion's discover examples"
        f" (n = {int(table['n'].min())} to {int(table['n'].max())}). A curve that keeps rising belongs to an emotion"
        " whose cause is spread; one that is flat after k = 2 to an emotion that hangs on two features."
    )
    return _drawn(
        "joint", "Necessary: causal features removed together", causes.joint_removal(table, run.labels), caption
    )


def _together(run: RunFiles) -> Figure | None:
    moved, inserted = run.table("overshadowing"), run.table("insertion")
    if moved is None or inserted is None or moved.empty or inserted.empty:
        return None
    control = inserted[inserted["control"].astype(bool)]["follows"].mean()
    caption = (
        "Left: an emotion's causal features are removed from its own texts; cells: mean change of each answer's"
        " probability. A gain off the diagonal names the emotion that had been held down. Right: the features are set,"
        " in texts of other emotions and in neutral ones, to what they typically are in their own texts; cells: share"
        f" of texts answered otherwise before that now get the emotion as answer. Controls put in the same way:"
        f" {control:.1%} on average. n = {int(inserted['n'].min())} to {int(inserted['n'].max())} texts per cell."
    )
    figure = causes.together(moved, inserted, run.labels)
    return _drawn("together", "Sufficient, and whose place they take", figure, caption)


def _baselines(run: RunFiles) -> Figure | None:
    table = run.table("baselines")
    if table is None or table.empty:
        return None
    caption = (
        "The ablations that the field uses, on the fit examples: an emotion's direction (from the discover examples)"
        " taken out of the centred residual at the answer position, or a layer's attention or MLP output there replaced"
        f" by zero or by its mean. Mean over emotions, n = {int(table['n'].min())} to {int(table['n'].max())} each;"
        " intervals by emotion are in baselines.parquet."
    )
    return _drawn("baselines", "Beside it: directions and modules", causes.baselines(table), caption)


def _confusion(run: RunFiles, corpus: str, predictions: pd.DataFrame) -> Figure:
    n = int((predictions["method"] == "unsteered").sum())
    caption = (
        f"Rows: gold emotion; columns: the model's answer; cells: share of the row. n = {n} test examples of {corpus},"
        " the same on both sides. A good change moves share onto the diagonal without emptying another row's."
    )
    slug = "".join(c if c.isalnum() else "-" for c in corpus)
    return _drawn(f"confusion-{slug}", f"Confusions on {corpus}", figures.confusion(predictions, run.labels), caption)


def _steering(run: RunFiles) -> list[Figure]:
    evaluation, dose, learning = run.table("evaluation"), run.table("dose"), run.table("learning")
    chosen = run.json("steering")
    found = []
    if evaluation is not None and chosen is not None and chosen["method"] != "none":
        caption = (
            "Open circle: recall without steering; full: with it; bar: 95 % interval of the change, paired on the same"
            " test examples (clustered where examples share a source)."
        )
        found.append(
            _drawn("recalls", "What steering changes", steering.recall_changes(evaluation, run.labels), caption)
        )
        if dose is not None:
            caption = (
                "The chosen steering weaker and stronger: gains to the power of the strength, vectors times it. Bands:"
                " 95 % intervals. Where the curves fall, it is too much."
            )
            found.append(_drawn("dose", "Dose and response", steering.dose_response(dose), caption))
    handled = {c["name"] for c in run.record["config"].get("corpora", {}).get("anchors", [])}
    if dose is not None and handled:
        methods = [m for m in dict.fromkeys(dose["method"]) if m in steering.METHOD_COLOURS]
        caption = (
            f"A gain is worth its price. Handled: {', '.join(sorted(handled))} (anchor corpora among the test ones);"
            " the rise is a mean over the other test corpora, bars a mean of their 95 % intervals. Each line runs from"
            " strength 0.25 to 4. Dotted: a price of one point. Higher at the same price is better."
        )
        found.append(_drawn("price", "Gain against price", steering.price(dose, handled, methods), caption))
    if learning is not None and len(learning):
        caption = (
            f"Mean over {int(learning['draws'].iloc[0])} draws of labelled examples, bands: 95 % of the draws; settings"
            " fixed beforehand, nothing chosen."
        )
        found.append(_drawn("learning", "How many labelled examples", steering.learning_curve(learning), caption))
    return found


def _figures(run: RunFiles) -> list[Figure]:
    found = [
        _layer_phases(run),
        _causal_effects(run),
        _concentration(run),
        _joint(run),
        _together(run),
        _baselines(run),
        *_steering(run),
    ]
    predictions = run.table("predictions")
    if predictions is not None:
        found += [_confusion(run, str(name), part) for name, part in predictions.groupby("corpus", sort=False)]
    return [f for f in found if f is not None]


# ------------------------------------------------------------------------------------------ tables


def _why(run: RunFiles) -> list[dict[str, Any]]:
    table = run.table("why")
    return [] if table is None else table.astype(object).where(table.notna(), None).to_dict("records")


def _example_counts(run: RunFiles) -> list[dict[str, Any]]:
    table = run.table("examples")
    if table is None:
        return []
    parts = table.groupby(["role", "corpus", "split"], sort=False)
    return [
        {
            "role": role,
            "corpus": corpus,
            "split": split,
            "n": len(part),
            "per_emotion": ", ".join(f"{k} {v}" for k, v in part["gold"].value_counts().sort_index().items()),
            "accuracy": float((part["gold"] == part["predicted"]).mean()),
            "cut": int((part["cut"] > 0).sum()),
        }
        for (role, corpus, split), part in parts
    ]


def _methods(run: RunFiles) -> list[dict[str, Any]]:
    """One row per corpus and method: the unsteered model first, the chosen steering next."""
    table = run.table("evaluation")
    if table is None:
        return []
    table = table[table["metric"].isin(["accuracy", "macro_f1", "macro_f1_gain", "mcnemar_p", *_recalls(run)])]
    rows = []
    for (corpus, method), part in table.groupby(["corpus", "method"], sort=False):
        cells = {r.metric: r for r in part.itertuples()}
        rows.append({"corpus": corpus, "method": method, "cells": cells, "n": int(cells["accuracy"].n)})
    return rows


def _recalls(run: RunFiles) -> list[str]:
    return [f"recall_{label}" for label in run.labels]


def _fluency(run: RunFiles) -> list[dict[str, Any]]:
    table = run.table("evaluation")
    if table is None:
        return []
    table = table[table["metric"].isin(["perplexity_ratio", "kl"])]
    return [
        {"method": method, "n": int(part["n"].iloc[0]), "cells": {r.metric: r for r in part.itertuples()}}
        for method, part in table.groupby("method", sort=False)
    ]


def _features(run: RunFiles) -> list[dict[str, Any]]:
    """The strongest causal features, with what they were like on the fit examples."""
    effects, selective = run.table("effects"), run.table("selectivity")
    if effects is None or effects.empty:
        return []
    causal = effects[effects["causal"]]
    key = ["layer", "feature", "emotion"]
    found = causal[causal["split"] == "discover"].merge(
        causal.loc[causal["split"] == "fit", [*key, "effect"]], on=key, how="left", suffixes=("", "_fit")
    )
    if selective is not None:
        found = found.merge(selective[[*key, "auroc", "q", "kind"]], on=key, how="left")
    best = found.sort_values("effect", ascending=False, kind="stable").head(TOP_FEATURES)
    return best.astype(object).where(best.notna(), None).to_dict("records")


def _signals(run: RunFiles) -> list[dict[str, Any]]:
    table = run.table("signals")
    return [] if table is None else table.to_dict("records")
