"""Which figures a report shows, in which order, with captions that say what they show, n, and how to read them."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import pandas as pd

from interp.analysis.effect_rows import effects_on
from interp.report import baselines, causes, circuits, confusions, feature_sets, layers, patching, steering, trees
from interp.report.contents import PageFigure, Section
from interp.report.rating_captions import rating_makers
from interp.report.tables import tables
from interp.report.words import layer_list
from interp.run.reading import RunFiles
from interp.run.tables import empty
from interp.texts.corpus_names import corpus_names
from interp.texts.emotions import TOGETHER

Maker = Callable[[RunFiles], list[PageFigure]]


def sections(run: RunFiles) -> list[Section]:
    """In order; a section holds what the run has."""
    known = tables(run)

    def section(title: str, slug: str, short: str, *parts: Maker | str) -> Section:
        figures = [figure for part in parts if callable(part) for figure in part(run)]
        return Section(title, slug, figures, [known[part] for part in parts if part in known], short)

    return [
        section("Where in the layers", "where", "Layers", _layer_phases),
        section("Where each emotion is", "live", "Emotions", _emotion_map),
        section("Which features cause the answer", "which", "Features", _ladder, "effects"),
        section("Few features or many", "concentration", "Spread", _concentration, _joint),
        section("Taken out and put in", "together", "Removal", _together, "why"),
        section(
            "Circuits: by which heads, neurons and features",
            "circuits",
            "Circuits",
            _circuits,
            _kept,
            "circuits",
            _shared_circuits,
            "circuit_nodes",
            "circuit_edges",
        ),
        section("Features shared by emotions", "sets", "Shared", _upset),
        section("Compared with directions and modules", "baselines", "Baselines", _baselines, _patched),
        section("What texts are rated for", "ratings", "Ratings", *rating_makers, "ratings"),
        section("What steering changes", "steering", "Steering", _gains, _recalls, "steered", "methods"),
        section(
            "Which emotions are confused", "confusions", "Confusions", _confusions, "sets", _trees, _tree_agreement
        ),
        section("How much steering, from how many examples", "dose", "Strength", _dose, _price, _learning),
        section("What steering costs", "cost", "Costs", "language", "side_effects"),
        section("Texts and all signals", "examples", "Tables", "examples", "signals"),
    ]


def _from(*names: str) -> Callable[[Callable[..., list[PageFigure]]], Maker]:
    """Figures of these tables, which the maker gets after the run; none where one of them is not there."""

    def of_tables(make: Callable[..., list[PageFigure]]) -> Maker:
        @wraps(make)
        def made(run: RunFiles) -> list[PageFigure]:
            found: list[Any] = [run.table(name) for name in names]
            return [] if any(table is None for table in found) else make(run, *found)

        return made

    return of_tables


def _span(n: pd.Series) -> str:
    low, high = int(n.min()), int(n.max())
    return f"n = {low:,}" if low == high else f"n = {low:,} to {high:,}"


@_from("signals")
def _layer_phases(run: RunFiles, signals: pd.DataFrame) -> list[PageFigure]:
    phases = run.json("phases")
    boundaries = ""
    if phases and phases["boundaries"]:
        spans = zip(phases["boundaries"], phases["intervals"], strict=True)
        inside = ", ".join(f"at layer {b} (95 % interval {low} to {high})" for b, (low, high) in spans)
        boundaries = f", here {inside}"
    n_layers, covered = run.record["model"]["n_layers"], run.record["saes"]["layers"]
    gaps = (
        f" Measured at {layer_list(covered, n_layers)}; dotted lines only lead over the others."
        if 0 < len(covered) < n_layers
        else ""
    )
    shared = (
        f"Points: a layer's value over n = {int(signals['n'].max()):,} discover examples; bands: 95 % bootstrap"
        " intervals. Shaded: phases, stretches of layers that behave alike; a new one begins where the signals change"
        f" together{boundaries}.{gaps}"
    )
    parts = (
        (
            "what layers hold",
            "representational",
            layers.HELD,
            "What can be read from the residual stream at the answer position. A probe is a linear classifier; only"
            " what it gets right above shuffled emotions and above another task is knowledge of emotions. A layer is"
            " said to hold the emotion from where on it stays at least half-way from shuffled emotions to its best.",
        ),
        (
            "what the answer uses",
            "causal",
            layers.USED,
            "What the answer takes from a layer. "
            + (
                "Where the probe is high and the loss here is low, the layer holds the emotion and the answer does not"
                " use it. "
                if (signals["signal"] == "joint_ablation").any()
                else "What taking directions and modules out costs stands further down. "
            )
            + "1 nat: the right answer becomes 2.7 times less likely.",
        ),
    )
    drawn = [(title, slug, layers.layer_phases(signals, phases, panels), own) for title, slug, panels, own in parts]
    return [
        PageFigure(f"layers-{slug}", title, figure, f"{own} {shared}", group="layers")
        for title, slug, figure, own in drawn
        if figure is not None
    ]


def _emotion_map(run: RunFiles) -> list[PageFigure]:
    selectivity, effects = run.table("selectivity"), run.table("effects")
    if selectivity is None and effects is None:
        return []
    n = "" if effects is None else f" {_span(effects_on(effects)['n'])} discover examples per emotion."
    caption = (
        "Rows: emotions; columns: layers with SAEs. First: how many features are selective for the emotion (one against"
        f" the rest, q < 0.05); second: the summed effect of its causal features, in nats.{n} Where a row is dark in"
        " the first map and pale in the second, the emotion is known there and the answer decided elsewhere."
    )
    figure = layers.emotion_map(selectivity, effects, run.record["saes"]["layers"], run.labels)
    return [PageFigure("map", "Layer by emotion", figure, caption)]


@_from("effects")
def _ladder(run: RunFiles, effects: pd.DataFrame) -> list[PageFigure]:
    caption = (
        "Each circle is one feature: how much the gold emotion's log-probability falls when that feature alone is"
        " removed at the answer position, mean over the emotion's discover examples"
        f" ({_span(effects_on(effects)['n'])}), with its 95 % interval; the {causes.SHOWN} largest of each emotion."
        " Colour: its phase of layers. Filled: causal, that is, interval above zero, above the 99th percentile of the"
        " controls of its phase, and a larger effect where the emotion is than where it is not (q < 0.05); hollow:"
        " not. Grey band between dotted lines: 98 % of the controls of all phases, random features matched in strength"
        " and firing rate; where it is thin, they do next to nothing, and a filled circle inside it lies above those of"
        " its own phase. A steep start is a concentrated cause, a long shelf a diffuse one. Click a circle for the"
        " feature's card."
    )
    return [PageFigure("ladder", "Causal ladder", causes.ladder(effects, run.labels), caption, cards=True)]


@_from("concentration")
def _concentration(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    if not table["n_causal"].any():
        return []
    caption = (
        "First: share of an emotion's summed causal effect that its strongest 1, 5 and 10 features hold."
        " Second: effective number of features, (sum of effects)² / sum of squares:"
        " 1 if one feature does it all, the number of causal features if all do the same."
        f" {_span(table['n'])} examples per emotion."
    )
    return [PageFigure("concentration", "How concentrated", causes.concentration(table, run.labels), caption)]


@_from("joint")
def _joint(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    caption = (
        "Fall of the gold emotion's log-probability when its k strongest causal features are removed together, over all"
        " layers; dotted: as many controls. Bars: 95 % intervals over the emotion's discover examples"
        f" ({_span(table['n'])}). A curve that keeps rising belongs to an emotion"
        " whose cause is spread; one that is flat after k = 2 to an emotion that hangs on two features."
    )
    return [PageFigure("joint", "Removed together", causes.joint_removal(table, run.labels), caption)]


@_from("overshadowing", "insertion")
def _together(run: RunFiles, moved: pd.DataFrame, inserted: pd.DataFrame) -> list[PageFigure]:
    control = inserted[inserted["control"].astype(bool)]["follows"].mean()
    caption = (
        "First: an emotion's causal features are removed from its own texts; cells: mean change of each answer's"
        " probability. A gain off the diagonal names the emotion that had been held down. Second: the features are set,"
        " in texts of other emotions and in neutral ones, to what they typically are in their own texts; cells: share"
        " of texts answered otherwise before that now get the emotion as answer. Controls put in the same way:"
        f" {control:.1%} on average. {_span(inserted['n'])} texts per cell."
    )
    return [PageFigure("together", "Removed and put in", causes.together(moved, inserted, run.labels), caption)]


def _circuits(run: RunFiles) -> list[PageFigure]:
    edges, nodes, words = (run.added(name) for name in ("circuit_edges", "circuit_nodes", "circuit_words"))
    if edges is None or nodes is None:
        return []
    words = empty("circuit_words.parquet") if words is None else words
    cards = {(card["layer"], card["feature"]) for card in run.json("cards") or []}
    found = []
    for label in run.labels:
        own, of_nodes, of_words = (table[table["emotion"] == label] for table in (edges, nodes, words))
        if not own["in_circuit"].any():
            continue
        drawn = circuits.DrawnCircuit(own, of_nodes, of_words, label, run.record["model"]["n_layers"])
        more = int(own["in_circuit"].sum()) - len(drawn.edges)
        caption = (
            f"The circuit of {label} at the answer position: layers upward, words at the bottom, the answer on top."
            " Lines: edges, by exact effect on the answer when cut alone (blue: supports it, orange: works against it;"
            " the wider, the more); from words, by what the answer loses without what that head moves from the word."
            f" Filled nodes are causal for {label}, hollow ones act in all texts alike; larger: larger effect when set"
            f" to the mean. {_span(own['n'])} discover texts; click a node for its card."
            + (f" {more} weaker edges of the circuit are not drawn." if more > 0 else "")
        )
        figure = circuits.graph(drawn, run.labels, cards)
        found.append(
            PageFigure(f"circuit-{run.labels.index(label)}", label, figure, caption, group="circuit", cards=True)
        )
    return found


def _kept(run: RunFiles) -> list[PageFigure]:
    table = run.added("faithfulness")
    if table is None or not table["value"].notna().any():
        return []
    caption = (
        "Share of the answer's logit difference (to the mean of the other answers) that is left when only k edges"
        " carry what differs from the mean text, all other parts of the model at their means: 0 is what the means alone"
        " say, 1 (dotted) the model. Edges are kept in the order of their exact effects, of their attribution (one"
        f" backward pass), or at random (mean of three orders). Bands: 95 % intervals, {_span(table['n'])} fit texts"
        " per emotion, which had no part in the order."
    )
    return [PageFigure("kept", "What few edges keep", circuits.curves(table, run.labels), caption)]


def _shared_circuits(run: RunFiles) -> list[PageFigure]:
    table = run.added("circuit_overlap")
    if table is None or not table["nodes"].notna().any():
        return []
    caption = (
        "Nodes and edges that the circuits of two emotions share, as a share of those that either has. A row that is"
        " dark everywhere uses what all emotions use; a pale one has ways of its own."
    )
    return [PageFigure("shared-circuits", "Shared by circuits", circuits.shared(table, run.labels), caption)]


@_from("selectivity")
def _upset(run: RunFiles, selectivity: pd.DataFrame) -> list[PageFigure]:
    if not (selectivity["kind"] != "none").any():
        return []
    sets = feature_sets.feature_sets(selectivity)
    caption = (
        f"The n = {len(sets)} features of all layers that are selective for any emotion, by the set of emotions they"
        " are selective for (coloured dots): one dot is a specific feature, several a shared one."
        f" The {feature_sets.MOST} commonest sets. Red: loses at least one of its emotions in texts without an emotion"
        " word, so that it reads the word rather than the situation; grey: the run holds no such texts to test it on."
    )
    return [PageFigure("sets", "Sets of emotions", feature_sets.upset(sets, run.labels), caption)]


@_from("baselines")
def _baselines(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    caption = (
        "The ablations that the field uses, on the fit examples: an emotion's direction (from the discover examples)"
        " taken out of the centred residual at the answer position, or a layer's attention or MLP output there replaced"
        f" by zero or by its mean. Mean over emotions, {_span(table['n'])} each;"
        " intervals by emotion are in baselines.parquet. Where a direction does what the features do, the features add"
        " a name to it, not a cause."
    )
    return [PageFigure("baselines", "Directions and modules", baselines.baselines(table), caption)]


def _patched(run: RunFiles) -> list[PageFigure]:
    table = run.added("patching")
    if table is None:
        return []
    found, whole = [], table[table["emotion"] == "all"]
    for position, own in whole.groupby("position", sort=False):
        end = int(own["text_end"].iloc[0])
        place = "answer position" if position == -1 else "last token of the text" if position == end else str(position)
        at = f"at the {place}" if position in (-1, end) else f"at position {place} from the end"
        caption = (
            f"Activation patching, {at}: what a residual, an attention or an MLP puts out in one text is put into"
            " another text's pass, and all behind it computed again. Share of the way from the target's to the source's"
            " logit difference between the two emotions (controls: between the two answers): 1 (dotted), the target"
            " answers as its source does; 0, nothing moved. Pairs stand in the same frame and are of like length."
            f" Bands: 95 % intervals over targets, {_span(own.loc[~own['control'].astype(bool), 'n'])} pairs of two"
            " emotions; by emotion of the source in patching.parquet."
        )
        figure = patching.patched(own)
        found.append(PageFigure(f"patching{position}", place, figure, caption, group="position"))
    return found


@_from("evaluation")
def _gains(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    scored = table if run.steering else table[table["method"] != "steered"]
    found = scored[scored["metric"] == "macro_f1_gain"]
    if not len(found):
        return []
    budget = run.record["config"].get("steering", {}).get("perplexity_budget")
    chosen = (
        "Diamond: the steering that was chosen on the fit split; the others stand beside it and were chosen by nobody."
        if run.steering
        else "No steering was chosen on the fit split, so none is marked: all of these were chosen by nobody."
    )
    allowed = f"; dotted: the {budget:g} allowed" if budget and (scored["metric"] == "perplexity_ratio").any() else ""
    caption = (
        "Change of macro-F1 against the unsteered model on the same test examples, with paired 95 % intervals, not"
        f" corrected for {found['method'].nunique()} methods ({_span(found['n'])} per corpus). {chosen} An interval"
        " that holds zero is no gain, and a gain is worth its price: beside the first gains, the perplexity of plain"
        f" text under the same steering over that without{allowed}; what steers no text, as other prompts and probes,"
        f" has none.{_unseen(run, found)}"
    )
    return [PageFigure("gains", "All methods", steering.gains(scored, budget), caption)]


def _unseen(run: RunFiles, scored: pd.DataFrame) -> str:
    """Which test corpora had no part in finding features or in choosing."""
    corpora = run.record["config"].get("corpora")
    if not corpora:
        return ""
    names = corpus_names(corpora)
    used = {names.discover, names.fit, *names.anchors}
    unseen = [c for c in dict.fromkeys(scored["corpus"]) if names.tested.get(c, c) not in used]
    return (
        f" Never used for choosing: {', '.join(unseen)}."
        if unseen
        else " Other splits of all these corpora were used before."
    )


@_from("evaluation")
def _recalls(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    if not run.steering or not table["metric"].str.startswith("recall_gain_").any():
        return []
    counts = table[table["metric"].str.startswith("recall_gain_")]["n"]
    caption = (
        "Open circle: recall without steering; full: with it; bar: 95 % interval of the change, paired on the same"
        f" test examples (clustered where examples share a source), {_span(counts)} per emotion. A good steering moves"
        " weak emotions right and leaves the others where they are."
    )
    return [PageFigure("recalls", "Recall per emotion", steering.recall_changes(table, run.labels), caption)]


@_from("dose")
def _dose(run: RunFiles, dose: pd.DataFrame) -> list[PageFigure]:
    if not run.steering:
        return []
    caption = (
        "The chosen steering weaker and stronger: gains to the power of the strength, vectors times it. Bands: 95 %"
        f" intervals, {_span(dose[dose['corpus'] != 'plain text']['n'])} per corpus. Where the curves fall, it is"
        " too much."
    )
    return [PageFigure("dose", "Dose and response", steering.dose_response(dose), caption)]


@_from("dose")
def _price(run: RunFiles, dose: pd.DataFrame) -> list[PageFigure]:
    corpora = run.record["config"].get("corpora")
    if not corpora:
        return []
    names = corpus_names(corpora)
    handled = {c for c in dict.fromkeys(dose["corpus"]) if names.tested.get(c, c) in names.anchors}
    if not handled:
        return []
    methods = [m for m in dict.fromkeys(dose["method"]) if m in steering.METHOD_COLOURS]
    caption = (
        f"A gain is worth its price. Handled well already, so to be left alone: {', '.join(sorted(handled))}"
        " (anchor corpora among the test ones);"
        " the rise is a mean over the other test corpora, bars a mean of their 95 % intervals"
        f" ({_span(dose[dose['corpus'] != 'plain text']['n'])}). Each line runs from"
        " strength 0.25 to 4. Dotted: a price of one point. Higher at the same price is better."
    )
    return [PageFigure("price", "Gain against price", steering.price(dose, handled, methods), caption)]


@_from("learning")
def _learning(run: RunFiles, learning: pd.DataFrame) -> list[PageFigure]:
    if "labels" not in learning:  # runs of earlier versions counted examples in all
        return []
    draws = int(learning["draws"].max())
    caption = (
        f"Mean over n = {draws} draws of labelled examples, bands: 95 % intervals of the mean over draws and texts"
        f" ({_span(learning['n'])} per corpus). Nothing is chosen: each draw is coupled whatever it is worth."
        " Random features: as many readers and writers as the coupling has, fitted alike, adding no more. Answer prior:"
        " answers less their means over unlabelled texts; answer bias: a constant per answer fitted on the same"
        " labels; probe: a linear read-out of the residual, no steering. Coupled above bias at the same labels is the"
        " gain of reading."
    )
    return [PageFigure("learning", "How many labelled examples", steering.learning_curve(learning), caption)]


@_from("predictions")
def _confusions(run: RunFiles, predictions: pd.DataFrame) -> list[PageFigure]:
    found = []
    for i, (corpus, part) in enumerate(predictions.groupby("corpus", sort=False)):
        shown = part if run.steering else part[part["method"] == "unsteered"]
        n = int((part["method"] == "unsteered").sum())
        read = (
            "A good change moves share onto the diagonal without emptying another row's."
            if run.steering
            else "The model as it is: no steering was chosen. A full column is an answer given too often."
        )
        caption = (
            f"Rows: gold emotion; columns: the model's answer; cells: share of the row. n = {n:,} test examples of"
            f" {corpus}. {read}"
        )
        figure = confusions.confusion(shown, run.labels)
        most = 1040 if run.steering else 620
        found.append(PageFigure(f"confusion-{i}", str(corpus), figure, caption, group="corpora", most=most))
    return found


@_from("trees")
def _trees(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    if any(TOGETHER in label for label in run.labels):
        return []  # the names of branches cannot be told apart then
    layer = _best_layer(run, table)
    sure = f"{trees.SURE:.0%}"
    which = (
        "the last with an SAE" if run.table("signals") is None else "from whose features a probe reads emotions best"
    )
    caption = (
        "Emotions that come together early are near each other. First: how far the log-odds of two labels move between"
        " texts of the one and of the other, however often each is answered; 0: the answers do not tell them apart."
        f" Second: the angle between what sets two emotions' mean features apart, in layer {layer},"
        f" {which}. Average linkage. Full circles: branches that come back in"
        f" {sure} or more of the resamples of the texts. n = {int(table['n'].max()):,} discover examples. Finer"
        " emotions have the colour of the one of Ekman's six that they are a shade of."
    )
    return [PageFigure("trees", "Emotion trees", trees.emotion_trees(table, layer, run.labels), caption)]


def _best_layer(run: RunFiles, table: pd.DataFrame) -> int:
    """The layer whose features tell emotions best; the last one where that was not measured."""
    signals = run.table("signals")
    known = sorted(int(k) for k in table["layer"].dropna().unique())
    if signals is not None:
        probes = signals[(signals["signal"] == "probe_features") & signals["layer"].isin(known)]
        if len(probes):
            return int(probes.loc[probes["value"].idxmax(), "layer"])
    return known[-1] if known else 0


@_from("tree_agreement")
def _tree_agreement(run: RunFiles, table: pd.DataFrame) -> list[PageFigure]:
    if not (table["layer"].notna() & (table["beside"] == "answers")).any():
        return []
    own = table[(table["source"] == "answers") & (table["beside"] == "answers")]["correlation"]
    ceiling = (
        f" Dotted: the answers' tree with itself on the other half, {own.iloc[0]:.2f}: about as far as a layer could."
    )
    grouped = table[(table["beside"] == "grouping") & (table["source"] == "answers")]
    grouping = (
        f" Dashed: a layer's distances with the grouping of {int(grouped['emotions'].iloc[0])} of these emotions under"
        f" Ekman's six; the answers' distances correlate with it {grouped['correlation'].iloc[0]:.2f}"
        f" (p = {grouped['p'].iloc[0]:.2g})."
        if len(grouped)
        else ""
    )
    caption = (
        "Correlation of the trees' cophenetic distances: the answers' tree from one half of the texts, the layer's from"
        f" the other, mean of both ways round (n = {int(table['n'].max()):,}). Full: p < 0.05 by permuting the"
        f" emotions, not corrected for the number of layers.{ceiling if len(own) else ''}{grouping}"
    )
    return [PageFigure("tree-agreement", "Answers' tree and layers' trees", trees.tree_agreement(table), caption)]
