"""Stage `capture`: residuals of every layer at the answer position, and what the model answered."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from interp.engine.capture import Captured
from interp.files.folder import write_rows, writing
from interp.run import tables
from interp.run.session import GROUP, Session
from interp.run.stage import stage

SHARDS_EACH = 4
"""Shards for each worker from which on they are not divided."""


@stage(
    "capture",
    writes=("activations", "examples.parquet"),
    fields=("labels", "prompt", "seed"),
    sources=("model_identity", "device", "dtype", "config.quantization", "frame", "labelled_texts"),
    cost=lambda work: work.examples * work.speeds.per_prompt,
)
def run(session: Session) -> None:
    """Writes `activations/layer_XX.safetensors` (with example ids) and `examples.parquet`."""
    folder, model = session.folder, session.model
    examples = [e for _, e in session.examples]
    starts = range(0, len(examples), GROUP)
    shards = [folder / f"activations/shard_{i:05d}.safetensors" for i in range(len(starts))]

    def write(k: int) -> None:
        texts = [e.text for e in examples[starts[k] : starts[k] + GROUP]]
        with writing(shards[k]) as part:
            save_file(_captured(session, texts), part)

    missing = [k for k, shard in enumerate(shards) if not shard.exists()]
    several = len(missing) >= SHARDS_EACH * session.engine.workers > SHARDS_EACH
    # A worker that has a shard passes its texts alone; where there are few of them, all workers share each.
    for _ in session.engine.map(write, missing, shares=[1.0] * len(missing)) if several else map(write, missing):
        pass
    ids = [e.id for e in examples]
    for layer in range(model.n_layers):
        path = folder / f"activations/layer_{layer:02d}.safetensors"
        if not _holds(path, ids):
            parts = (_read(shard, "residuals", layer) for shard in shards)
            write_rows(path, "residuals", parts, (len(ids), model.d_model), {"ids": "\n".join(ids)})
    tables.write(folder / "examples.parquet", _table(session, shards))
    for shard in shards:
        shard.unlink()


def _holds(path: Path, ids: list[str]) -> bool:
    """Whether a layer's residuals are there, of these very examples."""
    if not path.exists():
        return False
    with safe_open(path, framework="pt") as file:
        return (file.metadata() or {}).get("ids") == "\n".join(ids)


def _captured(session: Session, texts: list[str]) -> dict[str, torch.Tensor]:
    """What the pass over some texts found; the session keeps their keys and values."""

    def read(captured: Captured, _: list[int]) -> dict[str, torch.Tensor]:
        return {
            "residuals": captured.residuals.transpose(0, 1),
            "log_probs": captured.answer_log_probabilities,
            "n_tokens": torch.tensor(captured.n_tokens),
            "cut": torch.tensor(captured.cut),
        }

    found = session.collect(texts, read, "capture")
    return found | {"residuals": found["residuals"].transpose(0, 1).contiguous()}


def _read(shard: Path, name: str, index: int | slice = slice(None)) -> torch.Tensor:
    """One tensor of a shard, or one row of it, without reading the rest."""
    with safe_open(shard, framework="pt") as file:
        tensor: torch.Tensor = file.get_slice(name)[index]
        return tensor


def _table(session: Session, shards: list[Path]) -> pd.DataFrame:
    log_probs, n_tokens, cut = (
        np.concatenate([_read(s, name).numpy() for s in shards]) for name in ("log_probs", "n_tokens", "cut")
    )
    roles, examples = zip(*session.examples, strict=True)
    names = ("id", "corpus", "split", "text", "gold", "group")
    return pd.DataFrame({name: [getattr(e, name) for e in examples] for name in names}).assign(
        role=list(roles),
        predicted=np.asarray(session.labels, dtype=object)[log_probs.argmax(1)],
        keyword_free=pd.array([e.keyword_free for e in examples], dtype="boolean"),
        n_tokens=n_tokens,
        cut=cut,
        **{f"logp_{label}": log_probs[:, i] for i, label in enumerate(session.labels)},
    )
