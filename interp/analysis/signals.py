"""What each layer knows and does: one number per layer and signal, with an interval.

Every signal is a mean over examples, so that one set of bootstrap resamples serves all layers and signals, and
phases can be found anew in every resample. Only the count of selective features is not; its interval is a jackknife.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.sparse import csr_array
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler, StandardScaler
from torch import Tensor

from interp.analysis.features import LayerFeatures
from interp.analysis.labelled import LabelledExamples
from interp.analysis.selectivity import MIN_ACTIVE, count_selective
from interp.engine import answers_under_each, removal
from interp.engine.capture import Captured
from interp.models.language_model import LanguageModel
from interp.saes.stack import SaeStack
from interp.statistics import Estimate, from_draws

Array = np.ndarray
FORMAT_SHARE = 0.95
"""A feature active in at least this share of prompts belongs to the prompt's format, not to the text."""
PARTNERS = 20
FOLDS = 5
REPRESENTATIONAL = ("probe_features", "probe_residuals", "selective_features")
CAUSAL = ("direct_evidence", "joint_ablation")


@dataclass(frozen=True)
class Signal:
    """A signal of one layer: its estimate, and its value in every bootstrap resample."""

    name: str
    estimate: Estimate
    draws: Float[Array, " resample"]


@torch.no_grad()
def causal_signals(
    model: LanguageModel,
    saes: SaeStack,
    captured: Captured,
    gold: Int[Tensor, " example"],
    features: Mapping[int, Sequence[int]],
) -> dict[str, Float[Tensor, "example layer"]]:
    """Of every layer with features (NaN elsewhere), each example's direct evidence and joint effect (`CAUSAL`).

    Direct evidence: the gold emotion's answer log-probability when the layer's residual is read out as if it were the
    last. Joint effect: its fall when the layer's features are removed together.

    Args:
        captured: with keys and values.
        features: by layer.
    """
    target = gold.to(model.device)[:, None]

    def of_gold(logits: Float[Tensor, "example answer"]) -> Float[Tensor, " example"]:
        return logits.log_softmax(-1).gather(1, target)[:, 0]

    edits = {layer: removal(model, saes, {layer: of_layer}) for layer, of_layer in features.items()}
    read, lost = torch.full((2, len(gold), model.n_layers), torch.nan, dtype=torch.float64)
    clean = of_gold(captured.answer_logits)
    for layer, edited in answers_under_each(model, captured, edits).items():
        read[:, layer] = of_gold(captured.read_out(model, layer)).cpu()
        lost[:, layer] = (clean - of_gold(edited)).cpu()
    return dict(zip(CAUSAL, (read, lost), strict=True))


@torch.no_grad()
def direct_evidence(
    model: LanguageModel, captured: Captured, gold: Int[Tensor, " example"]
) -> Float[Tensor, "example layer"]:
    """The gold emotion's answer log-probability when each layer's residual is read out as if it were the last."""
    target = gold.to(model.device)[:, None]
    read = [captured.read_out(model, k).log_softmax(-1).gather(1, target)[:, 0] for k in range(model.n_layers)]
    return torch.stack(read, 1).double().cpu()


class Probed(NamedTuple):
    """The examples on which probes are trained and tested: their places, and their classes in a control task."""

    places: Int[Array, " probed"]
    control: Int[Array, " probed"]


