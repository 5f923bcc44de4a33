"""Which figures a report shows, in which order, with captions that say what they show, n, and how to read them."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from interp.corpus_names import corpus_names
from interp.report import causes, features, layers, steering
from interp.report.figures import in_script
from interp.report.run_files import RunFiles


@dataclass(frozen=True)
class Figure:
    """A plotly figure with its place on the page.

    Attributes:
        group: figures of one group share a switch that shows one of them or all; their `title` is its label.
        cards: whether a point's `customdata` begins with layer and feature, so that a click opens the feature's card.
    """

    name: str
    title: str
    figure: go.Figure
    caption: str
    group: str | None = None
    cards: bool = False

    @property
    def height(self) -> int:
        return int(self.figure.layout.height or 420)

    @property
    def narrow(self) -> bool:
        """Whether no panels stand side by side, so that it fits a telephone."""
        axes = self.figure.select_xaxes()
        return all(axis.domain is None or axis.domain[0] < 0.1 for axis in axes)

    @property
    def json(self) -> str:
        """What plotly draws."""
        return in_script(str(self.figure.to_json()))


@dataclass(frozen=True)
class Section:
    """A heading, its figures, and the names of the tables under them."""

    title: str
    slug: str
    figures: list[Figure]
    tables: tuple[str, ...] = ()


def sections(run: RunFiles) -> list[Section]:
    """In order; a section holds what the run has."""

    def drawn(*makers: Callable[[RunFiles], list[Figure]]) -> list[Figure]:
        return [f for make in makers for f in make(run)]

    return [
        Section("Where: signals over layers", "where", drawn(_layer_phases)),
        Section("Where emotions live", "live", drawn(_emotion_map)),
        Section("Which features: causal effects", "which", drawn(_ladder), ("effects",)),
        Section("How concentrated", "concentration", drawn(_concentration, _joint)),
        Section("Sufficient, and whose place they take", "together", drawn(_together), ("why",)),
        Section("Shared, specific, lexical", "sets", drawn(_upset)),
        Section("Beside it: directions and modules", "baselines", drawn(_baselines)),
        Section("What steering changes", "steering", drawn(_gains, _recalls), ("methods",)),
        Section("Confusions", "confusions", drawn(_confusions)),
        Section("Dose, price and data", "dose", drawn(_dose, _price, _learning)),
        Section("What it costs", "cost", [], ("language", "side_effects")),
        Section("Examples and signals", "examples", [], ("examples", "signals")),
    ]


def _span(n: pd.Series) -> str:
    low, high = int(n.min()), int(n.max())
    return f"n = {low}" if low == high else f"n = {low} to {high}"


def _found(effects: pd.DataFrame) -> pd.DataFrame:
    return effects[effects["split"] == "discover"]


def _layer_phases(run: RunFiles) -> list[Figure]:
    signals, phases = run.table("signals"), run.json("phases")
    if signals is None:
        return []
    boundaries = ""
    if phases and phases["boundaries"]:
        spans = zip(phases["boundaries"], phases["intervals"], strict=True)
        boundaries = " Boundaries: " + ", ".join(f"layer {b} [{low}, {high}]" for b, (low, high) in spans) + "."
    shared = (
        f"Each point is one layer's value over n = {int(signals['n'].max())} discover examples; bands are 95 %"
        " bootstrap intervals. Shading: phases, change points of the emotion signals"
        f" together.{boundaries}"
    )
    parts = (
        (
            "representational",
            layers.REPRESENTATIONAL,
            "What a layer's residual holds. Read a probe against its shuffled labels and its control task: only what is"
            " above both is knowledge of emotions.",
        ),
        (
            "causal",
            layers.CAUSAL,
            "What the answer takes from a layer. A high probe above with a low ablation effect here is information"
            " that is there and not used.",
        ),
    )
    drawn = [(kind, layers.layer_phases(signals, phases, panels), own) for kind, panels, own in parts]
    return [
        Figure(f"layers-{kind}", kind, figure, f"{own} {shared}", group="layers")
        for kind, figure, own in drawn
        if figure is not None
    ]


def _emotion_map(run: RunFiles) -> list[Figure]:
    selectivity, effects = run.table("selectivity"), run.table("effects")
    if selectivity is None and effects is None:
        return []
    n = "" if effects is None else f" {_span(_found(effects)['n'])} discover examples per emotion."
    caption = (
        "Rows: emotions; columns: layers. Left: features selective for the emotion (one-vs-rest, q < 0.05); right: the"
        f" summed effect of its causal features.{n} A row that is dark on the left and pale on the right is known there"
        " and decided elsewhere."
    )
    figure = layers.emotion_map(selectivity, effects, run.record["saes"]["layers"], run.labels)
    return [Figure("map", "Layer by emotion", figure, caption)]


def _ladder(run: RunFiles) -> list[Figure]:
    effects = run.table("effects")
    if effects is None:
        return []
    caption = (
        "Each circle is one feature: how much the gold emotion's log-probability falls when that feature alone is"
        " removed at the answer position, mean over the emotion's discover examples"
        f" ({_span(_found(effects)['n'])}), with its 95 % interval; the {causes.SHOWN} largest of each emotion."
        " Filled: causal, that is, interval above zero, above the 99th percentile of the controls of its phase, and a"
        " larger effect where the emotion is than where it is not (q < 0.05). Grey band: 98 % of the random features"
        " matched in strength and firing rate. A steep start is a concentrated cause, a long shelf a diffuse one. Click"
        " a circle for the feature's card."
    )
    return [Figure("ladder", "Causal ladder", causes.ladder(effects, run.labels), caption, cards=True)]


def _concentration(run: RunFiles) -> list[Figure]:
    table = run.table("concentration")
    if table is None or not table["n_causal"].any():
        return []
    caption = (
        "Left: share of an emotion's summed causal effect that its strongest 1, 5 and 10 features hold."
        " Right: effective number of features, (sum of effects)² / sum of squares:"
        " 1 if one feature does it all, the number of causal features if all do the same."
        f" {_span(table['n'])} examples per emotion."
    )
    return [Figure("concentration", "How concentrated", causes.concentration(table, run.labels), caption)]


def _joint(run: RunFiles) -> list[Figure]:
    table = run.table("joint")
    if table is None:
        return []
    caption = (
        "Fall of the gold emotion's log-probability when its k strongest causal features are removed together, over all"
        " layers; dotted: as many controls. Bars: 95 % intervals over the emotion's discover examples"
        f" ({_span(table['n'])}). A curve that keeps rising belongs to an emotion"
        " whose cause is spread; one that is flat after k = 2 to an emotion that hangs on two features."
    )
    return [Figure("joint", "Removed together", causes.joint_removal(table, run.labels), caption)]


def _together(run: RunFiles) -> list[Figure]:
    moved, inserted = run.table("overshadowing"), run.table("insertion")
    if moved is None or inserted is None:
        return []
    control = inserted[inserted["control"].astype(bool)]["follows"].mean()
    caption = (
        "Left: an emotion's causal features are removed from its own texts; cells: mean change of each answer's"
        " probability. A gain off the diagonal names the emotion that had been held down. Right: the features are set,"
        " in texts of other emotions and in neutral ones, to what they typically are in their own texts; cells: share"
        " of texts answered otherwise before that now get the emotion as answer. Controls put in the same way:"
        f" {control:.1%} on average. {_span(inserted['n'])} texts per cell."
    )
    return [Figure("together", "Removed and put in", causes.together(moved, inserted, run.labels), caption)]


def _upset(run: RunFiles) -> list[Figure]:
    selectivity = run.table("selectivity")
    if selectivity is None or not (selectivity["kind"] != "none").any():
        return []
    sets = features.feature_sets(selectivity)
    caption = (
        f"The n = {len(sets)} features of all layers that are selective for any emotion, by the set of emotions they"
        " are selective for (coloured dots): one dot is a specific feature, several a shared one."
        f" The {features.MOST} commonest sets. Red: loses at least one of its emotions in texts without an emotion"
        " word, so that it reads the word rather than the situation; grey: the run holds no such texts to test it on."
    )
    return [Figure("sets", "Sets of emotions", features.upset(sets, run.labels), caption)]


def _baselines(run: RunFiles) -> list[Figure]:
    table = run.table("baselines")
    if table is None:
        return []
    caption = (
        "The ablations that the field uses, on the fit examples: an emotion's direction (from the discover examples)"
        " taken out of the centred residual at the answer position, or a layer's attention or MLP output there replaced"
        f" by zero or by its mean. Mean over emotions, {_span(table['n'])} each;"
        " intervals by emotion are in baselines.parquet. Where a direction does what the features do, the features add"
        " a name to it, not a cause."
    )
    return [Figure("baselines", "Directions and modules", causes.baselines(table), caption)]


def _steers(run: RunFiles) -> bool:
    chosen = run.json("steering")
    return chosen is not None and chosen["method"] != "none"


def _gains(run: RunFiles) -> list[Figure]:
    table = run.table("evaluation")
    if table is None or not (table["metric"] == "macro_f1_gain").any():
        return []
    found = table[table["metric"] == "macro_f1_gain"]
    caption = (
        "Change of macro-F1 against the unsteered model on the same test examples, with paired 95 % intervals"
        f" ({_span(found['n'])} per corpus). Diamond: the steering that was chosen on the fit split; the others stand"
        " beside it and were chosen by nobody. An interval that holds zero is no gain."
        f"{_unseen(run, found)}"
    )
    return [Figure("gains", "All methods", steering.gains(table), caption)]


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


def _recalls(run: RunFiles) -> list[Figure]:
    table = run.table("evaluation")
    if table is None or not _steers(run) or not table["metric"].str.startswith("recall_gain_").any():
        return []
    counts = table[table["metric"].str.startswith("recall_gain_")]["n"]
    caption = (
        "Open circle: recall without steering; full: with it; bar: 95 % interval of the change, paired on the same"
        f" test examples (clustered where examples share a source), {_span(counts)} per emotion. A good steering moves"
        " weak emotions right and leaves the others where they are."
    )
    return [Figure("recalls", "Recall per emotion", steering.recall_changes(table, run.labels), caption)]


def _dose(run: RunFiles) -> list[Figure]:
    dose = run.table("dose")
    if dose is None or not _steers(run):
        return []
    caption = (
        "The chosen steering weaker and stronger: gains to the power of the strength, vectors times it. Bands: 95 %"
        f" intervals, {_span(dose[dose['corpus'] != 'plain text']['n'])} per corpus. Where the curves fall, it is"
        " too much."
    )
    return [Figure("dose", "Dose and response", steering.dose_response(dose), caption)]


def _price(run: RunFiles) -> list[Figure]:
    dose = run.table("dose")
    corpora = run.record["config"].get("corpora")
    if dose is None or not corpora:
        return []
    names = corpus_names(corpora)
    handled = {c for c in dict.fromkeys(dose["corpus"]) if names.tested.get(c, c) in names.anchors}
    if not handled:
        return []
    methods = [m for m in dict.fromkeys(dose["method"]) if m in steering.METHOD_COLOURS]
    caption = (
        f"A gain is worth its price. Handled: {', '.join(sorted(handled))} (anchor corpora among the test ones);"
        " the rise is a mean over the other test corpora, bars a mean of their 95 % intervals"
        f" ({_span(dose[dose['corpus'] != 'plain text']['n'])}). Each line runs from"
        " strength 0.25 to 4. Dotted: a price of one point. Higher at the same price is better."
    )
    return [Figure("price", "Gain against price", steering.price(dose, handled, methods), caption)]


def _learning(run: RunFiles) -> list[Figure]:
    learning = run.table("learning")
    if learning is None:
        return []
    draws = int(learning["draws"].iloc[0])
    caption = (
        f"Mean over n = {draws} draws of labelled examples, bands: 95 % of the draws; settings fixed beforehand,"
        " nothing chosen. Where a band leaves zero for good, so many examples are enough."
    )
    return [Figure("learning", "How many labelled examples", steering.learning_curve(learning), caption)]


def _confusions(run: RunFiles) -> list[Figure]:
    predictions = run.table("predictions")
    if predictions is None:
        return []
    found = []
    for i, (corpus, part) in enumerate(predictions.groupby("corpus", sort=False)):
        shown = part if _steers(run) else part[part["method"] == "unsteered"]
        n = int((part["method"] == "unsteered").sum())
        read = (
            "A good change moves share onto the diagonal without emptying another row's."
            if _steers(run)
            else "The model as it is: no steering was chosen. A full column is an answer given too often."
        )
        caption = (
            f"Rows: gold emotion; columns: the model's answer; cells: share of the row. n = {n} test examples of"
            f" {corpus}. {read}"
        )
        figure = causes.confusion(shown, run.labels)
        found.append(Figure(f"confusion-{i}", str(corpus), figure, caption, group="corpora"))
    return found
