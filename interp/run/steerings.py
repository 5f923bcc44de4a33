"""The steerings of a run: what they are fitted on, how they are kept and loaded, and what they cost in language."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from interp.analysis import effect_rows
from interp.defaults import RESAMPLES
from interp.evaluation.side_effects import label_mass
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.saes.loading import saes_record
from interp.statistics import Bootstrap, Estimate
from interp.steering.coupled import SAMPLE, Few, RunningText, deep_layers
from interp.steering.fit import FitData
from interp.steering.rivals import RivalGround
from interp.steering.steering import FACTS, TENSORS, Provenance, SteeredFeature, Steering
from interp.steering.trials import Ground, strongest_features

FEWEST_TEXTS = 12
"""Fit texts without which nothing can be standardised, and nothing is coupled."""
VALIDITY_TEXTS = 60
"""Texts of each corpus on which it is seen how probable any label is."""
DIGITS = 16
"""Of a steering's digest, in the name of a unit."""
FOLDER = "steerings"
"""Where the best setting of every method and every rival are kept, a folder each."""


def fit_data(session: Session) -> FitData:
    """Captures with keys and values of the labelled fit examples and of the anchor texts."""
    parts, order = [], []
    for chunk, captured in session.cached(session.labelled_rows, "fit captures"):
        parts.append((captured, torch.from_numpy(session.gold(chunk))))
        order += session.table["group"].iloc[chunk].tolist()
    anchors = {
        name: [captured for _, captured in session.cached_texts([e.text for e in examples], f"anchors {name}")]
        for name, examples in session.anchors.items()
    }
    return FitData(session.model, session.saes, session.labels, parts, order, anchors)


def causal_features(session: Session) -> list[SteeredFeature]:
    """The strongest causal features of every emotion in turn, from `steering.first_layer` on."""
    config = session.config.steering
    if not session.has_saes:
        return []
    causal = effect_rows.causal_features(tables.read(session.folder / "effects.parquet"))
    return strongest_features(causal[causal["layer"] >= (config.first_layer or 0)], config.features)


def few(session: Session) -> Few | None:
    """All fit texts as a coupling needs them; None where there are too few to standardise anything."""
    rows, model, saes, config = session.role("fit"), session.model, session.saes, session.config.steering
    if len(rows) < FEWEST_TEXTS:
        return None
    (chosen, sample), *_ = session.cached(rows[:SAMPLE], "sample of texts")
    first = config.first_layer or 0
    layers = [k for k in deep_layers(model, saes) if k >= first] or saes.layers[-1:]
    return Few(
        model,
        saes,
        session.labels,
        session.table[[f"logp_{label}" for label in session.labels]].to_numpy()[rows],
        residuals=lambda layer: session.residuals(layer)[rows].float().to(model.device),
        sample=[sample],
        places=np.searchsorted(rows, chosen),
        plain=RunningText(model, layers),
        layers=layers,
        n_readers=config.readers,
    )


def ground(session: Session) -> Ground:
    """What methods are made from."""
    labelled = session.labelled_rows
    order = labelled[np.concatenate(session.chunks(session.texts(labelled)))]  # that of the captures
    places = np.searchsorted(session.role("fit"), order)
    return Ground(fit_data(session), causal_features(session), few(session), places)


def rival_ground(session: Session, made_from: Ground) -> RivalGround:
    """What the rivals are made from: directions are means of discover examples, or of as few labels as there are."""
    rows = session.role("discover") if session.config.steering.labels is None else session.labelled_rows
    effects = tables.read(session.folder / "effects.parquet") if session.has_saes else tables.empty("effects.parquet")
    controls = effects[effects["control"]].drop_duplicates(["layer", "feature"])
    return RivalGround(
        made_from,
        residuals=lambda layer: session.residuals(layer)[rows],
        gold=session.gold(rows),
        controls={int(layer): part["feature"].to_numpy() for layer, part in controls.groupby("layer")},
        seed=session.seed,
    )


