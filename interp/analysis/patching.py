"""Patching from text to text: pairs in one frame and of other emotions, and how far answers go over to the source."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.analysis.circuits import log_softmax
from interp.analysis.labelled import LabelledExamples

Array = np.ndarray


class TextPair(NamedTuple):
    """Places of two examples: what the target would answer with something of the source in its place.

    `control`: of one emotion, where a patch should move nothing towards another.
    """

    target: int
    source: int
    control: bool


def text_pairs(
    examples: LabelledExamples, n_tokens: Int[Array, " example"], per_direction: int, seed: int
) -> list[TextPair]:
    """Pairs of examples for every ordered pair of emotions, and as many controls within each emotion.

    All prompts stand in the same frame (template, chat template), so that positions from the end correspond. Within it
    a target gets the source of its own group, where a corpus has texts of one source with several emotions, else the
    one of nearest length that is not taken yet.

    Args:
        n_tokens: length of every prompt.
        per_direction: pairs for each two emotions; fewer where there are fewer texts.
    """
    rng, pairs = np.random.default_rng(seed), list[TextPair]()
    shared = {g for g, own in pd.Series(examples.gold).groupby(list(examples.groups)) if own.nunique() > 1}
    for to in range(len(examples.labels)):
        for of in range(len(examples.labels)):
            targets = rng.permutation(examples.members(to))
            free = list(rng.permutation(examples.members(of)))
            chosen: list[TextPair] = []
            for target in targets[: per_direction if to != of else max(1, per_direction)]:
                others = [s for s in free if s != target]
                if not others:
                    break
                own = [s for s in others if examples.groups[s] == examples.groups[target] in shared]
                near = own or others
                source = min(near, key=lambda s: abs(int(n_tokens[s]) - int(n_tokens[target])))
                free.remove(source)
                chosen.append(TextPair(int(target), int(source), to == of))
            pairs += chosen
    return pairs


def patching_effects(
    pairs: Sequence[TextPair],
    examples: LabelledExamples,
    clean: Float[Array, "example answer"],
    patched: Float[Array, "pair patch answer"],
    patches: Sequence[Mapping[str, object]],
) -> pd.DataFrame:
    """How far each patch takes the targets' answers over to their sources.

    Intervals resample the targets' groups. Of controls, the source's emotion is their own: what is measured is how far
    their answers move towards those of the source text itself.

    Args:
        clean: answer logits of all examples, of which sources and targets are some.
        patched: those of each pair's target under each patch.
        patches: columns that name each patch.

    Returns:
        Columns of `patches`, emotion (of the sources; `all`), control, n (pairs), effect (mean rise of the
        log-probability of the source's emotion, nats; of controls, of what the source text's own answer is), ci_low,
        ci_high; recovered (share of the way from the target's to the source's own logit of that answer, less that of
        the target's emotion or answer) with recovered_low, recovered_high; follows (share whose answer becomes the
        source's own answer, of those that answer otherwise).
    """
    target = np.array([p.target for p in pairs], int)
    source = np.array([p.source for p in pairs], int)
    control = np.array([p.control for p in pairs], bool)
    own, theirs = clean[target], clean[source]
    towards = np.where(control, theirs.argmax(1), examples.gold[source])
    away = np.where(control, own.argmax(1), examples.gold[target])
    at = np.arange(len(pairs))

    def difference(logits: Array) -> Array:
        return np.asarray(logits[at, towards] - logits[at, away])

    before, wanted = difference(own), difference(theirs)
    lines = []
    names: list[tuple[str, Array]] = [("all", np.ones(len(pairs), bool))]
    names += [(label, examples.gold[source] == e) for e, label in enumerate(examples.labels)]
    for k, patch in enumerate(patches):
        after = patched[:, k]
        rise = log_softmax(after)[at, towards] - log_softmax(own)[at, towards]
        for emotion, inside in names:
            for is_control in (False, True):
                some = np.flatnonzero(inside & (control == is_control))
                if is_control:
                    some = some[towards[some] != away[some]]
                if not len(some):
                    continue
                bootstrap = examples.bootstrap(target[some], f"patching {emotion} {is_control}")
                mean = bootstrap.mean(rise[some])
                share = bootstrap.ratio((difference(after) - before)[some], (wanted - before)[some])
                otherwise = some[own[some].argmax(1) != theirs[some].argmax(1)]
                follows = after[otherwise].argmax(1) == theirs[otherwise].argmax(1)
                lines.append(
                    {
                        **patch,
                        "emotion": emotion,
                        "control": is_control,
                        **mean.row("effect"),
                        "recovered": share.value,
                        "recovered_low": share.ci_low,
                        "recovered_high": share.ci_high,
                        "follows": float(follows.mean()) if len(follows) else np.nan,
                    }
                )
    return pd.DataFrame(lines)
