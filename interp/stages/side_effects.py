"""Stage `side_effects`: every steering from mild to strong: what it gains where, and what else it changes."""

from typing import Any

import numpy as np
import pandas as pd
import torch

from interp.corpora import load_corpus
from interp.evaluation.ability import cloze_right, load_cloze
from interp.evaluation.recognition import paired_gains
from interp.evaluation.statistics import Estimate, mean_estimate, resample_weights
from interp.folder import write_table
from interp.model import LanguageModel
from interp.session import Session
from interp.stages.evaluate import load_steerings
from interp.stages.steer import steering_quality
from interp.steering.steering import Steering
from interp.tracing import answers_under

STRENGTHS = (0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 4.0)
VALIDITY_PROMPTS = 200
"""Test prompts on which the whole vocabulary is looked at, at most."""

Array = np.ndarray


def run(session: Session) -> None:
    """Writes `dose.parquet` (corpus, method, strength) and `side_effects.parquet` (method, metric)."""
    steerings = load_steerings(session)
    rows = session.role("test")
    guesses = _at_strengths(session, rows, steerings)
    lines = []
    table = session.table.iloc[rows]
    for corpus, part in table.groupby("corpus", sort=False):
        at = np.flatnonzero(table["corpus"] == corpus)
        gold, plain = session.gold(rows[at]), guesses["unsteered", 0.0][at]
        weights = resample_weights(part["group"].tolist(), session.config.resamples, session.seed(f"dose {corpus}"))
        for (method, strength), own in guesses.items():
            if method != "unsteered":
                gain = paired_gains(gold, plain, own[at], session.labels, weights)["macro_f1_gain"]
                changed = float((own[at] != plain).mean())
                lines.append(
                    {"corpus": corpus, "method": method, "strength": strength, "changed": changed} | _values(gain)
                )
    chosen = steerings["steered"]
    for strength in session.progress(STRENGTHS if chosen.layers else (), "language", "strength"):
        quality = steering_quality(session, chosen.scaled(strength))
        lines += [
            {"corpus": "plain text", "method": name, "strength": strength} | _values(estimate)
            for name, estimate in quality.items()
        ]
    columns = ["corpus", "method", "strength", "value", "ci_low", "ci_high", "n", "changed"]
    write_table(session.folder / "dose.parquet", pd.DataFrame(lines, columns=columns))
    write_table(session.folder / "side_effects.parquet", _side_effects(session, rows, steerings))


def _values(e: Estimate) -> dict[str, Any]:
    return {"value": e.value, "ci_low": e.low, "ci_high": e.high, "n": e.n}


def _at_strengths(session: Session, rows: Array, steerings: dict[str, Steering]) -> dict[tuple[str, float], Array]:
    """Predicted label of every test example by method and strength."""
    place = {row: i for i, row in enumerate(rows)}
    edits = {
        (name, strength): steering.scaled(strength).edits(session.saes)
        for name, steering in steerings.items()
        for strength in (STRENGTHS if steering.layers else ())
    }
    out = {key: np.zeros(len(rows), int) for key in [("unsteered", 0.0), *edits]}
    for chunk, captured in session.cached(rows, "strengths"):
        at = [place[r] for r in chunk]
        out["unsteered", 0.0][at] = captured.answer_logits.argmax(-1).cpu().numpy()
        for key, own in edits.items():
            out[key][at] = answers_under(session.model, captured, own).argmax(-1).cpu().numpy()
    return out


def _side_effects(session: Session, rows: Array, steerings: dict[str, Steering]) -> pd.DataFrame:
    """Per method: neutral texts, keyword-free texts, validity of answers, general ability."""
    neutral = load_corpus("vignettes", split="all", labels=["neutral"])
    neutral_answers = _answers_of(session, [e.text for e in neutral], steerings)
    lines = []
    unsteered = Steering("none")
    items = load_cloze()
    kinds = np.array([i.kind for i in items])
    before = {"cloze": cloze_right(session.model, items), "valid": _valid(session, rows, unsteered)}
    free_rows = _keyword_free(session, rows)
    free = _answers_of(session, [session.examples[r][1].text for r in free_rows], steerings) if len(free_rows) else {}
    for name, steering in session.progress(list(({"unsteered": unsteered} | steerings).items()), "effects", "method"):
        with steering.applied(session.model, session.saes, positions="all"):
            right = cloze_right(session.model, items)
        found = {"cloze_accuracy": right.astype(float)}
        found |= {f"cloze_accuracy_{k}": right[kinds == k].astype(float) for k in np.unique(kinds)}
        found["answer_valid"] = _valid(session, rows, steering)
        if name != "unsteered":
            found["cloze_accuracy_gain"] = right.astype(float) - before["cloze"]
            found["answer_valid_gain"] = found["answer_valid"] - before["valid"]
            found["neutral_changed"] = (neutral_answers[name] != neutral_answers["unsteered"]).astype(float)
        if len(free_rows):
            gold = session.gold(free_rows)
            found["keyword_free_accuracy"] = (free[name] == gold).astype(float)
            change = found["keyword_free_accuracy"] - (free["unsteered"] == gold)
            found |= {} if name == "unsteered" else {"keyword_free_accuracy_gain": change}
        for metric, values in found.items():
            weights = resample_weights(range(len(values)), session.config.resamples, session.seed(f"effect {metric}"))
            lines.append({"method": name, "metric": metric} | _values(mean_estimate(values, weights)))
    return pd.DataFrame(lines)


def _answers_of(session: Session, texts: list[str], steerings: dict[str, Steering]) -> dict[str, Array]:
    edits = {name: steering.edits(session.saes) for name, steering in steerings.items()}
    out = {name: np.zeros(len(texts), int) for name in ("unsteered", *edits)}
    for chunk, captured in session.cached_texts(texts, "side effects"):
        out["unsteered"][chunk] = captured.answer_logits.argmax(-1).cpu().numpy()
        for name, own in edits.items():
            out[name][chunk] = answers_under(session.model, captured, own).argmax(-1).cpu().numpy()
    return out


def _keyword_free(session: Session, rows: Array) -> Array:
    return rows[session.table["keyword_free"].iloc[rows].fillna(False).to_numpy(dtype=bool)]


@torch.no_grad()
def _valid(session: Session, rows: Array, steering: Steering) -> Array:
    """Probability of the answers' first tokens among the whole vocabulary, by prompt."""
    texts = [session.examples[r][1].text for r in rows[:VALIDITY_PROMPTS]]
    model: LanguageModel = session.model
    first = sorted({int(ids[0]) for ids in session.answers.tokens})
    encoded = model.encode(session.prompts(texts))
    mass = []
    with steering.applied(model, session.saes):
        for start in range(0, len(encoded), 16):
            tokens = model.pad(encoded[start : start + 16])
            logits = model.hf(
                input_ids=tokens.ids, attention_mask=tokens.mask.long(), position_ids=tokens.positions
            ).logits[:, -1]
            mass.append(logits.float().softmax(-1)[:, first].sum(-1).cpu())
    return torch.cat(mass).double().numpy()
