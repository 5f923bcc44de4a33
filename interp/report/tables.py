"""Tables of a report: columns, rows and notes, as the page's script shows, sorts, filters and downloads them."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd

from interp.analysis.effect_rows import effects_on
from interp.report import circuits
from interp.report.contents import Columns, PageColumn, PageTable
from interp.report.signal_names import SIGNALS, signal_name
from interp.report.steered import steered
from interp.run.reading import RunFiles


def tables(run: RunFiles) -> dict[str, PageTable]:
    """By name."""
    makers = (_methods, _steered, _language, _side_effects, _why, _effects, _examples, _signals, *_CIRCUITS)
    return {t.name: t for t in (make(run) for make in makers) if t is not None and t.rows}


def _by_method(run: RunFiles, table: pd.DataFrame, keys: list[str]) -> Iterator[tuple[list[str], dict[str, Any]]]:
    """Method and other keys, and rows by metric; the row of a steering nobody chose would be the unsteered model's."""
    chosen = run.steering is not None
    for (method, *others), part in table.groupby(["method", *keys], sort=False):
        if chosen or method != "steered":
            yield [str(method).replace("_", " "), *others], {str(r.metric): r for r in part.itertuples()}


def _cell(row: Any, column: PageColumn) -> Any:
    if row is None:
        return None
    return [row.value, row.ci_low, row.ci_high] if column.kind == "interval" else row.value


METHODS = {
    "accuracy": PageColumn("accuracy", "interval"),
    "macro_f1": PageColumn("macro-F1", "interval"),
    "macro_f1_gain": PageColumn("change of macro-F1", "interval", sign=True),
    "perplexity_ratio": PageColumn("perplexity ratio", "number"),
    "macro_f1_gain_over_best_prompt": PageColumn("over the best prompt", "interval", sign=True),
    "mcnemar_p": PageColumn("McNemar p", "number"),
    "brier": PageColumn("Brier score", "interval"),
    "calibration_error": PageColumn("calibration error", "interval"),
}
"""By metric of evaluation.parquet."""


def _methods(run: RunFiles) -> PageTable | None:
    """One row per corpus and method: the unsteered model first, the chosen steering next."""
    table = run.table("evaluation")
    if table is None:
        return None
    shown = METHODS | {f"recall_{label}": PageColumn(f"recall {label}", "interval", 2) for label in run.labels}
    ratio = table[table["metric"] == "perplexity_ratio"].drop_duplicates("method")
    price = {str(r.method).replace("_", " "): {"perplexity_ratio": r} for r in ratio.itertuples()}
    rows: list[list[Any]] = []
    for (method, corpus), cells in _by_method(run, table[table["corpus"] != "plain text"], ["corpus"]):
        if "accuracy" in cells:
            known = cells | price.get(method, {})
            values = [_cell(known.get(metric), column) for metric, column in shown.items()]
            rows.append([method, corpus, int(cells["accuracy"].n), *values])
    chosen = run.steering is not None
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
    columns = [PageColumn("method"), PageColumn("corpus"), PageColumn("n", "number", 0), *shown.values()]
    strong = [i for i, row in enumerate(rows) if row[0] == "steered"]
    return PageTable("methods", "Methods side by side", columns, rows, note, strong)


def _steered(run: RunFiles) -> PageTable | None:
    """The features whose activations the chosen steering changes."""
    found = steered(run)
    if found is None or not found.features:
        return None
    columns = [PageColumn("layer, feature", "feature"), PageColumn("gain", "number", 2), PageColumn("causal for")]
    rows: list[list[Any]] = [
        [[f.layer, f.feature], f.gain, ", ".join(f.emotions) or "-"]
        for f in sorted(found.features, key=lambda f: (-abs(np.log(max(f.gain, 1e-9))), f.layer, f.feature))
    ]
    note = "What was chosen: each feature's activation is multiplied by its gain, whatever the text."
    return PageTable("steered", "What is steered", columns, rows, note)


def _language(run: RunFiles) -> PageTable | None:
    table = run.table("evaluation")
    if table is None:
        return None
    shown = {
        "perplexity_ratio": PageColumn("perplexity ratio", "interval"),
        "kl": PageColumn("KL to unsteered (nats per token)", "interval", 4),
    }
    rows = [
        [*names, int(next(iter(cells.values())).n), *(_cell(cells.get(m), column) for m, column in shown.items())]
        for names, cells in _by_method(run, table[table["metric"].isin(shown)], [])
    ]
    columns = [PageColumn("method"), PageColumn("tokens", "number", 0), *shown.values()]
    note = "Plain text, steering on at every position; intervals resample documents. 1 and 0 mean that nothing changed."
    return PageTable("language", "What it costs in language", columns, rows, note)


SIDE_EFFECTS = {
    "cloze_accuracy": PageColumn("cloze items right", "interval"),
    "cloze_accuracy_gain": PageColumn("change", "interval", sign=True),
    "answer_valid": PageColumn("probability on the answers", "interval"),
    "answer_valid_gain": PageColumn("change", "interval", sign=True),
    "neutral_changed": PageColumn("neutral texts answered otherwise", "interval"),
    "keyword_free_accuracy": PageColumn("accuracy without emotion words", "interval"),
    "keyword_free_accuracy_gain": PageColumn("change", "interval", sign=True),
}
"""By metric of side_effects.parquet."""