def provenance(session: Session) -> Provenance:
    """What a steering of this run was made with."""
    return {
        "model": {"name": session.config.model, "identity": session.model.identity},
        "saes": saes_record(session.saes, asdict(session.config.saes)),
        "labels": session.labels,
    }


def remembered(units: Units, name: str, make: Callable[[], Steering]) -> Steering:
    """A steering that is kept as a unit."""
    folder = units.path(f"steering {name}")
    units.files(folder, [TENSORS, FACTS], lambda: make().save(folder))
    return Steering.load(folder)


def fitted_on(session: Session) -> list[object]:
    """All that the steerings of a run are fitted on: not which of them are tried, nor by what rule one is chosen."""
    config, made = session.config.steering, session.folder.outputs("trace")
    settings = [config.labels, config.readers, config.features, config.first_layer, session.config.resamples]
    return [session.content, settings, made.get("effects.parquet")]


def load_steerings(session: Session) -> dict[str, Steering]:
    """`steered`, the choice, then the best setting of each method and the rivals."""
    folders = sorted(Path(session.folder / FOLDER).iterdir())
    return {"steered": Steering.load(session.folder.path)} | {f.name: Steering.load(f) for f in folders}


def steered_by(session: Session, steerings: Mapping[str, Steering]) -> list[object]:
    """All that answers under some steerings depend on."""
    settings = [session.config.steering.labels, session.config.resamples]
    return [session.content, settings, {name: steering.digest for name, steering in steerings.items()}]


def lowest_layer(session: Session, steering: Steering) -> int:
    """The lowest layer that is steered; the number of layers where none is."""
    return min(steering.layers, default=session.model.n_layers)


def steering_quality(session: Session, steering: Steering, units: Units, *, short: bool = False) -> dict[str, Estimate]:
    """perplexity_ratio and kl on plain text, steering on at every position.

    Args:
        units: where it is kept; steerings that do the same have it in common.
        short: on the text's first tokens alone.
    """
    apply = partial(steering.applied, session.model, session.saes, positions="all")
    lowest = lowest_layer(session, steering)
    kind = "language short" if short else "language"
    own = units.anywhere(kind, [session.content, steering.digest])
    name = f"{kind} {steering.digest[:DIGITS]}"
    kept = own.values(name, lambda: language_quality(session, apply, lowest=lowest, short=short))
    return {metric: Estimate(*numbers) for metric, numbers in kept.items()}


def answered_ratio(session: Session, steering: Steering, units: Units) -> float:
    """Which share remains of the probability that a label is answered at all, mean over some fit texts and anchors.

    Args:
        units: where it is kept.
    """
    own = units.anywhere("answered", [session.content, steering.digest])
    return float(own.values(f"answered {steering.digest[:DIGITS]}", lambda: _answered_ratio(session, steering)))


def _answered_ratio(session: Session, steering: Steering) -> float:
    texts = session.texts(session.role("fit")[:VALIDITY_TEXTS])
    texts += [e.text for examples in session.anchors.values() for e in examples[:VALIDITY_TEXTS]]
    mass = label_mass(session.model, session.answers.first.tolist())
    edits: dict[str, Any] = {"before": {}, "after": steering.edits(session.saes)}
    found = session.logits_under(texts, edits, "valid answers", read=mass)
    return float(found["after"].mean() / found["before"].mean())


def language_quality(
    session: Session, apply: Callable[[], Any], *, lowest: int | None = None, short: bool = False
) -> dict[str, Estimate]:
    """perplexity_ratio and kl on plain text of what `apply()` does to the model.

    Args:
        lowest: the lowest layer that it changes, if known.
    """
    text = session.short_text if short else session.plain_text
    score = text.under(apply, Bootstrap(range(text.n_documents), RESAMPLES, session.seed("fluency")), lowest=lowest)
    return {"perplexity_ratio": score.perplexity_ratio, "kl": score.kl}
