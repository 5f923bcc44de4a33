"""Tables of a report: columns, rows and notes, as the page's script shows, sorts, filters and downloads them."""

from collections import Counter
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
from interp.texts.emotions import TOGETHER


def tables(run: RunFiles) -> dict[str, PageTable]:
    """By name."""
    steering = (_methods, _sets, _steered, _language, _side_effects)
    makers = [*steering, _why, _effects, _ratings, _examples, _signals, *_CIRCUITS]
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


SETS = {
    "set_hit": PageColumn("first answer is one of them", "interval"),
    "set_ranking": PageColumn("ranking precision", "interval"),
    "set_ranking_gain": PageColumn("change of ranking", "interval", sign=True),
    "set_micro_f1": PageColumn("micro-F1", "interval"),
    "set_macro_f1": PageColumn("macro-F1", "interval"),
    "set_macro_f1_gain": PageColumn("change of macro-F1", "interval", sign=True),
}
"""By metric of evaluation.parquet, where texts have several emotions."""


def _sets(run: RunFiles) -> PageTable | None:
    """One row per corpus with texts of several emotions, and method."""
    table = run.table("evaluation")
    if table is None or not table["metric"].isin(SETS).any():
        return None
    rows = [
        [*names, int(cells["set_hit"].n), *(_cell(cells.get(metric), column) for metric, column in SETS.items())]
        for names, cells in _by_method(run, table[table["metric"].isin(SETS)], ["corpus"])
    ]
    note = (
        "All test texts of the corpus, those with one emotion and those with several. Ranking precision: of a text's"
        " emotions, the mean share of those ranked as high that are its own (label-ranking average precision). F1: a"
        " text with k emotions is given the k first answers. 95 % bootstrap intervals; changes are paired with the"
        " unsteered model."
    )
    columns = [PageColumn("method"), PageColumn("corpus"), PageColumn("n", "number", 0), *SETS.values()]
    return PageTable("sets", "Texts with several emotions", columns, rows, note)


def _steered(run: RunFiles) -> PageTable | None:
    """The features whose activations the chosen steering changes or reads, and what each of them is worth."""
    measured = run.table("parts")
    if run.steering is not None and measured is not None and len(measured):
        return _parts(measured)
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


def _parts(measured: pd.DataFrame) -> PageTable:
    columns = [
        PageColumn("layer, feature", "feature"),
        PageColumn("what it does"),
        PageColumn("of"),
        PageColumn("nats a standard deviation", "number", 2, sign=True),
        PageColumn("macro-F1 by it alone", "interval", sign=True),
        PageColumn("lost without it", "interval", sign=True),
    ]
    rows: list[list[Any]] = [
        [
            [int(r.layer), int(r.feature)],
            r.role,
            r.emotion or "-",
            None if np.isnan(r.nats) else r.nats,
            [r.alone, r.alone_low, r.alone_high],
            [r.lost, r.lost_low, r.lost_high],
        ]
        for r in measured.sort_values("lost", ascending=False, kind="stable").itertuples()
    ]
    n = int(measured["n"].iloc[0])
    note = (
        "The features of the chosen steering, one by one: what each reads (nats: how strongly it speaks for its"
        " emotion, or against it where negative, when it is a standard deviation more active), what the steering gains"
        f" by it alone, and what is lost where it alone is left out; changes of macro-F1 on n = {n:,} test texts, with"
        " 95 % intervals. Readers that do the same can each be left out at no loss."
    )
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
    "cloze_accuracy_gain": PageColumn("change in cloze items", "interval", sign=True),
    "answer_valid": PageColumn("probability on the answers", "interval"),
    "answer_valid_gain": PageColumn("change in that probability", "interval", sign=True),
    "neutral_changed": PageColumn("neutral texts answered otherwise", "interval"),
    "keyword_free_accuracy": PageColumn("accuracy without emotion words", "interval"),
    "keyword_free_accuracy_gain": PageColumn("change without emotion words", "interval", sign=True),
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
    "taken_for": PageColumn("most often mistaken for"),
    "taken_for_share": PageColumn("so often", "share", 0),
    "n_causal": PageColumn("causal features", "number", 0),
    "effective_number": PageColumn("as if so many did it all", "number", 1),
    "share_top_1": PageColumn("effect in top 1", "share", 0),
    "share_top_5": PageColumn("in top 5", "share", 0),
    "share_top_10": PageColumn("in top 10", "share", 0),
    "summed_effect": PageColumn("summed effect (nats)", "number", 2),
    "removed_together": PageColumn("removed together (nats)", "number", 2),
    "controls_removed_together": PageColumn("controls removed (nats)", "number", 2),
    "overshadowed_by": PageColumn("what gains most without them"),
    "answers_moved": PageColumn("texts that move there", "share", 0),
    "follows_in_neutral": PageColumn("neutral texts follow", "share", 0),
    "follows_in_others": PageColumn("others follow", "share", 0),
    "follows_in_others_control": PageColumn("controls follow", "share", 0),
    "fires_with": PageColumn("fires with features of"),
    "fires_with_share": PageColumn("share of those active", "share", 0),
    "n_selective": PageColumn("selective features", "number", 0),
    "lexical": PageColumn("of these lexical", "share", 0),
}


