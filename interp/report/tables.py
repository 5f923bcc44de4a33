"""Tables of a report: columns, rows and notes, as the page's script shows, sorts, filters and downloads them."""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.effect_rows import effects_on
from interp.report.figures import COUNTS, NAMES, UNITS, in_script
from interp.report.steered import steered
from interp.run.reading import RunFiles


@dataclass(frozen=True)
class Column:
    """A column and how its values are written.

    Attributes:
        kind: text | number | share (in percent) | interval ([value, low, high], and digits if the row has its own) |
            feature ([layer, feature]).
        digits: behind the point.
        sign: whether positive numbers get one.
    """

    title: str
    kind: str = "text"
    digits: int = 3
    sign: bool = False


@dataclass(frozen=True)
class Table:
    """Rows as lists in the order of the columns; `strong` numbers the rows in bold."""

    name: str
    title: str
    columns: list[Column]
    rows: list[list[Any]]
    note: str
    strong: list[int] = field(default_factory=list)

    @property
    def json(self) -> str:
        """What is not a number is null."""
        value = {"name": self.name, "columns": [asdict(c) for c in self.columns], "rows": self.rows}
        text = json.dumps(_finite(value | {"strong": self.strong}), ensure_ascii=False, allow_nan=False)
        return in_script(text)


def tables(run: RunFiles) -> dict[str, Table]:
    """By name."""
    makers = (_methods, _steered, _language, _side_effects, _why, _effects, _examples, _signals)
    return {t.name: t for t in (make(run) for make in makers) if t is not None and t.rows}


def _finite(value: Any) -> Any:
    """Plain Python values, with null for what is not a number, and five significant digits."""
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value if isinstance(value, int | str | bool) else str(value)


def _interval(cells: dict[str, Any], metric: str) -> list[float] | None:
    r = cells.get(metric)
    return None if r is None else [r.value, r.ci_low, r.ci_high]


def _methods(run: RunFiles) -> Table | None:
    """One row per corpus and method: the unsteered model first, the chosen steering next."""
    table = run.table("evaluation")
    if table is None:
        return None
    labels = run.labels
    price = table[table["metric"] == "perplexity_ratio"].drop_duplicates("method").set_index("method")["value"]
    columns = [
        Column("method"),
        Column("corpus"),
        Column("n", "number", 0),
        Column("accuracy", "interval"),
        Column("macro-F1", "interval"),
        Column("change of macro-F1", "interval", sign=True),
        Column("perplexity ratio", "number"),
        Column("over the best prompt", "interval", sign=True),
        Column("McNemar p", "number"),
        Column("Brier score", "interval"),
        Column("calibration error", "interval"),
        *(Column(f"recall {label}", "interval", 2) for label in labels),
    ]
    chosen = _chosen(run)
    rows: list[list[Any]] = []
    strong: list[int] = []
    for (corpus, method), part in table[table["corpus"] != "plain text"].groupby(["corpus", "method"], sort=False):
        cells = {r.metric: r for r in part.itertuples()}
        if "accuracy" not in cells or (method == "steered" and not chosen):
            continue
        p = cells.get("mcnemar_p")
        metrics = ("macro_f1", "macro_f1_gain", "macro_f1_gain_over_best_prompt")
        if method == "steered":
            strong.append(len(rows))
        rows.append(
            [
                str(method).replace("_", " "),
                corpus,
                int(cells["accuracy"].n),
                _interval(cells, "accuracy"),
                *(_interval(cells, m) for m in metrics[:2]),
                price.get(str(method)),
                _interval(cells, metrics[2]),
                None if p is None else p.value,
                _interval(cells, "brier"),
                _interval(cells, "calibration_error"),
                *(_interval(cells, f"recall_{label}") for label in labels),
            ]
        )
    best = (
        ' "steered" is the choice made on the fit split; amplify, targeted, global and gated are the best setting of'
        " each method;"
        if chosen
        else " No steering was chosen, so there is no such row: it would be the unsteered model. amplify, targeted,"
        " global and gated are the best setting of each method;"
    )
    note = (
        "95 % bootstrap intervals in brackets (clustered where examples share a source); changes are paired with the"
        f" unsteered model on the same examples.{best}"
        ' "random features" went through the same procedure with'
        " random features; vectors, answer prior, answer bias and few-shot examples come from discover or fit examples;"
        ' "low rank tuning" changes the weights themselves;'
        ' "probe" is logistic regression on residuals of the best layer, trained on the fit split. No method saw a'
        " test label. McNemar p is not corrected for the number of methods. Perplexity ratio: of plain text, steering"
        " on at every position; 1: nothing lost."
    )
    return Table("methods", "Methods side by side", columns, rows, note, strong)


