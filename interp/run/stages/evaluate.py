"""Stage `evaluate`: the chosen steering scored once on the test corpora, beside other methods, prompts and probes."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from interp.analysis.signals import probe_right
from interp.engine.capture import capture
from interp.engine.prefixes import last_residuals
from interp.errors import InterpWarning
from interp.evaluation.recognition import calibration_scores, paired_gains, recognition_scores
from interp.files.units import Units
from interp.run import tables
from interp.run.session import Session
from interp.run.stage import stage
from interp.run.stages.steer import FOLDER, language_quality, steering_quality
from interp.run.stages.tuning import tuned
from interp.statistics import Estimate, resample_weights
from interp.steering.steering import Steering
from interp.texts.examples import Example
from interp.texts.prompts import build_prompts, choose_shots

SHOTS = (1, 3)
"""Solved examples per label in the few-shot prompts."""
SHOT_FRAME = 16
"""Tokens that a template adds to each solved example, about."""
FRAME_SHARE = 0.8
"""How much of the context solved examples may take; the rest is for the text."""
BIAS_PENALTY = 0.01
PROMPTS = ("unsteered", *(f"few_shot_{n}" for n in SHOTS))

Array = np.ndarray


@stage(
    "evaluate",
    reads=("examples.parquet", "activations", "steering.safetensors", "steering.json", "steerings"),
    writes=("evaluation.parquet", "predictions.parquet", "units/evaluate"),
    fields=("steering.low_rank", "fluency", "resamples", "seed"),
    # asked twice more, behind solved examples; and under nine methods at seven strengths
    cost=lambda work: work.test * (2 * work.speeds.per_prompt + 9 * 7 * work.speeds.per_row),
)
def run(session: Session) -> None:
    """Writes `evaluation.parquet` and `predictions.parquet`."""
    units = session.units("evaluate")
    steerings = load_steerings(session)
    rows = session.role("test")
    edits: dict[str, Any] = {"unsteered": {}} | {name: s.edits(session.saes) for name, s in steerings.items()}
    logits = session.logits_under(rows, edits, "evaluate", units=units) | _others(session, rows, units)
    lines: list[dict[str, Any]] = []
    if _can_be_tuned(session):
        logits["low_rank_tuning"], price = _tuned(session, rows, units)
        lines += [_line(session, "plain text", "all", "low_rank_tuning", k, e) for k, e in price.items()]
    table = session.table.iloc[rows]
    for (corpus, split), part in table.groupby(["corpus", "split"], sort=False):
        at = np.flatnonzero((table["corpus"] == corpus) & (table["split"] == split))
        weights = resample_weights(part["group"].tolist(), session.config.resamples, session.seed(f"test {corpus}"))
        here = {method: values[at] for method, values in logits.items()}
        found = _scores(session, session.gold(rows[at]), here, weights)
        lines += [
            _line(session, str(corpus), str(split), method, k, e)
            for method, own in found.items()
            for k, e in own.items()
        ]
    for method, steering in session.progress(list(steerings.items()), "plain text", "method"):
        quality = steering_quality(session, steering, units, f"language {method}")
        lines += [_line(session, "plain text", "all", method, k, e) for k, e in quality.items()]
    tables.write(session.folder / "predictions.parquet", _predictions(session, table, logits))
    tables.write(session.folder / "evaluation.parquet", pd.DataFrame(lines))
    units.clear()


def load_steerings(session: Session) -> dict[str, Steering]:
    """`steered`, the choice, then the best setting of each method and the rivals."""
    folders = sorted(Path(session.folder / FOLDER).iterdir())
    return {"steered": Steering.load(session.folder.path)} | {f.name: Steering.load(f) for f in folders}


def _scores(session: Session, gold: Array, logits: dict[str, Array], weights: Array) -> dict[str, dict[str, Estimate]]:
    """By method; gains are paired with the unsteered model, and with the prompt that answers best."""
    answers = {method: values.argmax(1) for method, values in logits.items()}
    best_prompt = max((p for p in PROMPTS if p in answers), key=lambda p: (answers[p] == gold).mean())
    found = {}
    for method, guesses in answers.items():
        own = recognition_scores(gold, guesses, session.labels, weights)
        own |= calibration_scores(gold, _probabilities(logits[method]), weights)
        if method != "unsteered":
            own |= paired_gains(gold, answers["unsteered"], guesses, session.labels, weights)
            own |= _recall_gains(session, gold, answers["unsteered"], guesses, weights)
            against = paired_gains(gold, answers[best_prompt], guesses, session.labels, weights)
            own |= {f"{k}_over_best_prompt": e for k, e in against.items()}
        found[method] = own
    return found


def _recall_gains(session: Session, gold: Array, before: Array, after: Array, weights: Array) -> dict[str, Estimate]:
    """recall_gain_<label>: paired change of each emotion's recall."""
    gains = {}
    for i, label in enumerate(session.labels):
        mine = gold == i
        if mine.any():
            change = (after == i).astype(float) - (before == i)
            total = weights[:, mine].sum(1)
            draws = (weights[:, mine] @ change[mine])[total > 0] / total[total > 0]
            low, high = np.quantile(draws, (0.025, 0.975)) if len(draws) else (np.nan, np.nan)
            gains[f"recall_gain_{label}"] = Estimate(float(change[mine].mean()), low, high, int(mine.sum()))
    return gains


