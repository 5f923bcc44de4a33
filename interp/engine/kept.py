"""Captures kept for a whole run: every prompt passes the model once, and all stages read what that left behind."""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.engine.cache import PromptCache, SharedPrefix
from interp.engine.capture import Captured
from interp.memory import free_memory
from interp.models.answers import Answers

MEMORY_SHARE = 0.25
"""Share of the free memory that kept captures may take, and of the free disk that the others may."""
MEMORY_AT_MOST = 2**31
SCRATCH = "scratch_"


@dataclass(frozen=True)
class KeptBatch:
    """The capture of a batch of prompts, in the order of its cache; keys and values without a shared prefix's.

    Attributes:
        behind: whether a shared prefix stands before the keys and values.
    """

    residuals: Float[Tensor, "layer prompt d_model"]
    answer_logits: Float[Tensor, "prompt answer"]
    embedded: Float[Tensor, "prompt tail d_model"]
    lengths: Int[Tensor, " prompt"]
    cut: Int[Tensor, " prompt"]
    behind: bool
    continued: list[Float[Tensor, "prompt tail d_model"]]
    keys: list[Float[Tensor, "prompt kv_head token d_head"]]
    values: list[Float[Tensor, "prompt kv_head token d_head"]]

    @classmethod
    def of(cls, captured: Captured, prefix: SharedPrefix | None) -> "KeptBatch":
        """All prompts of a capture, in its order."""
        parts = [_kept(captured, cache, prefix) for cache in captured.caches]
        if len(parts) == 1 and captured.caches[0].examples == list(range(len(captured.n_tokens))):
            return parts[0]
        places = {
            example: Place(part, column)
            for part, cache in zip(parts, captured.caches, strict=True)
            for column, example in enumerate(cache.examples)
        }
        whole = together([places[i] for i in range(len(places))], captured.answers, prefix)
        return _kept(whole, whole.caches[0], prefix)

    @property
    def tensors(self) -> dict[str, Tensor]:
        out = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, Tensor):
                out[one.name] = value
            elif isinstance(value, list):
                out |= {f"{one.name}.{layer}": x for layer, x in enumerate(value)}
        return out

    @property
    def n_bytes(self) -> int:
        return sum(x.nbytes for x in self.tensors.values())


def _kept(captured: Captured, cache: PromptCache, prefix: SharedPrefix | None) -> KeptBatch:
    examples = torch.tensor(cache.examples, device=captured.residuals.device)
    lengths = cache.mask.sum(1)
    behind = prefix is not None and bool((lengths > len(prefix)).all()) and _same_keys(cache, prefix)
    # Prompts are padded on their left: behind the first columns, as many as the prefix has, all own tokens stand.
    own = slice(len(prefix), None) if prefix is not None and behind else slice(None)
    return KeptBatch(
        residuals=captured.residuals[:, examples],
        answer_logits=captured.answer_logits[examples],
        embedded=cache.embedded,
        lengths=lengths,
        cut=torch.tensor(captured.cut)[cache.examples],
        behind=behind,
        continued=cache.continued,
        keys=[x[:, :, own].clone() for x in cache.keys.values()],
        values=[x[:, :, own].clone() for x in cache.values.values()],
    )


def _same_keys(cache: PromptCache, prefix: SharedPrefix) -> bool:
    """Whether the prompts were passed behind the prefix, so that it stands in the cache as it is."""
    keys = cache.keys[len(prefix.keys) - 1]
    starts = (~cache.mask).sum(1).tolist()
    return all(torch.equal(keys[row, :, k : k + len(prefix)], prefix.keys[-1]) for row, k in enumerate(starts))


class Place(NamedTuple):
    """A prompt's column in a kept batch."""

    batch: KeptBatch
    column: int


