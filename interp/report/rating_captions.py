"""The figures of ratings with captions that say what they show, n, and how to read them."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from interp.analysis.positions import correspondence
from interp.analysis.ratings import SHUFFLES
from interp.report import ratings
from interp.report.contents import PageFigure
from interp.run.reading import RunFiles


def _by_corpus(*tables: pd.DataFrame) -> list[tuple[str, list[pd.DataFrame]]]:
    """Corpora of the first table with their rows of all."""
    return [(str(c), [t[t["corpus"] == c] for t in tables]) for c in dict.fromkeys(tables[0]["corpus"])]


def _layers(summary: pd.DataFrame, probes: pd.DataFrame) -> list[PageFigure]:
    drawn = []
    for i, (corpus, (own, read)) in enumerate(_by_corpus(summary, probes)):
        n, known = int(own["n"].iloc[0]), int(own["known"].astype(bool).sum())
        held = "texts of one group (a document, a writer) are held out together"
        caption = (
            "How much of people's ratings a ridge probe reads from the residual stream at the answer position, on"
            f" texts it has not seen (n = {n:,} texts of {corpus}; {held}); bands, or bars at its best layer: 95 %"
            f" intervals. Grey: the same probes on {SHUFFLES} times shuffled ratings. {known} of {len(own)} ratings"
            " are read beyond chance (q < 0.05, corrected for the choice of the best layer); the"
            f" {min(len(own), ratings.MOST_CURVES)} best are drawn."
        )
        drawn.append(
            PageFigure(f"rating-layers-{i}", corpus, ratings.curves(read, own), caption, group="rating-layers")
        )
        caption = (
            f"Is it more than the obvious? Each rating (n = {n:,} texts of {corpus}) from the layer that reads it"
            " best; from sparse features; from the same residuals once each emotion's mean is taken off the ratings;"
            " and without the model from the text's emotion, its length, its words (learnt on the same texts as the"
            " model's probes) and a lexicon (words learnt on all other texts of the corpus). Bars: 95 % intervals. What"
            " words read as well as the model needs no model."
        )
        drawn.append(
            PageFigure(f"rating-beside-{i}", corpus, ratings.beside(read, own), caption, group="rating-beside")
        )
    return drawn


def _signs(pairs: pd.DataFrame, agreement: pd.DataFrame, labels: Sequence[str]) -> list[PageFigure]:
    drawn = []
    for i, (corpus, (own, known)) in enumerate(_by_corpus(agreement, pairs)):
        words = "; ".join(
            f"{r.method}: {r.agreement:.0%} [{r.ci_low:.0%}, {r.ci_high:.0%}] of {r.n_pairs:,} pairs, p = {r.p:.2g}"
            for r in own.itertuples()
        )
        caption = (
            "Does turning a rating up in the model do to its answers what it means to people? Across: the correlation"
            " of a rating with an emotion over people's texts; up: how the emotion's answer moves when the rating is"
            f" turned up by a standard deviation, exactly (n = {int(own['n'].iloc[0]):,} texts of {corpus}). Hollow:"
            " people's sign is in doubt, the pair does not count; nor do ratings that no layer reads. p: share of"
            f" permutations of the emotions that agree as much. {words}."
        )
        figure = ratings.sign_agreement(known, own, labels)
        drawn.append(PageFigure(f"rating-signs-{i}", corpus, figure, caption, group="rating-signs"))
    return drawn


def _doses(summary: pd.DataFrame, doses: pd.DataFrame, labels: Sequence[str]) -> list[PageFigure]:
    drawn = []
    for i, (corpus, (own, dosed)) in enumerate(_by_corpus(summary, doses)):
        figure = ratings.doses(dosed, own, labels)
        caption = (
            "A rating set in the residual at the answer position, and what becomes of the answers: mean change of"
            f" each answer's log-probability (n = {int(own['n'].iloc[0]):,} texts of {corpus}), bands: 95 % intervals."
            " Features: those that go with the rating set to the dose times their typical activation, those that go"
            " against it to none, below zero the other way round. Direction: the coordinate set to that of a text"
            " whose rating lies so many standard deviations from the mean; within emotions: the direction found"
            " between texts of one emotion. At 0 it is taken out. The ratings that are read best."
        )
        if figure is not None:
            drawn.append(PageFigure(f"rating-doses-{i}", corpus, figure, caption, group="rating-doses"))
    return drawn


def _plane(
    summary: pd.DataFrame, norms: pd.DataFrame, positions: pd.DataFrame, labels: Sequence[str]
) -> list[PageFigure]:
    drawn = []
    for i, (corpus, (own, people, placed)) in enumerate(_by_corpus(summary, norms, positions)):
        figure = ratings.circumplex(people, placed, own, labels)
        if figure is None:
            continue
        by_word = len(people) and people["told_by"].iloc[0] == "word"
        told = "name the emotion and no other" if by_word else "have the emotion"
        counts = people[people["rating"] == own["rating"].iloc[0]]
        n = ", ".join(f"{r.emotion} {r.n}" for r in counts.itertuples())
        caption = (
            f"{_alike(people, placed, own)}People: mean ratings of texts of {corpus} that {told}, less those of the"
            f" other emotions (n = {n}). The model: what the probe reads from the difference between the mean"
            f" residuals of an emotion's discover texts and of the others' (n = {int(own['n'].iloc[0]):,} rated texts"
            " behind the probe). Features: what each causal feature adds where it is active. Bars: 95 % intervals,"
            " the probe's own uncertainty included. A ridge shrinks: compare places, not sizes."
        )
        drawn.append(PageFigure(f"circumplex-{i}", corpus, figure, caption, group="circumplex"))
    return drawn


def _alike(people: pd.DataFrame, placed: pd.DataFrame, summary: pd.DataFrame) -> str:
    """Whether the model's places are people's, by rating."""
    layer = ratings.plane_layer(summary)
    ours = placed[(placed["layer"] == layer) & placed["feature"].isna()]
    found = ours.merge(people, on=["rating", "emotion"])
    said = []
    for rating in ratings.PLANE:
        own = found[found["rating"] == rating]
        alike = correspondence(own["value"].to_numpy(dtype=float), own["difference"].to_numpy(dtype=float))
        if not np.isnan(alike.correlation):
            said.append(f"{rating} r = {alike.correlation:.2f} (p = {alike.p:.2g})")
    if not said:
        return ""
    return f"Over {found['emotion'].nunique()} emotions the two correlate in {' and '.join(said)}, by permutation. "


def _made(
    names: str, make: Callable[..., list[PageFigure]], *, labels: bool = True
) -> Callable[[RunFiles], list[PageFigure]]:
    """A maker of figures from tables; it makes none where one of them is not there."""

    def made(run: RunFiles) -> list[PageFigure]:
        found = [run.table(name) for name in names.split()]
        if any(table is None for table in found):
            return []
        return make(*found, run.labels) if labels else make(*found)

    return made


rating_makers = (
    _made("ratings rating_probes", _layers, labels=False),
    _made("rating_effects rating_agreement", _signs),
    _made("ratings rating_doses", _doses),
    _made("ratings rating_norms rating_positions", _plane),
)
