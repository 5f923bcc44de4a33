"""Whether a feature supports an emotion's answer where that emotion is, more than where it is not."""

from collections import defaultdict
from dataclasses import fields

import numpy as np
import pandas as pd
import torch
from scipy.stats import false_discovery_control

from interp.analysis.candidates import Candidate
from interp.analysis.selectivity import Q_LEVEL, rank_test
from interp.engine import FeatureEdits, ablate_everywhere, edited_logits
from interp.engine.capture import Captured
from interp.run.session import Session
from interp.saes.stack import SaeStack

Wanted = dict[int, dict[int, set[int]]]
"""Features to remove, by layer and gold emotion of the example."""


def with_specificity(
    session: Session, effects: pd.DataFrame, chosen: list[Candidate], pool: int, rows: np.ndarray
) -> pd.DataFrame:
    """`effects` with columns logit_effect, logit_effect_elsewhere, p and q; `causal` only where q < 0.05.

    A feature that pushes one answer word wherever it is active (a prior of the model) has an effect on that emotion's
    examples without telling them from others, and so have features of a model that knows nothing. So the effect on
    the emotion's answer is compared between its examples and all others, by a one-sided rank test over groups of
    examples (effects are skewed: Welch's t named a cause in one of nine worlds without any). It is taken in the logit
    minus the mean logit of the label set: log-probabilities saturate where the answer is certain. q is Benjamini-
    Hochberg over all pairs of an active feature and an emotion, those never traced counting with p = 1: attribution
    chose the traced ones with the help of the labels.

    Args:
        chosen: the features marked causal, in the order of `effects`.
        pool: number of pairs that candidates were chosen from.
    """
    out = effects.assign(logit_effect=np.nan, logit_effect_elsewhere=np.nan, p=np.nan, q=np.nan)
    if not chosen:
        return out
    measured = dict(iter(_logit_effects(session, chosen, rows).groupby(["layer", "feature"])))
    gold, groups = session.gold(rows), session.table["group"].iloc[rows].to_numpy()
    place = pd.Series(np.arange(len(rows)), index=rows)
    found = np.zeros((len(chosen), 3))
    for emotion in {c.emotion for c in chosen}:
        mine = [i for i, c in enumerate(chosen) if c.emotion == emotion]
        values = np.zeros((len(rows), len(mine)))
        for j, i in enumerate(mine):
            part = measured.get((chosen[i].layer, chosen[i].feature))
            if part is not None:
                values[place[part["row"]], j] = part[emotion]
        found[mine] = np.column_stack(_compared(values, gold == emotion, groups))
    untested = np.ones(max(pool - len(found), 0))
    q = false_discovery_control(np.append(found[:, 2], untested))[: len(found)]
    columns = ["logit_effect", "logit_effect_elsewhere", "p", "q"]
    out.loc[out["causal"], columns] = np.column_stack([found, q])
    out["causal"] = out["causal"] & (out["q"] < Q_LEVEL)
    return out


