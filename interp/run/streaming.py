"""Features of any number of texts at constant memory: captured, encoded and counted some at a time, then let go."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch

from interp.analysis.tally import FeatureTally
from interp.engine.capture import capture
from interp.errors import UserError
from interp.files.folder import claimed, fingerprint, read_json, write_arrays, write_json
from interp.models.language_model import LanguageModel
from interp.run import tables
from interp.saes.stack import SaeStack
from interp.texts.examples import LabelNames
from interp.texts.prompts import build_prompts
from interp.texts.streams import StreamedText

SHARD = 512
"""Texts whose residuals are in memory together."""
CHECKPOINT = 16
"""Shards after which the counts are kept on disk: a killed stream loses at most these."""
KEPT = 8
"""Texts that are kept of each feature: as many of the strongest as drawn at random."""
RECORD, FEATURES, TEXTS, ANSWERS = "stream.json", "features.parquet", "texts.parquet", "answers.parquet"


@dataclass(frozen=True)
class TallyOptions:
    """How a stream is read.

    Attributes:
        template: see `build_prompts`.
        mapping: the texts' own labels to the run's; None: by their names alone.
        limit: texts at most; None: all.
        kept: texts kept of each feature, strongest and random each.
        shard: texts in memory together.
    """

    template: str = "default"
    mapping: Mapping[str, str] | None = None
    limit: int | None = None
    kept: int = KEPT
    shard: int = SHARD
    checkpoint: int = CHECKPOINT
    seed: int = 0


class Streamed(NamedTuple):
    """What a stream left behind.

    Attributes:
        n: texts that were captured; those without a text are passed over.
        features: a row for each layer and feature that fired (see `FeatureTally.features`).
        texts: numbers of the strongest texts of each feature, and of some drawn at random.
        answers: label, answered, n: how often texts of which label got which answer.
    """

    n: int
    features: pd.DataFrame
    texts: pd.DataFrame
    answers: pd.DataFrame


def stream_features(
    model: LanguageModel,
    saes: SaeStack,
    texts: Callable[[], Iterable[StreamedText]],
    labels: Sequence[str],
    folder: Path,
    *,
    options: TallyOptions | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Streamed:
    """Counts every feature over a stream, and writes `features.parquet`, `texts.parquet` and `answers.parquet`.

    Memory and disk depend on the number of features and not on that of the texts. A killed stream goes on in the same
    folder from its last checkpoint, and ends with the same bytes as an unbroken one.

    Args:
        texts: gives the stream from its beginning, always the same.
        labels: the answers that the model chooses from, and the labels that are counted.
        advance: is told how many texts are done.

    Raises:
        UserError: no text at all, or a folder of a stream with other settings.
    """
    options = options or TallyOptions()
    stream = _Stream(model, saes, list(labels), folder, options)
    with claimed(folder, RECORD):
        return stream.run(texts, advance)


class _Stream:
    """One stream at work."""

    def __init__(
        self, model: LanguageModel, saes: SaeStack, labels: list[str], folder: Path, options: TallyOptions
    ) -> None:
        self.model, self.saes, self.labels, self.folder, self.options = model, saes, labels, folder, options
        self.names = LabelNames(labels, dict(options.mapping or {}))
        n = len(labels)
        self.answers = np.zeros((n + 1, n), int)
        self.tallies: dict[int, FeatureTally] = {}

    @property
    def print_(self) -> str:
        options = self.options
        own = [options.template, dict(options.mapping or {}), options.kept, options.shard, options.seed]
        return fingerprint([self.model.identity, str(self.model.dtype), self.saes.identity, self.labels, own])

    def run(self, texts: Callable[[], Iterable[StreamedText]], advance: Callable[[int], None]) -> Streamed:
        done = self._resumed()
        read = islice(enumerate(texts()), done, self.options.limit)
        for number, shard in enumerate(_shards(read, self.options.shard), start=1):
            self._add(shard)
            done = shard[-1][0] + 1
            if number % self.options.checkpoint == 0:
                self._keep(done)
            advance(done)
        if not self.tallies:
            raise UserError("The stream holds no text: nothing can be counted.")
        self._keep(done)
        return self._written()

    def _add(self, shard: list[tuple[int, StreamedText]]) -> None:
        """Counts some texts."""
        keys = torch.from_numpy(random_keys(np.array([row for row, _ in shard]), self.options.seed))
        filled = [i for i, (_, one) in enumerate(shard) if one.text]
        if not filled:
            return
        rows = torch.tensor([shard[i][0] for i in filled])
        own = [self.names.of((shard[i][1].label,)) if shard[i][1].label else set() for i in filled]
        gold = torch.tensor([self.labels.index(next(iter(one))) if len(one) == 1 else -1 for one in own])
        prompts = build_prompts([shard[i][1].text for i in filled], self.labels, template=self.options.template)
        captured = capture(self.model, prompts, answers=self.labels)
        np.add.at(self.answers, (gold.numpy(), captured.answer_logits.argmax(-1).cpu().numpy()), 1)
        for layer in self.saes.layers:
            acts = self.saes.encode(layer, captured.residuals[layer].float())
            if layer not in self.tallies:
                self.tallies[layer] = FeatureTally.empty(len(self.labels), acts.shape[1], kept=self.options.kept)
            self.tallies[layer].add(acts, gold, rows, keys[filled])

    def _keep(self, done: int) -> None:
        """The counts as they are now: written beside those before, which go when the record names the new ones."""
        state = f"state_{done:012d}.npz"
        arrays = {f"{k}.{name}": x for k, tally in self.tallies.items() for name, x in tally.arrays().items()}
        write_arrays(self.folder / state, {**arrays, "answers": self.answers})
        write_json(self.folder / RECORD, {"fingerprint": self.print_, "rows": done, "state": state})
        for left in self.folder.glob("state_*.npz"):
            if left.name != state:
                left.unlink()

    def _record(self) -> dict[str, object]:
        path = self.folder / RECORD
        return dict(read_json(path)) if path.exists() else {}

    def _resumed(self) -> int:
        """The rows that are counted already."""
        record = self._record()
        if not record:
            return 0
        if record.get("fingerprint") != self.print_:
            raise UserError(
                f"{self.folder} belongs to a stream with another model, SAEs, labels or settings; choose another --out."
            )
        path = self.folder / str(record["state"])
        if not path.exists():
            raise UserError(f"{path} is missing; remove {self.folder} and give the command again.")
        with np.load(path) as stored:
            self.answers = stored["answers"]
            layers = sorted({int(name.split(".")[0]) for name in stored.files if "." in name})
            for layer in layers:
                prefix = f"{layer}."
                own = {n.removeprefix(prefix): stored[n] for n in stored.files if n.startswith(prefix)}
                self.tallies[layer] = FeatureTally.of(own)
        return int(str(record["rows"]))

    def _written(self) -> Streamed:
        tallies = sorted(self.tallies.items())
        features = _by_layer({layer: tally.features(self.labels) for layer, tally in tallies})
        texts = _by_layer({layer: tally.texts() for layer, tally in tallies})
        gold, answered = np.divmod(np.arange(self.answers.size), len(self.labels))
        known = [*self.labels, ""]
        answers = pd.DataFrame(
            {
                "label": [known[i] for i in gold],
                "answered": [self.labels[i] for i in answered],
                "n": self.answers.ravel(),
            }
        )
        for name, table in ((FEATURES, features), (TEXTS, texts), (ANSWERS, answers)):
            tables.write(self.folder / name, table)
        return Streamed(int(self.answers.sum()), features, texts, answers)


def random_keys(rows: np.ndarray, seed: int) -> np.ndarray:
    """[row], numbers in [0, 1) that depend on a text's number and the seed alone (SplitMix64, Steele et al. 2014)."""
    step, first, second = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
    with np.errstate(over="ignore"):
        x = (rows.astype(np.uint64) + np.uint64(1)) * step + np.uint64(seed) * second
        x = (x ^ (x >> np.uint64(30))) * first
        x = (x ^ (x >> np.uint64(27))) * second
        x ^= x >> np.uint64(31)
    return np.asarray((x >> np.uint64(11)).astype(float) / 2.0**53)


def _by_layer(parts: Mapping[int, pd.DataFrame]) -> pd.DataFrame:
    for layer, part in parts.items():
        part.insert(0, "layer", layer)
    return pd.concat(list(parts.values()), ignore_index=True)


def _shards(rows: Iterator[tuple[int, StreamedText]], size: int) -> Iterator[list[tuple[int, StreamedText]]]:
    while shard := list(islice(rows, size)):
        yield shard