def _chosen(run: RunFiles) -> bool:
    """Whether a steering was chosen."""
    facts = run.json("steering")
    return facts is not None and facts["method"] != "none"


def _steered(run: RunFiles) -> Table | None:
    """The features whose activations the chosen steering changes."""
    found = steered(run)
    if found is None or not found.features:
        return None
    columns = [Column("layer, feature", "feature"), Column("gain", "number", 2), Column("causal for")]
    rows: list[list[Any]] = [
        [[f.layer, f.feature], f.gain, ", ".join(f.emotions) or "-"]
        for f in sorted(found.features, key=lambda f: (-abs(np.log(max(f.gain, 1e-9))), f.layer, f.feature))
    ]
    note = "What was chosen: each feature's activation is multiplied by its gain, whatever the text."
    return Table("steered", "What is steered", columns, rows, note)


def _language(run: RunFiles) -> Table | None:
    table = run.table("evaluation")
    if table is None:
        return None
    found = table[table["metric"].isin(["perplexity_ratio", "kl"])]
    columns = [
        Column("method"),
        Column("tokens", "number", 0),
        Column("perplexity ratio", "interval", 3),
        Column("KL to unsteered (nats per token)", "interval", 4),
    ]
    rows: list[list[Any]] = []
    for method, part in found.groupby("method", sort=False):
        if method == "steered" and not _chosen(run):
            continue
        cells = {r.metric: r for r in part.itertuples()}
        kept = (_interval(cells, "perplexity_ratio"), _interval(cells, "kl"))
        rows.append([str(method).replace("_", " "), int(part["n"].iloc[0]), *kept])
    note = "Plain text, steering on at every position; intervals resample documents. 1 and 0 mean that nothing changed."
    return Table("language", "What it costs in language", columns, rows, note)


def _side_effects(run: RunFiles) -> Table | None:
    table = run.table("side_effects")
    if table is None:
        return None
    metrics = {
        "cloze_accuracy": ("cloze items right", False),
        "cloze_accuracy_gain": ("change", True),
        "answer_valid": ("probability on the answers", False),
        "answer_valid_gain": ("change", True),
        "neutral_changed": ("neutral texts answered otherwise", False),
        "keyword_free_accuracy": ("accuracy without emotion words", False),
        "keyword_free_accuracy_gain": ("change", True),
    }
    present = [m for m in metrics if (table["metric"] == m).any()]
    columns = [Column("method"), *(Column(metrics[m][0], "interval", sign=metrics[m][1]) for m in present)]
    rows: list[list[Any]] = []
    for method, part in table.groupby("method", sort=False):
        if method == "steered" and not _chosen(run):
            continue
        cells = {r.metric: r for r in part.itertuples()}
        rows.append([str(method).replace("_", " "), *(_interval(cells, m) for m in present)])
    counts = table.drop_duplicates("metric").set_index("metric")["n"]
    sizes = "; ".join(f"{metrics[m][0]}: n = {int(counts[m])}" for m in present if not metrics[m][1])
    note = f"What a steering changes besides ({sizes}). Changes are paired with the unsteered model; 95 % intervals."
    return Table("side_effects", "Side effects", columns, rows, note)


WHY = (
    ("n", Column("n", "number", 0)),
    ("recall", Column("recall", "share", 0)),
    ("taken_for", Column("taken for")),
    ("taken_for_share", Column("share of texts", "share", 0)),
    ("n_causal", Column("causal features", "number", 0)),
    ("effective_number", Column("effective number", "number", 2)),
    ("share_top_1", Column("top 1", "share", 0)),
    ("share_top_5", Column("top 5", "share", 0)),
    ("share_top_10", Column("top 10", "share", 0)),
    ("summed_effect", Column("summed effect", "number", 2)),
    ("removed_together", Column("removed together", "number", 2)),
    ("controls_removed_together", Column("controls", "number", 2)),
    ("overshadowed_by", Column("its place is taken by")),
    ("answers_moved", Column("share of answers", "share", 0)),
    ("follows_in_neutral", Column("neutral texts follow", "share", 0)),
    ("follows_in_others", Column("others follow", "share", 0)),
    ("follows_in_others_control", Column("controls follow", "share", 0)),
    ("fires_with", Column("fires with")),
    ("fires_with_share", Column("share of features", "share", 0)),
    ("n_selective", Column("selective", "number", 0)),
    ("lexical", Column("of these lexical", "share", 0)),
)


