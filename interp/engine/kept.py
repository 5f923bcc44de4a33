"""Captures kept for a whole run: every prompt passes the model once, and all stages read what that left behind."""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from interp.engine.cache import PromptCache, SharedPrefix
from interp.engine.capture import Captured
from interp.files.store import Store
from interp.memory import free_memory
from interp.models.answers import LabelTokens

MEMORY_SHARE = 0.25
"""Share of the free memory that kept captures may take, and of the free disk that the others may."""
MEMORY_AT_MOST = 2**31
SCRATCH = "scratch_"
SUFFIX = ".safetensors"


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
    continued: list[Float[Tensor, "prompt continuation d_model"]]
    keys: list[Float[Tensor, "prompt kv_head token d_head"]]
    values: list[Float[Tensor, "prompt kv_head token d_head"]]

    @classmethod
    def of(cls, captured: Captured, prefix: SharedPrefix | None) -> "KeptBatch":
        """All prompts of a capture, in its order."""
        parts = [_kept(captured, cache, prefix) for cache in captured.caches]
        if len(parts) == 1 and captured.caches[0].examples == list(range(len(captured.n_tokens))):
            return parts[0]
        places = {
            example: KeptPrompt(part, column)
            for part, cache in zip(parts, captured.caches, strict=True)
            for column, example in enumerate(cache.examples)
        }
        whole = together([places[i] for i in range(len(places))], captured.answers, prefix)
        return _kept(whole, whole.caches[0], prefix)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By name, and layer where there is one for each."""
        parts = {one.name: getattr(self, one.name) for one in fields(self) if one.name != "behind"}
        by_layer = {name: x for name, x in parts.items() if isinstance(x, list)}
        split = {f"{name}.{layer}": x for name, layers in by_layer.items() for layer, x in enumerate(layers)}
        return {name: x for name, x in parts.items() if name not in by_layer} | split

    def filled(self, tensors: Mapping[str, Tensor]) -> "KeptBatch":
        """The same batch with its `tensors` from elsewhere."""
        parts: dict[str, Any] = {name: x for name, x in tensors.items() if "." not in name}
        for name in {name.partition(".")[0] for name in tensors} - {*parts}:
            parts[name] = [tensors[f"{name}.{layer}"] for layer in range(len(self.keys))]
        return replace(self, **parts)

    @property
    def n_bytes(self) -> int:
        return sum(x.nbytes for x in self.tensors.values())

    def save(self, path: Path) -> None:
        save_file({name: x.contiguous() for name, x in self.tensors.items()}, path, {"behind": str(self.behind)})

    @classmethod
    def load(cls, path: Path, device: torch.device | str = "cpu") -> "KeptBatch":
        """What `save` wrote; on a CPU memory-mapped."""
        with safe_open(path, framework="pt") as file:
            behind = (file.metadata() or {}).get("behind") == str(True)
        tensors: dict[str, Any] = load_file(path, device=str(device))
        layers = range(sum(name.startswith("keys.") for name in tensors))
        by_layer: dict[str, Any] = {
            name: [tensors.pop(f"{name}.{layer}") for layer in layers] for name in ("continued", "keys", "values")
        }
        return cls(**tensors, **by_layer, behind=behind)


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
        continued=list(cache.continued),
        keys=[x[:, :, own].clone() for x in cache.keys.values()],
        values=[x[:, :, own].clone() for x in cache.values.values()],
    )


def _same_keys(cache: PromptCache, prefix: SharedPrefix) -> bool:
    """Whether the prompts were passed behind the prefix, so that it stands in the cache as it is."""
    keys = cache.keys[len(prefix.keys) - 1]
    starts = (~cache.mask).sum(1).tolist()
    return all(torch.equal(keys[row, :, k : k + len(prefix)], prefix.keys[-1]) for row, k in enumerate(starts))


class KeptPrompt(NamedTuple):
    """A prompt's column in a kept batch."""

    batch: KeptBatch
    column: int


class _Members(NamedTuple):
    """Prompts of one kept batch: their rows in what is put together, and their columns in the batch."""

    batch: KeptBatch
    rows: Int[Tensor, " member"]
    columns: Int[Tensor, " member"]