def _side_effects(run: RunFiles) -> PageTable | None:
    table = run.table("side_effects")
    if table is None:
        return None
    counts = table.drop_duplicates("metric").set_index("metric")["n"]
    shown = {metric: column for metric, column in SIDE_EFFECTS.items() if metric in counts}
    rows = [
        [*names, *(_cell(cells.get(m), column) for m, column in shown.items())]
        for names, cells in _by_method(run, table, [])
    ]
    sizes = "; ".join(f"{column.title}: n = {int(counts[m])}" for m, column in shown.items() if not column.sign)
    note = f"What a steering changes besides ({sizes}). Changes are paired with the unsteered model; 95 % intervals."
    return PageTable("side_effects", "Side effects", [PageColumn("method"), *shown.values()], rows, note)


WHY = {
    "n": PageColumn("n", "number", 0),
    "recall": PageColumn("recall", "share", 0),
    "taken_for": PageColumn("taken for"),
    "taken_for_share": PageColumn("share of texts", "share", 0),
    "n_causal": PageColumn("causal features", "number", 0),
    "effective_number": PageColumn("effective number", "number", 2),
    "share_top_1": PageColumn("top 1", "share", 0),
    "share_top_5": PageColumn("top 5", "share", 0),
    "share_top_10": PageColumn("top 10", "share", 0),
    "summed_effect": PageColumn("summed effect", "number", 2),
    "removed_together": PageColumn("removed together", "number", 2),
    "controls_removed_together": PageColumn("controls", "number", 2),
    "overshadowed_by": PageColumn("its place is taken by"),
    "answers_moved": PageColumn("share of answers", "share", 0),
    "follows_in_neutral": PageColumn("neutral texts follow", "share", 0),
    "follows_in_others": PageColumn("others follow", "share", 0),
    "follows_in_others_control": PageColumn("controls follow", "share", 0),
    "fires_with": PageColumn("fires with"),
    "fires_with_share": PageColumn("share of features", "share", 0),
    "n_selective": PageColumn("selective", "number", 0),
    "lexical": PageColumn("of these lexical", "share", 0),
}


def _why(run: RunFiles) -> PageTable | None:
    table = run.table("why")
    return None if table is None else emotions_compared(table, ["emotion"])


def emotions_compared(why: pd.DataFrame, keys: list[str]) -> PageTable:
    """What there is to say of an emotion in one run, or in several: `keys` name a row."""
    columns: Columns = {**{key: PageColumn(key) for key in keys}, **{k: c for k, c in WHY.items() if k in why}}
    note = (
        'Discover examples. Effects in nats of the gold answer\'s log-probability. "Removed together": all causal'
        ' features at once (at most 32); "follow": share of texts answered otherwise before whose answer becomes the'
        ' emotion when its causal features are put in; "fires with": the emotion whose causal features are most active'
        ' on this one\'s texts (share of them); "lexical": selective features that lose the emotion in texts without'
        " an emotion word."
    )
    return PageTable.of(why, columns, name="why", title="Why is this emotion harder?", note=note)


EFFECTS: Columns = {
    ("layer", "feature"): PageColumn("layer, feature", "feature"),
    "phase": PageColumn("phase", "number", 0),
    "emotion": PageColumn("emotion"),
    "role": PageColumn("role"),
    ("effect", "ci_low", "ci_high"): PageColumn("effect (nats)", "interval"),
    "effect_fit": PageColumn("on fit examples", "number"),
    "flip_rate": PageColumn("answer flips", "share", 0),
    "n_active": PageColumn("active in", "number", 0),
    "n": PageColumn("of", "number", 0),
    "attribution": PageColumn("attribution", "number"),
    "auroc": PageColumn("AUROC", "number", 2),
    "kind": PageColumn("selective"),
}


def _effects(run: RunFiles) -> PageTable | None:
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
    note = (
        "Every feature that was traced: causal ones, the other candidates, and controls. Effect: fall of the gold"
        " emotion's log-probability when the feature is removed, mean over the emotion's discover examples; beside it"
        " the same on the fit examples, which had no part in finding it (causal features only)."
    )
    return PageTable.of(found, EFFECTS, name="effects", title="All traced features", note=note)


def _examples(run: RunFiles) -> PageTable | None:
    table = run.table("examples")
    if table is None:
        return None
    columns = [
        PageColumn("used for"),
        PageColumn("corpus"),
        PageColumn("split"),
        PageColumn("n", "number", 0),
        PageColumn("accuracy, unsteered", "share", 0),
        PageColumn("cut to fit the context", "number", 0),
        PageColumn("per emotion"),
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
    return PageTable("examples", "Examples", columns, rows, note)


def _signals(run: RunFiles) -> PageTable | None:
    table = run.table("signals")
    if table is None:
        return None
    columns = [
        PageColumn("signal"),
        PageColumn("layer", "number", 0),
        PageColumn("value", "interval", 3),
        PageColumn("counted in"),
        PageColumn("n", "number", 0),
    ]
    order = {name: i for i, name in enumerate(SIGNALS)}
    known = table.assign(place=table["signal"].map(order).fillna(len(order)))
    rows: list[list[Any]] = []
    for r in known.sort_values(["place", "signal", "layer"], kind="stable").itertuples():
        signal, spread = signal_name(str(r.signal)), [r.value, r.ci_low, r.ci_high]
        rows.append([signal.name, r.layer, [*spread, 0] if signal.counts else spread, signal.unit, r.n])
    return PageTable("signals", "All layer signals", columns, rows, "95 % intervals over examples.")


def _of_circuits(name: str, make: Callable[[pd.DataFrame], PageTable]) -> Callable[[RunFiles], PageTable | None]:
    def made(run: RunFiles) -> PageTable | None:
        table = run.added(name)
        return None if table is None else make(table)

    return made


_CIRCUITS = (
    _of_circuits("circuits", circuits.circuits_table),
    _of_circuits("circuit_nodes", circuits.nodes_table),
    _of_circuits("circuit_edges", circuits.edges_table),
)
