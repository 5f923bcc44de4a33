"""The certificate of a steering: its claim, with figures and hashes, and measuring it again."""

import hashlib
import json
import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from interp.errors import DamagedError, UserError
from interp.evaluation.recognition import macro_f1_of
from interp.files.folder import RunFolder
from interp.files.stored import contents, differing, files_below, read_json, read_record
from interp.run import tables
from interp.run.config import config_of
from interp.run.reading import PLAIN
from interp.run.session import Session
from interp.run.steerings import FOLDER, language_quality, lowest_layer
from interp.steering.steering import Steering

NAME = "certificate.json"
FILES = (
    *("examples.parquet", "steering.safetensors", "steering.json", FOLDER, "trials.parquet"),
    *("evaluation.parquet", "predictions.parquet", "side_effects.parquet", "parts.parquet"),
)
RANDOM = ("random_features", "random_directions")
"""The control with and without SAEs."""
METHODS = ("unsteered", "steered", *RANDOM)
TOLERANCE = 1e-4
"""Relative difference at which a figure counts as another one: the order of a batch's sums may differ."""


class Figure(NamedTuple):
    """A figure of a certificate, and what it is when it is measured again."""

    name: str
    certified: float
    measured: float

    @property
    def same(self) -> bool:
        return math.isclose(self.certified, self.measured, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def certificate(session: Session) -> dict[str, Any]:
    """What a run claims of the steering it chose; of none, that it chose none, and why."""
    folder, labels = session.folder, session.labelled_rows
    facts, scores = read_json(folder / "steering.json"), tables.read(folder / "evaluation.parquet")
    answers, effects = tables.read(folder / "predictions.parquet"), tables.read(folder / "side_effects.parquet")
    answers = answers[answers["gold"].isin(session.labels)]  # texts with several emotions are scored otherwise
    steering = Steering.load(folder.path)
    own = scores[(scores["method"] == "steered") & (scores["corpus"] != PLAIN)]
    gains = {str(r.corpus): _estimate(r) for r in own[own["metric"] == "macro_f1_gain"].itertuples()}
    random = scores[scores["method"].isin(RANDOM) & (scores["metric"] == "macro_f1_gain")]
    found: dict[str, Any] = {
        "claim": _claim(facts, gains),
        "steering": {
            "method": facts["method"],
            "setting": facts["setting"],
            "positions": steering.positions,
            "layers": steering.layers,
            "features_read": sum(len(c.readers) for c in steering.couplings.values()),
            "features_added": sum(len(c.writers) for c in steering.couplings.values()),
            "features_multiplied": sum(len(g.features) for g in steering.gains.values()),
        },
        "labels_used": {"examples": session.table["id"].iloc[labels].tolist(), "unlabelled": facts["n_unlabelled"]},
        "effect": gains,
        "made_worse": _moved(answers, was_right=True),
        "made_better": _moved(answers, was_right=False),
        "price": {
            str(r.metric): _estimate(r)
            for r in pd.concat([scores[scores["corpus"] == PLAIN], effects]).itertuples()
            if r.method == "steered"
            and r.metric in ("perplexity_ratio", "kl", "answer_valid_gain", "cloze_accuracy_gain")
        },
        "control": {str(r.corpus): _estimate(r) for r in random.itertuples()},
        "figures": _recorded_figures(answers, scores, session.labels),
        "model": {"name": session.config.model, "identity": session.model_identity},
        "saes": {"name": session.config.saes.name, "identity": session.saes.identity},
        "files": {name: list(kept) for name, kept in contents(folder.path, files_below(folder.path, FILES)).items()},
    }
    return found | {"seal": _seal(found)}


def certify(folder: Path) -> list[Figure]:
    """Checks every hash of a certificate, then measures its figures again, from the texts and the model.

    Args:
        folder: a run folder; its model, SAEs and corpora must be where they were.

    Raises:
        UserError: no certificate.
        DamagedError: a file or the certificate itself is not as it was certified.
    """
    read_record(folder)
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{folder} holds no {NAME}; `interp run` on it writes one once steering has been evaluated.")
    told = read_json(path)
    if not isinstance(told, dict) or told.get("seal") != _seal({k: v for k, v in told.items() if k != "seal"}):
        raise DamagedError(path, "its seal does not fit what it says", "interp run on the folder writes it again.")
    for name in differing(folder, told["files"]):
        raise DamagedError(folder / name, f"not what {NAME} was made of", "interp run on the folder makes it again.")
    session = Session(config_of(folder), RunFolder(folder))
    for kind, known, given in (
        ("model", told["model"]["identity"], session.model_identity),
        ("SAEs", told["saes"]["identity"], session.saes.identity),
    ):
        if known != given:
            raise UserError(f"The certificate is of {kind} {known}; here they are {given}: nothing can be certified.")
    try:
        measured = _measured_figures(session, told["figures"])
    finally:
        session.close()
    return [Figure(name, value, measured[name]) for name, value in told["figures"].items()]


def _recorded_figures(answers: pd.DataFrame, scores: pd.DataFrame, labels: list[str]) -> dict[str, float]:
    """By name, what `certify` measures again."""
    number = {label: i for i, label in enumerate(labels)}
    found = {}
    for (corpus, method), part in answers[answers["method"].isin(METHODS)].groupby(["corpus", "method"], sort=False):
        gold, predicted = (part[c].map(number).to_numpy(dtype=int) for c in ("gold", "predicted"))
        found[f"macro_f1 {corpus} {method}"] = macro_f1_of(gold, predicted, len(labels))
    ratio = scores[(scores["method"] == "steered") & (scores["metric"] == "perplexity_ratio")]
    return found | {f"perplexity_ratio {r.method}": float(r.value) for r in ratio.itertuples()}


def _measured_figures(session: Session, names: Mapping[str, float]) -> dict[str, float]:
    steered, rows = Steering.load(session.folder.path), session.role("test")
    edits: dict[str, Any] = {"unsteered": {}, "steered": steered.edits(session.saes)}
    for name in RANDOM:
        if (session.folder / FOLDER / name).is_dir():
            edits[name] = Steering.load(session.folder / FOLDER / name).edits(session.saes)
    logits = session.logits_under(rows, edits, "certify")
    corpora, gold = session.table["corpus"].iloc[rows].to_numpy(), session.gold(rows)
    found = {
        f"macro_f1 {corpus} {method}": macro_f1_of(
            gold[corpora == corpus], values[corpora == corpus].argmax(1), len(session.labels)
        )
        for corpus in dict.fromkeys(corpora)
        for method, values in logits.items()
    }
    if "perplexity_ratio steered" in names:
        apply = partial(steered.applied, session.model, session.saes, positions="all")
        quality = language_quality(session, apply, lowest=lowest_layer(session, steered))
        found["perplexity_ratio steered"] = quality["perplexity_ratio"].value
    return {name: found.get(name, math.nan) for name in names}


def _claim(facts: Mapping[str, Any], gains: Mapping[str, list[float]]) -> str:
    if facts["method"] == "none":
        return f"No steering was chosen. {facts['reason']}"
    changes = ", ".join(
        f"{100 * v:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] on {c}" for c, (v, low, high, _) in gains.items()
    )
    return f"{facts['method']} ({facts['setting']}), fitted on {facts['n_fit']} labels: macro-F1 in points {changes}."


def _moved(answers: pd.DataFrame, *, was_right: bool) -> dict[str, float]:
    """By corpus, the share of texts that steering turned wrong, or turned right."""
    wide = answers[answers["method"].isin(METHODS[:2])].pivot(
        index=["corpus", "id"], columns="method", values="predicted"
    )
    if "steered" not in wide:
        return {}
    gold = answers.drop_duplicates(["corpus", "id"]).set_index(["corpus", "id"])["gold"].reindex(wide.index)
    before, after = wide["unsteered"] == gold, wide["steered"] == gold
    moved = (before & ~after) if was_right else (~before & after)
    return {str(corpus): float(share) for corpus, share in moved.groupby("corpus", sort=False).mean().items()}


def _estimate(row: Any) -> list[float]:
    return [float(row.value), float(row.ci_low), float(row.ci_high), int(row.n)]


def _seal(found: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()