def layer_signals(
    features: LayerFeatures | None,
    residuals: Float[Array, "example d_model"],
    following: Float[Array, "example d_model"] | None,
    causal: Mapping[str, Float[Array, " example"]],
    probed: Probed,
    examples: LabelledExamples,
    weights: Float[Array, "resample example"],
    seed: int,
) -> list[Signal]:
    """All signals of a layer.

    Args:
        features: None where the layer has no SAE: signals that need some are left out.
        following: residuals of the next layer, where there is one.
        causal: what removing features of the layer does, and the like, by name (`CAUSAL`), for every example.
        weights: bootstrap weights, the same for all layers.
        seed: of the layer's random draws.
    """
    places, gold = probed.places, examples.gold
    of_probed = weights[:, places]
    of_places = None if features is None else features.rows(places)
    signals = [] if features is None else structural_signals(features, weights, seed)
    signals += probe_signals(of_places, residuals[places], gold[places], probed.control, of_probed, seed)
    if following is not None:
        agreement = neighbour_agreement(residuals[places], following[places])
        signals.append(_of_means("neighbour_agreement", agreement, of_probed))
    if features is not None:
        signals.append(selective_signal(features.acts, gold, len(examples.labels), examples.resamples, seed))
    return signals + [_of_means(name, values, weights) for name, values in causal.items()]


def structural_signals(features: LayerFeatures, weights: Float[Array, "resample example"], seed: int) -> list[Signal]:
    """L0, FVU, share of format features among the active ones, and overlap of active sets between texts."""
    active = csr_array(
        (np.ones_like(features.acts.data), features.acts.indices, features.acts.indptr), features.acts.shape
    )
    l0 = np.asarray(active.sum(1)).ravel()
    common = np.asarray(active.mean(0)).ravel() >= FORMAT_SHARE
    format_count = np.asarray(active[:, np.flatnonzero(common)].sum(1)).ravel()
    share = np.divide(format_count, l0, out=np.zeros_like(l0), where=l0 > 0)
    overlap = content_overlap(active[:, np.flatnonzero(~common)], seed)
    fvu_draws = (weights @ features.error) / (weights @ features.spread)
    return [
        _of_means("l0", l0, weights),
        Signal("fvu", from_draws(features.error.sum() / features.spread.sum(), fvu_draws, len(l0)), fvu_draws),
        _of_means("format_share", share, weights),
        _of_means("content_overlap", overlap, weights),
    ]


def content_overlap(active: csr_array, seed: int) -> Float[Array, " example"]:
    """Mean Jaccard overlap of each example's active set with those of `PARTNERS` random other examples."""
    n = active.shape[0]
    if n < 2:
        return np.zeros(n)
    rng = np.random.default_rng(seed)
    size = np.asarray(active.sum(1)).ravel()
    total = np.zeros(n)
    for _ in range(PARTNERS):
        partner = (np.arange(n) + rng.integers(1, n, n)) % n
        both = np.asarray(active.multiply(active[partner]).sum(1)).ravel()
        either = size + size[partner] - both
        total += np.divide(both, either, out=np.zeros(n), where=either > 0)
    return total / PARTNERS


def neighbour_agreement(
    residuals: Float[Array, "example d_model"], following: Float[Array, "example d_model"]
) -> Float[Array, " example"]:
    """Whether a layer and the next one find the same texts alike (representational similarity, Kriegeskorte 2008).

    Per example, the correlation over all other examples of its cosine similarities in the two layers, both centred.
    """

    def similarities(x: Array) -> Array:
        x = x - x.mean(0)
        x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        others = ~np.eye(len(x), dtype=bool)
        rows = (x @ x.T)[others].reshape(len(x), len(x) - 1)
        return np.asarray(rows - rows.mean(1, keepdims=True))

    if len(residuals) < 3:
        return np.zeros(len(residuals))
    a, b = similarities(residuals), similarities(following)
    norms = np.sqrt(np.square(a).sum(1) * np.square(b).sum(1))
    return np.asarray(np.divide((a * b).sum(1), norms, out=np.zeros(len(a)), where=norms > 0))


def control_labels(texts: Sequence[str], n_labels: int, seed: int) -> Int[Array, " example"]:
    """A random class for every first word, the same wherever it recurs: a control task (Hewitt & Liang 2019).

    It can be solved by reading that word, never by reading an emotion.
    """
    rng = np.random.default_rng(seed)
    classes: dict[str, int] = {}
    words = [(text.split() or [""])[0].lower() for text in texts]
    return np.array([classes.setdefault(word, int(rng.integers(n_labels))) for word in words])


