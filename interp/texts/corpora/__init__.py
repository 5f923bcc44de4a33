"""Known corpora, one module each: an example record, the licence, and how the released files are read."""

from dataclasses import dataclass

from interp.texts.corpora import (
    aipsy,
    crowd_envent,
    emobank,
    emoevent,
    empathetic,
    express,
    goemotions,
    isear,
    meld,
    tweeteval,
    vignettes,
    xed,
)
from interp.texts.corpora.base import Corpus

CORPORA: dict[str, Corpus] = {
    "vignettes": vignettes.CORPUS,
    "goemotions": goemotions.CORPUS,
    "crowd-envent": crowd_envent.CORPUS,
    "isear": isear.CORPUS,
    "meld": meld.CORPUS,
    "tweeteval": tweeteval.CORPUS,
    "empatheticdialogues": empathetic.CORPUS,
    "aipsy-affect": aipsy.CORPUS,
    "express": express.CORPUS,
    "express-small": express.SMALL,
    "aipsy-affect-words": aipsy.WITH_WORDS,
    "xed": xed.CORPUS,
    "emoevent": emoevent.CORPUS,
    "emobank": emobank.CORPUS,
}
BUNDLED_TEXTS = {name: corpus.bundled for name, corpus in CORPORA.items() if corpus.bundled}
"""Corpora that ship with the package."""


@dataclass(frozen=True)
class Known:
    """One known corpus, as `interp corpora` lists it.

    Attributes:
        ratings: what its texts are rated for.
        splits: those it always has; others where the files that are given have them.
        source: bundled, the hub's repository, or what `path` is given.
        path: what `path` is given, also where the hub has it.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    splits: tuple[str, ...]
    rows: str
    licence: str
    source: str
    path: str
    ratings: tuple[str, ...] = ()


def known_corpora() -> list[Known]:
    """Every known corpus, in the order of the registry."""
    found = []
    for name, corpus in CORPORA.items():
        hub = f"hub: {corpus.hub.repository}" if corpus.hub else f"path: {corpus.files}"
        source = "bundled" if corpus.bundled else hub
        splits = (*corpus.shares, "all")
        facts = (corpus.labels, splits, corpus.rows, corpus.licence, source, corpus.files)
        found.append(Known(name, corpus.description, *facts, tuple(scale.name for scale in corpus.scales)))
    return found