def _compared(values: np.ndarray, inside: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per column: mean inside, mean outside, and p that it is larger inside, one value per group and side."""
    means = pd.DataFrame(values).groupby([groups, ~inside]).mean()
    outside = means.index.get_level_values(1).to_numpy(dtype=int)
    _, p = rank_test(means.to_numpy(), outside, 2)
    elsewhere = values[~inside].mean(0) if not inside.all() else np.zeros(values.shape[1])
    return values[inside].mean(0), elsewhere, p[:, 0]


def _logit_effects(session: Session, chosen: list[Candidate], rows: np.ndarray) -> pd.DataFrame:
    """Drop of every answer's centred logit without each feature, on every example where it is active.

    Columns row, layer, feature, and one per emotion by its number.
    """
    labels = range(len(session.labels))
    wanted: Wanted = defaultdict(lambda: defaultdict(set))
    for c in chosen:
        for gold in labels:
            wanted[c.layer][gold].add(c.feature)
    gold_of = dict(zip(rows.tolist(), session.gold(rows).tolist(), strict=True))
    everywhere = list(wanted) if session.config.tracing.position == "all" else []
    parts = []
    few = restrict(session, wanted)
    for chunk, captured in session.cached(rows, "all emotions", everywhere):
        edits, logits = ablated(session, few, captured, wanted, torch.tensor([gold_of[r] for r in chunk]))
        drop = captured.answer_logits[edits.example] - logits
        part = pd.DataFrame((drop - drop.mean(1, keepdim=True)).cpu().numpy(), columns=list(labels))
        places = {"layer": edits.layer.cpu().numpy(), "feature": edits.feature.cpu().numpy()}
        parts.append(part.assign(row=chunk[edits.example.cpu().numpy()], **places))
    return pd.concat(parts, ignore_index=True)


def ablated(
    session: Session, saes: SaeStack, captured: Captured, wanted: Wanted, gold: torch.Tensor
) -> tuple[FeatureEdits, torch.Tensor]:
    """Answer logits without each wanted feature, where it is active; elsewhere it has no effect and costs nothing."""
    if session.config.tracing.position == "all":
        return _ablated_everywhere(session, saes, captured, wanted, gold)
    return _ablated_at_answer(session, saes, captured, wanted, gold)


def _ablated_at_answer(
    session: Session, saes: SaeStack, captured: Captured, wanted: Wanted, gold: torch.Tensor
) -> tuple[FeatureEdits, torch.Tensor]:
    """All layers' edits in one sweep."""
    parts = []
    for layer, by_emotion in wanted.items():
        features = torch.tensor(sorted(set().union(*by_emotion.values())), device=session.model.device)
        acts = saes.encode_features(layer, captured.residuals[layer], features)
        asked = _asked(by_emotion, len(session.labels), session.saes.d_sae(layer))[:, features.cpu()]
        example, column = ((acts > 0) & asked[gold].to(acts.device)).nonzero(as_tuple=True)
        parts.append(FeatureEdits(torch.full_like(example, layer), example, features[column], -acts[example, column]))
    edits = FeatureEdits(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(FeatureEdits)))
    return edits, edited_logits(session.model, saes, captured, edits)


def _ablated_everywhere(
    session: Session, saes: SaeStack, captured: Captured, wanted: Wanted, gold: torch.Tensor
) -> tuple[FeatureEdits, torch.Tensor]:
    """Each feature removed at every position where it fires; pairs in which it fires nowhere are left out."""
    parts, logits = [], []
    for layer, by_emotion in wanted.items():
        asked = _asked(by_emotion, len(session.labels), session.saes.d_sae(layer))
        example, feature = (x.to(session.model.device) for x in asked[gold].nonzero(as_tuple=True))
        found = ablate_everywhere(session.model, saes, captured, layer=layer, example=example, feature=feature)
        fired = (found != captured.answer_logits[example]).any(1)
        example, feature = example[fired], feature[fired]
        parts.append((torch.full_like(example, layer), example, feature))
        logits.append(found[fired])
    layers, examples, features = (torch.cat(x) for x in zip(*parts, strict=True))
    change = torch.full(layers.shape, torch.nan, device=layers.device)  # differs from position to position
    return FeatureEdits(layers, examples, features, change), torch.cat(logits)


def restrict(session: Session, wanted: Wanted) -> SaeStack:
    """The wanted features alone, so that no batch of examples loads every layer's SAE again."""
    return session.saes.restricted({k: sorted(set().union(*v.values())) for k, v in wanted.items()})


def _asked(by_emotion: dict[int, set[int]], n_labels: int, d_sae: int) -> torch.Tensor:
    """[emotion, feature]: whether the feature is traced for the emotion."""
    asked = torch.zeros(n_labels, d_sae, dtype=torch.bool)
    for emotion, features in by_emotion.items():
        asked[emotion, sorted(features)] = True
    return asked