def together(places: Sequence[Place], answers: Answers, prefix: SharedPrefix | None) -> Captured:
    """A capture of these prompts, in this order, as one cache: left-padded, with the shared prefix put back.

    Args:
        prefix: what the batches were kept without.
    """
    members: dict[int, list[int]] = {}
    for row, place in enumerate(places):
        members.setdefault(id(place.batch), []).append(row)
    groups = [
        (
            places[rows[0]].batch,
            torch.tensor(rows),
            torch.tensor([places[row].column for row in rows]),
        )
        for rows in members.values()
    ]
    back = torch.cat([rows for _, rows, _ in groups]).argsort()

    def gathered(name: str) -> Tensor:
        return torch.cat([getattr(b, name)[c.to(getattr(b, name).device)] for b, _, c in groups])[back]

    lengths = gathered("lengths")
    width = int(lengths.max())
    device = groups[0][0].residuals.device
    residuals = torch.cat([b.residuals[:, c.to(device)] for b, _, c in groups], dim=1)[:, back.to(device)]
    n_layers = len(groups[0][0].keys)
    continued = [
        torch.cat([b.continued[k][c.to(b.continued[k].device)] for b, _, c in groups])[back.to(device)]
        for k in range(n_layers)
    ]
    starts: dict[int, list[int]] = {}
    for batch, rows, _ in groups:
        for row in rows.tolist() if batch.behind else ():
            starts.setdefault(width - int(lengths[row]), []).append(row)

    def whole(name: str, layer: int) -> Tensor:
        first = getattr(groups[0][0], name)[layer]
        out = first.new_zeros(len(places), first.shape[1], width, first.shape[3])
        for batch, rows, columns in groups:
            own = getattr(batch, name)[layer]
            n = min(own.shape[2], width - (len(prefix) if prefix is not None and batch.behind else 0))
            out[rows.to(out.device), :, width - n :] = own[columns.to(own.device), :, own.shape[2] - n :]
        for start, members in starts.items():
            assert prefix is not None
            index = torch.tensor(members, device=out.device)
            out[index, :, start : start + len(prefix)] = getattr(prefix, name)[layer]
        return out

    mask = torch.arange(width, device=device) >= width - lengths.to(device)[:, None]
    cache = PromptCache(
        examples=list(range(len(places))),
        keys={k: whole("keys", k) for k in range(n_layers)},
        values={k: whole("values", k) for k in range(n_layers)},
        mask=mask,
        position=lengths.to(device) - 1,
        embedded=gathered("embedded"),
        continued=continued,
    )
    return Captured(residuals, gathered("answer_logits"), answers, lengths.tolist(), gathered("cut").tolist(), (cache,))


def remove_scratch(folder: Path) -> None:
    """Takes away what a killed run could not remove itself."""
    for left in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


class KeptCaptures:
    """Batches by key: in memory within a budget, then memory-mapped from a scratch folder, then not at all.

    Nothing is dropped once it is kept: stages read all prompts in turn, and what was seen least recently comes next.
    """

    def __init__(self, folder: Path, *, memory: int | None = None, disk: int | None = None) -> None:
        """
        Args:
            folder: where the scratch folder is made, if it is needed.
            memory, disk: bytes that may be taken; None: a quarter of what is free (of memory at most 2 GB).
        """
        self.folder = folder
        self._memory = memory
        self._disk = shutil.disk_usage(folder).free * MEMORY_SHARE if disk is None else disk
        self._held: dict[tuple[int, int], KeptBatch] = {}
        self._files: dict[tuple[int, int], tuple[Path, KeptBatch]] = {}
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of everything and removes the scratch folder."""
        self._held.clear()
        self._files.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def get(self, key: tuple[int, int]) -> KeptBatch | None:
        if key in self._held:
            return self._held[key]
        return self._files[key][1] if key in self._files else None

    def put(self, key: tuple[int, int], batch: KeptBatch) -> None:
        """Keeps a batch, if there is room."""
        size = batch.n_bytes
        if self._memory is None:
            free = free_memory(batch.residuals.device)
            self._memory = int(min(free * MEMORY_SHARE, MEMORY_AT_MOST))
        if size <= self._memory:
            self._memory -= size
            self._held[key] = batch
        elif size <= self._disk and batch.residuals.device.type == "cpu":
            self._disk -= size
            self._files[key] = self._mapped(key, batch)

    def _mapped(self, key: tuple[int, int], batch: KeptBatch) -> tuple[Path, KeptBatch]:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self.folder, ignore_cleanup_errors=True)
        path = Path(self._scratch.name) / f"{key[0]}_{key[1]}.safetensors"
        save_file({name: x.contiguous() for name, x in batch.tensors.items()}, path)
        found = load_file(path)
        layers = range(len(batch.keys))
        single = ("residuals", "answer_logits", "embedded", "lengths", "cut")
        several = ("continued", "keys", "values")
        parts: dict[str, Any] = {n: found[n] for n in single}
        parts |= {n: [found[f"{n}.{k}"] for k in layers] for n in several}
        return path, KeptBatch(behind=batch.behind, **parts)