def _line(session: Session, corpus: str, split: str, method: str, metric: str, e: Estimate) -> dict[str, Any]:
    values = {"value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.n}
    return {"corpus": corpus, "split": split, "method": method, "metric": metric, **values, "seed": session.config.seed}


def _predictions(session: Session, table: pd.DataFrame, logits: dict[str, Array]) -> pd.DataFrame:
    names = np.asarray(session.labels, dtype=object)
    shared = {"id": table["id"], "corpus": table["corpus"], "gold": table["gold"]}
    parts = [
        pd.DataFrame({**shared, "method": method, "predicted": names[values.argmax(1)]})
        for method, values in logits.items()
    ]
    return pd.concat(parts, ignore_index=True)[["id", "corpus", "method", "gold", "predicted"]]


def _others(session: Session, rows: Array, units: Units) -> dict[str, Array]:
    """What needs no steering: other prompts, a shift of the answers, a probe."""
    found = {"answer_prior": _with_prior(session, rows), "answer_bias": _with_bias(session, rows)}
    for n in SHOTS:
        shots = _shots_that_fit(session, n)
        if shots is not None:
            name = f"few_shot_{n}"
            found[name] = units.arrays(name, partial(_few_shot, session, rows, shots))["logits"]
    return found | {"probe": units.arrays("probe", partial(_probe, session, rows))["logits"]}


def _can_be_tuned(session: Session) -> bool:
    """Whether low-rank fine-tuning was asked for and is possible."""
    config = session.config
    if not config.steering.low_rank:
        return False
    if session.answers.whole or config.quantization is not None:
        reason = "labels are scored as whole words" if session.answers.whole else "the model is quantized"
        warnings.warn(f"No low-rank tuning: {reason}.", InterpWarning, stacklevel=2)
        return False
    return True


def _tuned(session: Session, rows: Array, units: Units) -> tuple[Array, dict[str, Estimate]]:
    """Answers of the fine-tuned model, and what the tuning costs in language."""

    def make() -> dict[str, Array]:
        tuning = tuned(session, session.config.steering.low_rank)
        try:
            prompts = session.prompts([session.examples[r][1].text for r in rows])
            with tuning.applied():
                found = capture(session.model, prompts, answers=session.labels).answer_logits
            cost = language_quality(session, tuning.applied)
        finally:
            tuning.remove()
        return {"logits": found.float().cpu().numpy()} | {k: np.array(e, dtype=float) for k, e in cost.items()}

    found = units.arrays("low rank tuning", make)
    cost = {}
    for name in ("perplexity_ratio", "kl"):
        value, low, high, n = found[name].tolist()
        cost[name] = Estimate(value, low, high, int(n))
    return found["logits"], cost


def _log_probabilities(session: Session, rows: Array) -> Array:
    return session.table[[f"logp_{label}" for label in session.labels]].to_numpy()[rows]


def _with_prior(session: Session, rows: Array) -> Array:
    """Log-probabilities less their means over the (unlabelled) fit texts: contextual calibration, no steering."""
    return _log_probabilities(session, rows) - _log_probabilities(session, session.role("fit")).mean(0)


def _with_bias(session: Session, rows: Array) -> Array:
    """A constant per answer, fitted on the labelled fit examples by gradient, with a light pull towards none."""
    fit = session.role("fit")
    log_probs, gold = torch.tensor(_log_probabilities(session, fit)), torch.tensor(session.gold(fit))
    bias = torch.zeros(len(session.labels), dtype=log_probs.dtype, requires_grad=True)
    optimiser = torch.optim.LBFGS([bias], max_iter=100, line_search_fn="strong_wolfe")

    def loss() -> float:
        optimiser.zero_grad()
        value = torch.nn.functional.cross_entropy(log_probs + bias, gold) + BIAS_PENALTY * bias.square().mean()
        value.backward()
        return value.item()

    with torch.enable_grad():
        optimiser.step(loss)
    return _log_probabilities(session, rows) + bias.detach().numpy()


def _few_shot(session: Session, rows: Array, shots: list[Example]) -> dict[str, Array]:
    """Answers with solved fit examples before each prompt. All prompts begin with them, and pass them once."""
    model, template = session.model, session.config.prompt.template
    texts = [session.examples[r][1].text for r in rows]
    prompts = build_prompts(texts, session.labels, template=template, shots=shots)
    if session.answers.whole:
        return {"logits": capture(model, prompts, answers=session.labels).answer_logits.float().cpu().numpy()}
    out = np.zeros((len(rows), len(session.labels)))
    sequences = [e.ids for e in model.encode(prompts)]
    with torch.no_grad():
        for at, residuals in last_residuals(model, sequences):
            out[at] = model.unembed(residuals, session.answers.first).float().cpu().numpy()
    return {"logits": out}


def _shots_that_fit(session: Session, n_shots: int) -> list[Example] | None:
    """Solved examples, drawn among the texts short enough for all of them to take about two thirds of the context."""
    room = session.model.context * 2 // 3 // (n_shots * len(session.labels)) - SHOT_FRAME
    fit = [e for role, e in session.examples if role == "fit"]
    lengths = session.model.tokenizer([e.text for e in fit], add_special_tokens=False)["input_ids"]
    short = [e for e, ids in zip(fit, lengths, strict=True) if len(ids) <= room]
    present = [label for label in session.labels if any(e.gold == label for e in fit)]
    if any(sum(e.gold == label for e in short) < n_shots for label in present):
        return None
    shots = choose_shots(short, present, n_shots, session.seed("few shot"))
    (frame,) = build_prompts([""], session.labels, template=session.config.prompt.template, shots=shots)
    taken = len(session.model.ids(frame))
    return shots if taken <= session.model.context * FRAME_SHARE else None


def _probe(session: Session, rows: Array) -> dict[str, Array]:
    """Logistic regression on the residuals of the layer where it does best, trained on the fit examples: a ceiling."""
    fit = session.role("fit")
    gold = session.gold(fit)
    if len(np.unique(gold)) < 2 or np.bincount(gold)[np.unique(gold)].min() < 5:
        return {"logits": _log_probabilities(session, rows)}
    right = [
        probe_right(session.residuals(k)[fit].float().numpy(), gold, session.seed("probe")).mean()
        for k in session.progress(session.saes.layers, "probe", "layer")
    ]
    layer = session.saes.layers[int(np.argmax(right))]
    residuals = session.residuals(layer).float().numpy()
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)).fit(residuals[fit], gold)
    out = np.full((len(rows), len(session.labels)), -30.0)
    out[:, probe.classes_] = probe.predict_log_proba(residuals[rows])
    return {"logits": out}


def _probabilities(logits: Array) -> Array:
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return shifted / shifted.sum(1, keepdims=True)