def _why(run: RunFiles) -> Table | None:
    table = run.table("why")
    if table is None:
        return None
    shown = [(name, column) for name, column in WHY if name in table]
    columns = [Column("emotion"), *(column for _, column in shown)]
    rows = _lists(table[["emotion", *(name for name, _ in shown)]])
    note = (
        'Discover examples. Effects in nats of the gold answer\'s log-probability. "Removed together": all causal'
        ' features at once (at most 32); "follow": share of texts answered otherwise before whose answer becomes the'
        ' emotion when its causal features are put in; "fires with": the emotion whose causal features are most active'
        ' on this one\'s texts (share of them); "lexical": selective features that lose the emotion in texts without'
        " an emotion word."
    )
    return Table("why", "Why is this emotion harder?", columns, rows, note)


def _effects(run: RunFiles) -> Table | None:
    """Every traced feature, causal ones first, with what it was like on the fit examples."""
    effects, selective = run.table("effects"), run.table("selectivity")
    if effects is None:
        return None
    key = ["layer", "feature", "emotion"]
    found = effects_on(effects).merge(
        effects_on(effects, "fit")[[*key, "effect"]], on=key, how="left", suffixes=("", "_fit")
    )
    if selective is None:
        found = found.assign(auroc=None, kind=None)
    else:
        found = found.merge(selective[[*key, "auroc", "kind"]], on=key, how="left")
    found["role"] = [
        "causal" if c else "control" if x else "candidate"
        for c, x in zip(found["causal"], found["control"], strict=True)
    ]
    found = found.sort_values(["causal", "effect"], ascending=False, kind="stable")
    columns = [
        Column("layer, feature", "feature"),
        Column("phase", "number", 0),
        Column("emotion"),
        Column("role"),
        Column("effect (nats)", "interval"),
        Column("on fit examples", "number"),
        Column("answer flips", "share", 0),
        Column("active in", "number", 0),
        Column("of", "number", 0),
        Column("attribution", "number"),
        Column("AUROC", "number", 2),
        Column("selective"),
    ]
    places = zip(found["layer"], found["feature"], strict=True)
    spans = zip(found["effect"], found["ci_low"], found["ci_high"], strict=True)
    rest = _lists(found[["effect_fit", "flip_rate", "n_active", "n", "attribution", "auroc", "kind"]])
    heads = zip(places, found["phase"], found["emotion"], found["role"], spans, rest, strict=True)
    rows = [[list(at), phase, emotion, role, list(span), *more] for at, phase, emotion, role, span, more in heads]
    note = (
        "Every feature that was traced: causal ones, the other candidates, and controls. Effect: fall of the gold"
        " emotion's log-probability when the feature is removed, mean over the emotion's discover examples; beside it"
        " the same on the fit examples, which had no part in finding it (causal features only)."
    )
    return Table("effects", "All traced features", columns, rows, note)


def _examples(run: RunFiles) -> Table | None:
    table = run.table("examples")
    if table is None:
        return None
    columns = [
        Column("used for"),
        Column("corpus"),
        Column("split"),
        Column("n", "number", 0),
        Column("accuracy, unsteered", "share", 0),
        Column("cut to fit the context", "number", 0),
        Column("per emotion"),
    ]
    rows = [
        [
            role,
            corpus,
            split,
            len(part),
            float((part["gold"] == part["predicted"]).mean()),
            int((part["cut"] > 0).sum()),
            ", ".join(f"{k} {v}" for k, v in part["gold"].value_counts().sort_index().items()),
        ]
        for (role, corpus, split), part in table.groupby(["role", "corpus", "split"], sort=False)
    ]
    note = (
        "Features are found and traced on discover examples, steering is chosen on fit examples and scored once on test"
        " examples."
    )
    return Table("examples", "Examples", columns, rows, note)


def _signals(run: RunFiles) -> Table | None:
    table = run.table("signals")
    if table is None:
        return None
    columns = [
        Column("signal"),
        Column("layer", "number", 0),
        Column("value", "interval", 3),
        Column("counted in"),
        Column("n", "number", 0),
    ]
    order = {name: i for i, name in enumerate(NAMES)}
    known = table.assign(place=table["signal"].map(order).fillna(len(order)))
    rows: list[list[Any]] = []
    for r in known.sort_values(["place", "signal", "layer"], kind="stable").itertuples():
        name, spread = str(r.signal), [r.value, r.ci_low, r.ci_high]
        shown = NAMES.get(name, name.replace("_", " "))
        rows.append([shown, r.layer, [*spread, 0] if name in COUNTS else spread, UNITS.get(name, ""), r.n])
    return Table("signals", "All layer signals", columns, rows, "95 % intervals over examples.")


def _lists(table: pd.DataFrame) -> list[list[Any]]:
    """Rows as lists, None for what is missing."""
    values: Iterable[Sequence[Any]] = table.astype(object).where(table.notna(), None).to_numpy().tolist()
    return [list(row) for row in values]