def _why(run: RunFiles) -> PageTable | None:
    table = run.table("why")
    return None if table is None else emotions_compared(table, ["emotion"])


def emotions_compared(why: pd.DataFrame, keys: list[str]) -> PageTable:
    """What there is to say of an emotion in one run, or in several: `keys` name a row."""
    columns: Columns = {**{key: PageColumn(key) for key in keys}, **{k: c for k, c in WHY.items() if k in why}}
    note = (
        'Discover examples. Effects in nats of the gold answer\'s log-probability. "As if so many did it all":'
        ' effective number of causal features, (sum of effects)² / sum of squares. "Removed together": all causal'
        ' features at once (at most 32), and as many controls; beside it the answer that gains most then. "Follow":'
        " share of texts answered otherwise before whose answer becomes the emotion when its causal features are put"
        ' in; "fires with": the emotion whose causal features are most active on this one\'s texts; "lexical":'
        " selective features that lose the emotion in texts without an emotion word."
    )
    return PageTable.of(why, columns, name="why", title="Why is this emotion harder?", note=note)


EFFECTS: Columns = {
    ("layer", "feature"): PageColumn("layer, feature", "feature"),
    "phase": PageColumn("phase"),
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


RATINGS: Columns = {
    "corpus": PageColumn("corpus"),
    "rating": PageColumn("rating"),
    "layer": PageColumn("best layer", "number", 0),
    ("value", "ci_low", "ci_high"): PageColumn("R² there", "interval", 2),
    "q": PageColumn("q", "number"),
    "within emotions": PageColumn("within emotions", "number", 2),
    "features": PageColumn("from features", "number", 2),
    "words": PageColumn("from words", "number", 2),
    "lexicon": PageColumn("from a lexicon", "number", 2),
    "emotion": PageColumn("from the emotion", "number", 2),
    "length": PageColumn("from length", "number", 2),
    "n_features": PageColumn("features", "number", 0),
    "n_features_shuffled": PageColumn("if shuffled", "number", 0),
    "n": PageColumn("n", "number", 0),
}


def _ratings(run: RunFiles) -> PageTable | None:
    """One row per rating, the best read first; R squared of the other methods at its best layer, or without one."""
    table, probes = run.table("ratings"), run.table("rating_probes")
    if table is None or probes is None:
        return None
    best = probes.merge(table[["corpus", "rating", "layer"]], on=["corpus", "rating"], suffixes=("", "_best"))
    best = best[best["layer"].isna() | (best["layer"] == best["layer_best"])]
    beside = best.pivot_table(index=["corpus", "rating"], columns="method", values="value", sort=False)
    names = [
        name for name in ("within emotions", "features", "words", "lexicon", "emotion", "length") if name in beside
    ]
    found = table.merge(beside[names].reset_index(), on=["corpus", "rating"], how="left")
    found = found.sort_values(["corpus", "value"], ascending=[True, False], kind="stable")
    columns = {key: column for key, column in RATINGS.items() if not isinstance(key, str) or key in found}
    note = (
        "What texts are rated for, from the layer that reads it best: R² of a ridge probe on texts it has not seen,"
        " with 95 % intervals; q is corrected for the choice of the layer and the number of ratings. Features: those"
        " of all layers whose activation goes with the rating (Spearman, q < 0.05 within the layer), and as many as"
        " come out when the ratings are shuffled."
    )
    return PageTable.of(found, columns, name="ratings", title="Ratings, and what reads them", note=note)


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
            float(np.mean([p in _golds(g, role) for g, p in zip(part["gold"], part["predicted"], strict=True)])),
            int((part["cut"] > 0).sum()),
            ", ".join(f"{k} {v}" for k, v in sorted(Counter(x for g in part["gold"] for x in _golds(g, role)).items())),
        ]
        for (role, corpus, split), part in table.groupby(["role", "corpus", "split"], sort=False)
    ]
    note = (
        "Features are found and traced on discover examples, steering is chosen on fit examples and scored once on test"
        " examples. Several: test examples with several emotions; right is an answer that is one of them."
    )
    return PageTable("examples", "Examples", columns, rows, note)


def _golds(gold: str, role: str) -> list[str]:
    return str(gold).split(TOGETHER) if role == "several" else [gold]


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
