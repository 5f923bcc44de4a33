"""Known corpora, one module each: an example record, the licence, and how the released files are read."""

from interp.corpus_readers import (
    aipsy,
    crowd_envent,
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
from interp.corpus_readers.base import Corpus

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
}
BUNDLED_TEXTS = {name: corpus.bundled for name, corpus in CORPORA.items() if corpus.bundled}
"""Corpora that ship with the package."""
