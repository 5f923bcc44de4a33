"""One text through the model: what each layer reads at each token, which features are behind the answer."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from interp.analysis.inspection import BehindAnswer, Inspection
from interp.engine import FeatureEdits, ablate_jointly, answer_gradients, answers_under, attribute, edited_logits
from interp.engine.capture import Captured, capture
from interp.errors import UserError
from interp.files.folder import RunFolder
from interp.files.stored import as_recorded
from interp.models.language_model import token_pieces
from interp.run.config import config_of
from interp.run.reading import RunFiles
from interp.run.session import Session
from interp.steering.steering import Steering

PROPOSED = 64
"""Features that attribution proposes for exact ablation, half of them for and half against the answer."""
SHOWN = 10
STEERING = ("steering.json", "steering.safetensors")
AGAINST = 5


def inspect(folder: Path, text: str) -> Inspection:
    """A text through the model, SAEs and steering of a run.

    Args:
        folder: a run folder.

    Raises:
        UserError: no run folder, or an empty text.
    """
    if not text.strip():
        raise UserError("The text is empty; give a sentence or two with --text.")
    session = Session(config_of(folder), RunFolder(folder))
    return inspect_text(session, text)


@torch.no_grad()
def inspect_text(session: Session, text: str) -> Inspection:
    """The same, of a run whose model and SAEs are loaded already."""
    model, labels = session.model, session.labels
    prompts = session.prompts([text])
    captured = capture(model, prompts, answers=labels, keep_cache=True, everywhere=range(model.n_layers))
    ids = model.encode(prompts, room=int(session.answers.offsets.max()))[0].ids
    plain = captured.answer_logits[0]
    target = int(plain.argmax())
    features = _behind(session, captured, target) if session.has_saes else []
    for_it = {k: [f.feature for f in features[:SHOWN] if f.layer == k and f.effect > 0] for k in session.saes.layers}
    removed = {k: own for k, own in for_it.items() if own}
    conditions = {"plain": plain}
    if removed:
        n = sum(map(len, removed.values()))
        conditions[f"without its top {n}"] = ablate_jointly(model, session.saes, captured, removed)[0]
    if (session.folder / "steering.json").is_file():
        as_recorded(session.folder.path, STEERING, session.folder.record)
        steering = Steering.load(session.folder.path)
        if steering.layers:
            conditions["steered"] = answers_under(model, captured, steering.edits(session.saes))[0]
    return Inspection(
        text=text,
        labels=labels,
        tokens=token_pieces(model.tokenizer, ids),
        evidence=_evidence(session, captured),
        probabilities={name: logits.softmax(-1).tolist() for name, logits in conditions.items()},
        features=features,
        cut=captured.cut[0],
    )


def _evidence(session: Session, captured: Captured) -> Float[np.ndarray, "layer token label"]:
    model, (cache,) = session.model, captured.caches
    read = [model.unembed(cache.everywhere[k][0], session.answers.first) for k in range(model.n_layers)]
    return torch.stack(read).float().softmax(-1).cpu().numpy()


def _behind(session: Session, captured: Captured, target: int) -> list[BehindAnswer]:
    """Attribution proposes, exact ablation decides: features for the answer, then a few against it."""
    model, saes = session.model, session.saes
    targets = torch.tensor([target], device=captured.answer_logits.device)
    gradients = answer_gradients(model, captured, targets)
    proposed: list[tuple[float, int, int]] = []
    for layer in saes.layers:
        scores = attribute(model, saes, captured, layer=layer, targets=targets, gradients=gradients)[0].cpu()
        for largest in (True, False):
            best = scores.topk(min(PROPOSED // 2, len(scores)), largest=largest)
            pairs = zip(best.values.tolist(), best.indices.tolist(), strict=True)
            proposed += [(value, layer, f) for value, f in pairs if value != 0]
    ordered = sorted(set(proposed))
    chosen = sorted({(k, f) for _, k, f in (*ordered[: PROPOSED // 2], *ordered[-PROPOSED // 2 :])})
    if not chosen:
        return []
    layer, feature = torch.tensor(chosen, device=targets.device).T
    acts = torch.cat(
        [saes.encode_features(k, captured.residuals[k], feature[layer == k])[0] for k in layer.unique().tolist()]
    ).to(targets.device)
    edits = FeatureEdits(layer, torch.zeros_like(layer), feature, -acts)
    logits = edited_logits(model, saes, captured, edits)
    effect = captured.answer_log_probabilities[0, target] - logits.log_softmax(-1)[:, target]
    causal_for = RunFiles(session.folder.path).causal_for()
    found = [
        BehindAnswer(k, f, a, e, p, causal_for.get((k, f), []))
        for (k, f), a, e, p in zip(chosen, acts.tolist(), effect.tolist(), logits.softmax(-1).tolist(), strict=True)
    ]
    by_effect = sorted(found, key=lambda b: -b.effect)
    against = [b for b in by_effect[::-1][:AGAINST] if b.effect < 0]
    return [b for b in by_effect[:SHOWN] if b.effect > 0] + against