def probe_signals(
    features: LayerFeatures | None,
    residuals: Float[Array, "example d_model"],
    gold: Int[Array, " example"],
    control: Int[Array, " example"],
    weights: Float[Array, "resample example"],
    seed: int,
) -> list[Signal]:
    """Cross-validated accuracy of logistic regression on features and on residuals.

    On residuals (alone, where there are no features) also for shuffled labels and the control task. Empty where an
    emotion has fewer examples than folds.
    """
    if np.bincount(gold)[np.unique(gold)].min() < FOLDS or len(np.unique(gold)) < 2:
        return []
    shuffled = np.random.default_rng(seed).permutation(gold)
    found = []
    if features is not None:
        often = np.flatnonzero(np.diff(features.acts.tocsc().indptr) >= MIN_ACTIVE)
        on_features = probe_right(features.acts[:, often], gold, seed) if len(often) else np.zeros(len(gold))
        found = [_of_means("probe_features", on_features, weights)]
    return [
        *found,
        _of_means("probe_residuals", probe_right(residuals, gold, seed), weights),
        _of_means("probe_shuffled", probe_right(residuals, shuffled, seed), weights),
        _of_means("probe_control", probe_right(residuals, control, seed), weights),
    ]


def probe_right(x: csr_array | Array, y: Int[Array, " example"], seed: int) -> Float[Array, " example"]:
    """1 where a logistic regression trained on the other folds names the label."""
    right = np.zeros(len(y))
    rare = np.bincount(y)[y] < FOLDS  # classes too small for every fold are left out, and count as wrong
    if len(np.unique(y[~rare])) < 2:
        return right
    kept = np.flatnonzero(~rare)
    right[kept] = _cross_validated(x[kept], y[kept], seed)
    return right


def _cross_validated(x: csr_array | Array, y: Int[Array, " example"], seed: int) -> Float[Array, " example"]:
    right = np.zeros(len(y))
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(np.zeros(len(y)), y):
        scaler = MaxAbsScaler() if isinstance(x, csr_array) else StandardScaler()
        probe = make_pipeline(scaler, LogisticRegression(C=0.1 if isinstance(x, np.ndarray) else 1.0, max_iter=300))
        right[test] = probe.fit(x[train], y[train]).predict(x[test]) == y[test]
    return right


def selective_signal(
    acts: csr_array, gold: Int[Array, " example"], n_labels: int, resamples: int, seed: int, folds: int = 10
) -> Signal:
    """Number of features selective for some emotion, with a delete-a-tenth jackknife interval."""
    dense = acts[:, np.flatnonzero(np.diff(acts.tocsc().indptr) >= MIN_ACTIVE)].toarray()
    value = float(count_selective(dense, gold, n_labels))
    part = np.random.default_rng(seed).permutation(len(gold)) % folds
    left_out = np.array([count_selective(dense[part != f], gold[part != f], n_labels) for f in range(folds)], float)
    error = np.sqrt((folds - 1) / folds * np.square(left_out - left_out.mean()).sum())
    draws = np.maximum(value + error * np.random.default_rng(seed).standard_normal(resamples), 0.0)
    return Signal("selective_features", from_draws(value, draws, len(gold)), draws)


def _of_means(name: str, values: Float[Array, " example"], weights: Float[Array, "resample example"]) -> Signal:
    draws = weights @ values.astype(np.float32) / weights.sum(1)
    return Signal(name, from_draws(np.mean(values), draws, len(values)), draws)


def stratified_sample(gold: Int[Array, " example"], most: int, seed: int) -> Int[Array, " chosen"]:
    """Places of at most so many examples, in order, of every emotion the same share."""
    if len(gold) <= most:
        return np.arange(len(gold))
    order = np.random.default_rng(seed).permutation(len(gold))
    rank = np.empty(len(gold))
    for emotion in np.unique(gold):
        members = order[gold[order] == emotion]
        rank[members] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(np.argsort(rank, kind="stable")[:most])
