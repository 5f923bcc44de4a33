"""What the model does under each steering of a run, besides recognising emotions."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np

from interp.evaluation.ability import Cloze, ClozeTest
from interp.evaluation.side_effects import Behaviour, label_mass
from interp.files.units import Units
from interp.run.session import Session
from interp.run.steerings import DIGITS, lowest_layer
from interp.steering.steering import Steering
from interp.texts.examples import load_corpus

VALIDITY_PROMPTS = 200
"""Test prompts on which the whole vocabulary is looked at, at most."""

Array = np.ndarray


def behaviours(
    session: Session,
    steerings: Mapping[str, Steering],
    items: list[Cloze],
    validity_rows: Array,
    keyword_free_rows: Array,
    units: Units,
) -> dict[str, Behaviour]:
    """By method, `unsteered` first.

    Args:
        items: of the ability test.
        validity_rows: the first `VALIDITY_PROMPTS` of them are looked at.
    """
    edits: dict[str, Any] = {"unsteered": {}} | {name: s.edits(session.saes) for name, s in steerings.items()}
    under = partial(session.logits_under, edits=edits, units=units)
    neutral = [e.text for e in load_corpus("vignettes", split="all", labels=["neutral"])]
    neutral_logits = under(neutral, description="neutral texts")
    mass = label_mass(session.model, [int(ids[0]) for ids in session.answers.tokens])
    valid = under(validity_rows[:VALIDITY_PROMPTS], description="valid answers", read=mass)
    keyword_free = under(keyword_free_rows, description="keyword-free")
    asked = tuple(items)

    def right(method: str) -> Array:
        cloze = session.made(_cloze_test, asked)
        if method == "unsteered":
            return cloze.right()
        apply = partial(steerings[method].applied, session.model, session.saes, positions="all")
        return cloze.right(apply, lowest=lowest_layer(session, steerings[method]))

    def kept(method: str) -> Array:
        """Of steerings that do the same the same."""
        digest = None if method == "unsteered" else steerings[method].digest
        own = units.anywhere("cloze", [session.content, digest])
        return own.array(f"cloze {'unsteered' if digest is None else digest[:DIGITS]}", partial(right, method))

    return {
        method: Behaviour(
            cloze=answered,
            valid=valid[method][:, 0],
            neutral=neutral_logits[method].argmax(1),
            keyword_free=keyword_free[method].argmax(1),
        )
        for method, answered in zip(edits, session.each(kept, list(edits), "effects", "method"), strict=True)
    }


def _cloze_test(session: Session, items: tuple[Cloze, ...]) -> ClozeTest:
    return ClozeTest(session.model, items, session.saes.layers)