def together(places: Sequence[KeptPrompt], answers: LabelTokens, prefix: SharedPrefix | None) -> Captured:
    """A capture of these prompts, in this order, as one cache: left-padded, with the shared prefix put back.

    Args:
        prefix: what the batches were kept without.
    """
    rows_of: dict[int, list[int]] = {}
    for row, place in enumerate(places):
        rows_of.setdefault(id(place.batch), []).append(row)
    groups = [
        _Members(places[rows[0]].batch, torch.tensor(rows), torch.tensor([places[row].column for row in rows]))
        for rows in rows_of.values()
    ]
    back = torch.cat([group.rows for group in groups]).argsort()
    batches = [group.batch for group in groups]

    def gathered(parts: Sequence[Tensor], dim: int = 0) -> Tensor:
        members = [x.index_select(dim, group.columns.to(x.device)) for x, group in zip(parts, groups, strict=True)]
        return torch.cat(members, dim).index_select(dim, back.to(members[0].device))

    residuals = gathered([batch.residuals for batch in batches], dim=1)
    lengths = gathered([batch.lengths for batch in batches]).to(residuals.device)
    width, layers = int(lengths.max()), range(len(batches[0].keys))
    padding = (width - lengths).tolist()
    begun: dict[int, list[int]] = {}  # by padding, rows behind the prefix
    for row in (row for group in groups if group.batch.behind for row in group.rows.tolist()):
        begun.setdefault(padding[row], []).append(row)

    def padded(
        parts: Sequence[Float[Tensor, "_ kv_head _ d_head"]], shared: Float[Tensor, "kv_head token d_head"] | None
    ) -> Float[Tensor, "prompt kv_head width d_head"]:
        n_shared = 0 if shared is None else shared.shape[1]
        out = parts[0].new_zeros(len(places), parts[0].shape[1], width, parts[0].shape[3])
        for x, (batch, rows, columns) in zip(parts, groups, strict=True):
            n = min(x.shape[2], width - n_shared * batch.behind)
            out[rows.to(out.device), :, width - n :] = x[columns.to(x.device), :, x.shape[2] - n :]
        if shared is not None:
            for start, members in begun.items():
                out[torch.tensor(members, device=out.device), :, start : start + n_shared] = shared
        return out

    nothing: Sequence[Tensor | None] = [None] * len(layers)
    keys, values = (nothing, nothing) if prefix is None else (prefix.keys, prefix.values)

    cache = PromptCache(
        examples=list(range(len(places))),
        keys={k: padded([batch.keys[k] for batch in batches], keys[k]) for k in layers},
        values={k: padded([batch.values[k] for batch in batches], values[k]) for k in layers},
        mask=torch.arange(width, device=lengths.device) >= width - lengths[:, None],
        position=lengths - 1,
        embedded=gathered([batch.embedded for batch in batches]),
        continued=[gathered([batch.continued[k] for batch in batches]) for k in layers],
    )
    scores, cut = (gathered([getattr(batch, name) for batch in batches]) for name in ("answer_logits", "cut"))
    return Captured(residuals, scores, answers, lengths.tolist(), cut.tolist(), (cache,))


def remove_scratch(folder: Path) -> None:
    """Takes away what a killed run could not remove itself."""
    for left in folder.glob(f"{SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)


class KeptCaptures(AbstractContextManager["KeptCaptures"]):
    """Batches by key: in memory within a budget, then memory-mapped from disk, then not at all.

    Nothing that a run has used is dropped while it lasts: stages read all prompts in turn, and what was seen least
    recently comes next. What only runs before it used gives way.
    """

    def __init__(
        self, folder: Path, *, memory: int | None = None, disk: int | None = None, store: Store | None = None
    ) -> None:
        """
        Args:
            folder: where the scratch folder is made, if it is needed.
            memory, disk: bytes that may be taken; None: a quarter of what is free (of memory at most 2 GB).
            store: where batches are kept for other runs and processes as well.
        """
        self.folder, self.store = folder, store
        self._memory = memory
        self._disk = shutil.disk_usage(folder).free * MEMORY_SHARE if disk is None else disk
        self._kept: dict[str, KeptBatch] = {}
        self._in_memory: dict[str, int] = {}  # their sizes, what was used least recently first
        self._used: set[str] = set()
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of everything and removes the scratch folder."""
        for kept in (self._kept, self._in_memory, self._used):
            kept.clear()
        if self._scratch is not None:
            self._scratch.cleanup()
            self._scratch = None

    def next_run(self) -> None:
        """From here on, what was used before gives way."""
        self._used.clear()

    def get(self, key: str, device: torch.device | str = "cpu") -> KeptBatch | None:
        """
        Args:
            device: where a batch goes that another process has kept.
        """
        if key not in self._kept and self.store is not None and (path := self.store.get(key)) is not None:
            batch = KeptBatch.load(path, device)
            if self._has_room(batch):
                batch = batch.filled({name: x.clone() for name, x in batch.tensors.items()})
                self._keep_in_memory(key, batch)
            self._kept[key] = batch
        if key in self._in_memory:
            self._in_memory[key] = self._in_memory.pop(key)
        self._used.add(key)
        return self._kept.get(key)

    def put(self, key: str, batch: KeptBatch) -> None:
        """Keeps a batch, if there is room."""
        path = None if self.store is None else self.store.put(key, SUFFIX, batch.save)
        self._used.add(key)
        if self._has_room(batch):
            self._keep_in_memory(key, batch)
        elif batch.residuals.device.type == "cpu":
            if path is not None:
                self._kept[key] = KeptBatch.load(path)
            elif batch.n_bytes <= self._disk:
                self._disk -= batch.n_bytes
                self._kept[key] = self._mapped(key, batch)

    def _keep_in_memory(self, key: str, batch: KeptBatch) -> None:
        assert self._memory is not None
        self._memory -= batch.n_bytes
        self._kept[key], self._in_memory[key] = batch, batch.n_bytes

    def _has_room(self, batch: KeptBatch) -> bool:
        """Whether a batch fits into memory, once what this run does not use has gone."""
        if self._memory is None:
            free = free_memory(batch.residuals.device)
            self._memory = int(min(free * MEMORY_SHARE, MEMORY_AT_MOST))
        idle = [key for key in self._in_memory if key not in self._used]
        if batch.n_bytes > self._memory + sum(self._in_memory[key] for key in idle):
            return False
        while batch.n_bytes > self._memory:
            key = idle.pop(0)
            self._memory += self._in_memory.pop(key)
            del self._kept[key]
        return True

    def _mapped(self, key: str, batch: KeptBatch) -> KeptBatch:
        if self._scratch is None:
            self._scratch = tempfile.TemporaryDirectory(prefix=SCRATCH, dir=self.folder, ignore_cleanup_errors=True)
        path = Path(self._scratch.name) / f"{key}{SUFFIX}"
        batch.save(path)
        return batch.filled(load_file(path))
