"""`interp check`: everything that can be known before a long run, with nothing written."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from interp.engine import FeatureEdits, edited_logits
from interp.engine.capture import capture
from interp.files.folder import RunFolder
from interp.memory import free_memory
from interp.models.answers import LOGITS_AT_ONCE
from interp.run.config import Config
from interp.run.pipeline import stages_of
from interp.run.session import Session
from interp.run.stage import Speeds, Workload, costs

SAMPLE = 16
"""Discover prompts on which speeds are measured."""
FEATURES = 8
SHORT = 64
"""Continuation tokens of the answers at which speeds are measured on half as many prompts and rows."""
PATIENCE = 2.0
"""Seconds after which a measurement is not repeated."""


@dataclass(frozen=True)
class StageEstimate:
    stage: str
    seconds: float


@dataclass(frozen=True)
class Check:
    """What was found and what is to be expected; bytes and seconds."""

    facts: dict[str, str]
    model_bytes: int
    sae_bytes: int
    batch_bytes: int
    free_bytes: int
    stages: list[StageEstimate]

    @property
    def peak_bytes(self) -> int:
        return self.model_bytes + self.sae_bytes + self.batch_bytes


def check(config: Config, folder: RunFolder, say: Callable[[str], None]) -> Check:
    """Loads and verifies the model, the SAEs and the corpora, and measures speeds on a few prompts.

    Raises:
        UserError: whatever would stop the run.
    """
    session = Session(config, folder)
    say("model")
    model = session.model
    say("SAEs")
    saes = session.saes
    say("corpora")
    roles = [role for role, _ in session.examples]
    counts = {role: roles.count(role) for role in ("discover", "fit", "test")}
    counts["test"] += roles.count("several")
    say("speed")
    few = _fewer(SAMPLE, session)
    texts = [e.text for role, e in session.examples if role == "discover"][:few]
    speeds, tokens = _speeds(session, texts)
    labels = _labels(session, texts, speeds.per_prompt, tokens)
    sae_bytes, told = 0, "none: what needs features is left out"
    if session.has_saes:
        top = saes.layers[-1]
        sae_bytes = sum(p.numel() * p.element_size() for p in saes[top].parameters())
        told = f"{saes.name}, {len(saes.layers)} of {model.n_layers} layers, {saes.d_sae(top):,} features"
    facts = {
        "model": f"{model.name}, {model.n_layers} layers, d_model {model.d_model}",
        "precision": f"{str(model.dtype).removeprefix('torch.')} on {model.device}",
        "prompts": ("in the chat template" if model.chat else "as they are") + f", about {tokens} tokens",
        "answers": "scored by " + ("whole words" if session.answers.whole else "first tokens"),
        **({} if labels is None else {"labels": labels}),
        "SAEs": told,
        "examples": ", ".join(f"{n} {role}" for role, n in counts.items()),
        **({"rated": ", ".join(f"{len(r.examples)} of {r.name}" for r in session.rated)} if session.rated else {}),
    }
    workload = Workload(config, speeds, layers=len(saes.layers), **counts)
    return Check(
        facts,
        model_bytes=sum(p.numel() * p.element_size() for p in model.hf.parameters()),
        sae_bytes=sae_bytes * min(saes.resident, len(saes.layers)),
        batch_bytes=_batch_bytes(session, tokens),
        free_bytes=free_memory(model.device),
        stages=[StageEstimate(name, seconds) for name, seconds in costs(stages_of(config), workload).items()],
    )


def _fewer(count: int, session: Session) -> int:
    """Less of something to measure on, the more tokens the labels take; at least four."""
    return max(4, count * SHORT // (SHORT + session.answers.n_continued))


def _speeds(session: Session, texts: list[str]) -> tuple[Speeds, int]:
    """How fast a few prompts are, and their mean length in tokens."""
    model, saes = session.model, session.saes
    prompts = session.prompts(texts)
    captured = capture(model, prompts, answers=session.labels, keep_cache=True)
    layer = saes.layers[0]
    acts = saes.encode(layer, captured.residuals[layer])
    value, feature = acts.topk(min(_fewer(FEATURES, session), acts.shape[1]), dim=1)
    example = torch.arange(len(prompts), device=feature.device)[:, None].expand_as(feature).flatten()
    flat = feature.flatten()
    few = saes.restricted({layer: flat.unique().tolist()})
    edits = FeatureEdits(torch.full_like(flat, layer), example, flat, -value.flatten())
    per_prompt = _seconds(lambda: capture(model, prompts, answers=session.labels, keep_cache=True)) / len(prompts)
    per_encode = _seconds(lambda: saes.encode(layer, captured.residuals[layer])) / len(prompts)
    per_row = _seconds(lambda: edited_logits(model, few, captured, edits)) / len(flat)
    return Speeds(per_prompt, per_row, per_encode), sum(captured.n_tokens) // len(captured.n_tokens)


def _labels(session: Session, texts: list[str], per_prompt: float, tokens: int) -> str | None:
    """What whole words cost, against prompts whose labels are told apart by their first tokens; None where they are."""
    answers, model = session.answers, session.model
    if not answers.n_continued:
        return None
    prompts = session.prompts(texts)
    single = session.labels[:1]  # one label needs no continuation
    alone = _seconds(lambda: capture(model, prompts, answers=single, keep_cache=True)) / len(prompts)
    read = sum(map(len, answers.continuations.values()))
    held = answers.n_continued * (model.n_layers + 1) * model.d_model * model.dtype.itemsize
    cost = (
        f"{len(answers)} labels take {answers.n_continued:,} tokens behind every prompt"
        + (f" ({read:,} if none were shared)" if read > answers.n_continued else "")
        + f": {held / 1e6:.2g} MB a prompt, {per_prompt * 1e3:.2g} ms a prompt rather than {alone * 1e3:.2g}"
    )
    if answers.n_continued <= tokens:
        return cost
    return cost + ". More than the prompt itself: fewer labels, or labels that differ in their first tokens, are faster"


def _seconds(work: Callable[[], object]) -> float:
    """The shortest of three runs, or of fewer long ones: others' work only ever makes one longer."""
    taken: list[float] = []
    while len(taken) < 3 and sum(taken) < PATIENCE:
        start = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return min(taken)


def _batch_bytes(session: Session, tokens: int) -> int:
    """Keys, values and residuals of a batch of prompts, and the wide part of one layer.

    Args:
        tokens: mean length of the prompts.
    """
    model, config = session.model, session.model.backbone.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    d_head = getattr(config, "head_dim", None) or model.d_model // config.num_attention_heads
    wide = model.d_hidden
    per_token = model.n_layers * 2 * heads * d_head + 4 * wide + 2 * model.d_model
    n_continued = session.answers.n_continued
    in_batch = max(session.tokens_per_batch, tokens + n_continued)
    continued = in_batch * n_continued // (tokens + n_continued)
    logits = 3 * min(LOGITS_AT_ONCE, continued * len(model.head_weight))  # and their logarithms and exponentials
    return int((in_batch * per_token + continued * model.n_layers * model.d_model) * model.dtype.itemsize + 4 * logits)
