"""What the stages of a run share: its configuration and folder, and the model, SAEs and corpora, loaded when needed."""

import math
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import cached_property
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from interp.analysis.features import LayerFeatures, load_features
from interp.analysis.labelled import LabelledExamples, seed_for
from interp.analysis.together import NEUTRAL
from interp.engine.cache import SharedPrefix
from interp.engine.capture import Captured, batches, capture, tokens_in_flight
from interp.engine.kept import KeptBatch, KeptCaptures, KeptPrompt, remove_scratch, together
from interp.engine.prompt_pass import shared_prefix
from interp.engine.suffix import ResidualEdit
from interp.engine.variants import Name, Read, answers_under_each
from interp.evaluation.fluency import PlainText
from interp.files.folder import RunFolder, fingerprint, remove_parts
from interp.files.units import Units
from interp.models.answers import Answers
from interp.models.language_model import Encoded, LanguageModel
from interp.processors import compute_with, one_thread_per_core
from interp.reporting import Progress, silent
from interp.run.engines import LOCAL, Engine, InProcess, Item, Result, threads
from interp.run.inputs import Inputs
from interp.run.shared import Shared
from interp.saes.stack import SaeStack
from interp.texts.examples import load_corpus
from interp.texts.prompts import Prompt, build_prompts
from interp.texts.word_spans import WordSpan, word_spans

T = TypeVar("T")
ROWS_PER_BATCH = 1024
GROUP = 512
"""Examples per unit of the capture: a killed run loses at most these."""
SERVED = 4
"""Kept prompts that are computed together on a CPU, in batches of a capture: passes of single tokens want many rows."""
CHUNKS = 12
"""Parts that texts are divided into before so many of them are computed together: workers need some each. However many
workers there are, for the last bits of a result depend on what it is computed beside."""
SHORT_TEXT = 2_000
"""Tokens of plain text on which steerings are compared; the final figures are of all of it."""


class _Batch(NamedTuple):
    """Texts of a group that are captured together."""

    key: tuple[int, int]
    members: list[int]


@dataclass
class Session(Inputs):
    """One run at work. The first access to `model` or `saes` loads them; without SAEs, `saes` are `Coordinates`."""

    folder: RunFolder
    progress: Progress = silent
    engine: Engine = field(default_factory=InProcess)
    shared: Shared = field(default_factory=Shared)

    @classmethod
    def going_on(cls, inputs: Inputs, folder: RunFolder, progress: Progress, shared: Shared | None = None) -> "Session":
        """With what is known of the inputs already, in a folder from which a killed run may have left scratch."""
        remove_scratch(folder.path)
        remove_parts(folder.path)
        if inputs.config.engine == LOCAL and inputs.config.resources.cpus is None:
            one_thread_per_core()
        else:
            compute_with(threads(inputs.config.resources))
        session = cls(inputs.config, folder, progress, shared=shared or Shared())
        vars(session).update(vars(inputs))  # what has been read is not read again
        return session

    @cached_property
    def model(self) -> LanguageModel:
        return self.shared.model(self.config)

    @cached_property
    def saes(self) -> SaeStack:
        return self.shared.saes(self.config)

    # ---------------------------------------------------------------------------------- units

    def each(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        description: str,
        unit: str,
        *,
        shares: Sequence[float] | None = None,
    ) -> Iterator[Result]:
        """What a function makes of every item, in their order, wherever they are computed.

        Args:
            function: may use this session, its model and its SAEs; a worker has its own in their place. What it
                gives is numbers on the CPU.
            shares: how much there is to compute for each item (see `Engine.map`).
        """
        found = iter(self.engine.map(function, items, shares=shares))
        for _ in self.progress(items, description, unit):
            yield next(found)

    def each_layer(
        self, function: Callable[[int], Result], layers: Sequence[int], description: str
    ) -> Iterator[Result]:
        """The same for layers: a worker reads the SAEs of its own layers alone."""
        return self.each(function, layers, description, "layer", shares=[1.0] * len(layers))

    def made(self, make: Callable[..., T], *about: Hashable) -> T:
        """What a function makes of this session, once; the last of such things is kept.

        Functions that go to workers may hold it, or a part of it: there it is made again, and not sent.

        Args:
            make: a function of a module.
            about: its other arguments.
        """
        if (make, *about) not in self._made:
            self._made.clear()
            self._made[make, *about] = make(self, *about)
        found: T = self._made[make, *about]
        return found

    @cached_property
    def _made(self) -> dict[tuple[Hashable, ...], Any]:
        return {}

    def held(self) -> dict[int, tuple[Hashable, ...]]:
        """By their `id`, what every worker has of its own, and how it is reached there (see `reached`)."""
        found: dict[int, tuple[Hashable, ...]] = {id(self): ("session",)}
        found |= {id(vars(self)[name]): (name,) for name in ("model", "saes") if name in vars(self)}
        for call, value in self._made.items():
            found[id(value)] = ("made", *call)
            if is_dataclass(value):
                parts = {f.name: getattr(value, f.name) for f in fields(value)}
                found |= {id(part): ("part", name, *call) for name, part in parts.items() if is_dataclass(part)}
        return found

    def reached(self, path: tuple[Any, ...]) -> Any:
        """This session's own of what `held` told of another."""
        kind, *about = path
        if kind == "sae":
            return self.saes[about[0]]
        if kind == "made":
            return self.made(*about)
        if kind == "part":
            return getattr(self.made(*about[1:]), about[0])
        return self if kind == "session" else getattr(self, kind)

    def prompts(self, texts: Sequence[str]) -> list[Prompt]:
        return build_prompts(texts, self.labels, template=self.config.prompt.template, shots=self.shots)

    @cached_property
    def answers(self) -> Answers:
        """The labels as they continue this run's prompts."""
        return Answers.after(self.model, self.prompts([""])[0], self.labels)

    # ------------------------------------------------------------------------------- captures

    @cached_property
    def neutral(self) -> list[str]:
        """Texts without an emotion that ship with the package, those of the discover split first."""
        found = load_corpus("vignettes", split="all", labels=[NEUTRAL])
        return [e.text for e in sorted(found, key=lambda e: e.split != "discover")]

    @cached_property
    def prefix(self) -> SharedPrefix | None:
        """What every prompt of this run begins with (chat frame, solved examples), passed once."""
        return shared_prefix(self.model, [e.ids for e in self._encode(["A", "1", "(", "Nobody"])])

    @cached_property
    def _kept(self) -> KeptCaptures:
        return self.shared.captures(self.folder.path)

    @cached_property
    def _ground(self) -> list[object]:
        """All that a capture depends on besides its texts, also in its last bits."""
        model, config = self.model, self.config
        return [
            [model.identity, str(model.dtype), model.device.type, config.device_map, config.quantization, self.frame],
            [config.prompt.template, [[e.text, e.gold] for e in self.shots], self.labels],
            [torch.__version__, torch.get_num_threads()],
        ]

    @cached_property
    def shards(self) -> list[slice]:
        """The rows of the examples in parts of one corpus and role, `GROUP` at most: runs that have a corpus in common
        capture it in the same batches."""
        found, start = list[slice](), 0
        for _, part in groupby(self.examples, lambda one: (one[0].replace("several", "test"), one[1].corpus)):
            end = start + len(list(part))
            found += [slice(k, min(k + GROUP, end)) for k in range(start, end, GROUP)]
            start = end
        return found

    @cached_property
    def _groups(self) -> list[list[str]]:
        """Texts that are captured in common batches, whichever of them is asked for first.

        So a capture is the same to the last bit however a run was interrupted: it depends on a batch's other rows.
        """
        texts = [e.text for _, e in self.examples]
        shards = [texts[rows] for rows in self.shards]
        anchors = ([e.text for e in found] for found in self.anchors.values())
        return [*shards, *anchors, self.neutral, *([e.text for e in rated.examples] for rated in self.rated)]

    @cached_property
    def _place_of(self) -> dict[str, tuple[int, int]]:
        """Group and place in it of every text of the run."""
        places: dict[str, tuple[int, int]] = {}
        for g, texts in enumerate(self._groups):
            for i, text in enumerate(texts):
                places.setdefault(text, (g, i))
        return places

    @cached_property
    def _batch_of(self) -> dict[tuple[int, int], _Batch]:
        """The common batch of every place in a group, of the groups that were asked for."""
        return {}

    @cached_property
    def _length_of(self) -> dict[str, int]:
        return {}

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of the prompts of some texts."""
        unknown = [t for t in dict.fromkeys(texts) if t not in self._length_of]
        self._length_of.update(zip(unknown, [len(e.ids) for e in self._encode(unknown)], strict=True))
        return [self._length_of[t] for t in texts]

    def _sizes(self, texts: Sequence[str]) -> list[int]:
        """Tokens that pass the model for each of some texts: its prompt's and those of the answers behind it."""
        return [length + self.answers.n_continued for length in self._lengths(texts)]

    def _encode(self, texts: Sequence[str]) -> list[Encoded]:
        return self.model.encode(self.prompts(texts), room=int(self.answers.offsets.max()))

    def _place(self, text: str, held: dict[tuple[int, int], KeptBatch]) -> KeptPrompt:
        """Where a text of the run is kept; it is captured, with its batch, if it is not.

        Args:
            held: batches in use, also those that found no room among the kept ones.
        """
        group, i = self._place_of[text]
        if (group, i) not in self._batch_of:
            for b, members in enumerate(batches(self._sizes(self._groups[group]), self.tokens_per_batch)):
                one = _Batch((group, b), members)
                self._batch_of.update({(group, m): one for m in members})
        batch = self._batch_of[group, i]
        found = held.get(batch.key)
        if found is None:
            texts = [self._groups[group][m] for m in batch.members]
            key = fingerprint(["capture", self._ground, texts], whole=True)
            found = self._kept.get(key, self.model.device)
            if found is None:
                found = KeptBatch.of(self._capture(texts), self.prefix)
                self._kept.put(key, found)
        held[batch.key] = found
        return KeptPrompt(found, batch.members.index(i))

    def _capture(self, texts: Sequence[str], everywhere: Collection[int] = ()) -> Captured:
        return capture(
            self.model,
            self.prompts(texts),
            answers=self.labels,
            keep_cache=True,
            everywhere=everywhere,
            tokens_per_batch=2**62,
            prefix=self.prefix,
        )

    def cached(
        self, rows: np.ndarray, description: str, everywhere: Collection[int] = ()
    ) -> Iterator[tuple[np.ndarray, Captured]]:
        """(row numbers, capture with keys and values) of a few examples at a time: memory does not grow with `rows`.

        The texts of a run pass the model once; what the passes left behind is kept for all stages.
        """
        texts = self.texts(rows)
        for chunk, captured in self.cached_texts(texts, description, everywhere):
            yield rows[chunk], captured

    def cached_texts(
        self, texts: Sequence[str], description: str, everywhere: Collection[int] = ()
    ) -> Iterator[tuple[np.ndarray, Captured]]:
        """The same for any texts: (their places in `texts`, capture)."""
        for chunk in self.progress(self.chunks(texts, everywhere), description, "batch"):
            yield np.asarray(chunk), self.captured([texts[i] for i in chunk], everywhere)

    def chunks(self, texts: Sequence[str], everywhere: Collection[int] = ()) -> list[list[int]]:
        """Places of the texts that are computed together, texts of like length."""
        more = SERVED if not everywhere and self.model.device.type == "cpu" and self.config.batch_size == "auto" else 1
        sizes = self._sizes(texts)
        together = min(more * self.tokens_per_batch, max(self.tokens_per_batch, math.ceil(sum(sizes) / CHUNKS)))
        return list(batches(sizes, together))

    def captured(self, texts: Sequence[str], everywhere: Collection[int] = ()) -> Captured:
        """Capture with keys and values: of texts of the run as it was kept, of others anew."""
        if everywhere or any(text not in self._place_of for text in texts):
            return self._capture(texts, everywhere)
        held: dict[tuple[int, int], KeptBatch] = {}
        return together([self._place(text, held) for text in texts], self.answers, self.prefix)

    def collect(
        self,
        asked: np.ndarray | Sequence[str],
        of: Callable[[Captured, list[int]], Mapping[str, torch.Tensor]],
        description: str,
        *,
        units: Units | None = None,
    ) -> dict[str, torch.Tensor]:
        """What is read of many examples or texts, a batch at a time, as whole tensors in the order of `asked`.

        Args:
            asked: row numbers of examples, or texts.
            of: from a capture with keys and values, and the places of its examples in `asked`: tensors by name, whose
                first axis is the example.
            units: where finished batches are kept, in float32.
        """
        texts = self.texts(asked) if isinstance(asked, np.ndarray) else list(asked)
        chunks, out = self.chunks(texts), dict[str, torch.Tensor]()

        def read(k: int) -> Mapping[str, torch.Tensor]:
            found = of(self.captured([texts[i] for i in chunks[k]]), chunks[k])
            return {name: values.cpu() for name, values in found.items()}

        def kept(k: int) -> Mapping[str, np.ndarray]:
            def arrays() -> dict[str, np.ndarray]:
                return {name: values.float().numpy() for name, values in read(k).items()}

            return arrays() if units is None else units.arrays(f"{description} {k:05d}", arrays)

        one: Callable[[int], Mapping[str, Any]] = read if units is None else kept
        found = self.each(one, range(len(chunks)), description, "batch", shares=[len(c) for c in chunks])
        for chunk, parts in zip(chunks, found, strict=True):
            for name, values in parts.items():
                part = torch.as_tensor(values)
                if name not in out:
                    out[name] = torch.empty(len(texts), *part.shape[1:], dtype=part.dtype)
                out[name][chunk] = part
        return out

    def over(
        self,
        texts: Sequence[str],
        of: Callable[[Captured, list[int]], T],
        description: str,
        everywhere: Collection[int] = (),
    ) -> Iterator[tuple[np.ndarray, T]]:
        """Anything that is read of a batch of texts at a time: (their places in `texts`, what was read of them).

        Args:
            of: as for `collect`.
        """
        chunks = self.chunks(texts, everywhere)

        def read(k: int) -> T:
            return of(self.captured([texts[i] for i in chunks[k]], everywhere), chunks[k])

        found = self.each(read, range(len(chunks)), description, "batch", shares=[len(c) for c in chunks])
        yield from zip(map(np.asarray, chunks), found, strict=True)

    def logits_under(
        self,
        asked: np.ndarray | Sequence[str],
        edits: Mapping[Name, Mapping[int, ResidualEdit]],
        description: str,
        *,
        units: Units | None = None,
        read: Read | None = None,
    ) -> dict[Name, np.ndarray]:
        """By name, [row, answer]: answer logits of many examples or texts under each of several edits alone.

        Args:
            asked: row numbers of examples, or texts.
            edits: by name and layer, what replaces residuals at the answer position; without any: the clean logits.
            units: where the finished batches are kept.
            read: other values than the answer logits (see `answers_under_each`).
        """

        def logits(captured: Captured, _: list[int]) -> dict[str, torch.Tensor]:
            found = answers_under_each(self.model, captured, edits, read=read)
            return {str(i): values.float() for i, values in enumerate(found.values())}

        found = self.collect(asked, logits, description, units=units)
        nothing = torch.zeros(0, len(self.labels))
        return {name: found.get(str(i), nothing).double().numpy() for i, name in enumerate(edits)}

    def close(self) -> None:
        """Lets go of kept captures; a scratch folder that they may have needed is removed."""
        self.shared.close()

    @property
    def tokens_per_batch(self) -> int:
        return tokens_in_flight(self.model) if self.config.batch_size == "auto" else self.config.batch_size

    # ---------------------------------------------------------------------------------- files

    @cached_property
    def table(self) -> pd.DataFrame:
        """`examples.parquet`."""
        return pd.read_parquet(self.folder / "examples.parquet")

    def role(self, role: str) -> np.ndarray:
        """Row numbers of the examples with that role."""
        return np.flatnonzero(self.table["role"] == role)

    @cached_property
    def labelled_rows(self) -> np.ndarray:
        """Row numbers of the fit examples whose labels steering learns from (`steering.labels` of each emotion)."""
        rows, most = self.role("fit"), self.config.steering.labels
        if most is None:
            return rows
        order = rows[np.random.default_rng(self.seed("labelled")).permutation(len(rows))]
        gold = self.gold(order)
        return np.sort(np.concatenate([order[gold == label][:most] for label in range(len(self.labels))]))

    def texts(self, rows: np.ndarray) -> list[str]:
        return [self.examples[row][1].text for row in rows]

    def n_tokens(self, texts: Sequence[str]) -> list[int]:
        """Tokens of the prompts of some texts."""
        return self._lengths(texts)

    def word_spans(self, texts: Sequence[str]) -> list[list[WordSpan]]:
        """The words of some texts as tokens of their prompts."""
        model, found = self.model, []
        for prompt, text in zip(self.prompts(texts), texts, strict=True):
            ids = model.encode([prompt], room=int(self.answers.offsets.max()))[0].ids
            found.append(word_spans(model.pieces(prompt, ids), text))
        return found

    def gold(self, rows: np.ndarray) -> np.ndarray:
        """Index of the gold emotion in `labels`."""
        return np.asarray(pd.Index(self.labels).get_indexer(self.table["gold"].iloc[rows]))

    def traced_rows(self) -> np.ndarray:
        """Row numbers of the discover examples that are traced: all, or the correctly answered ones."""
        rows = self.role("discover")
        table = self.table.iloc[rows]
        right = (table["gold"] == table["predicted"]).to_numpy()
        return rows[right] if self.config.tracing.examples == "correct" else rows

    def labelled(self, rows: np.ndarray) -> LabelledExamples:
        """Examples as the analyses see them."""
        groups = self.table["group"].iloc[rows].to_numpy()
        return LabelledExamples(self.labels, self.gold(rows), groups, rows, self.config.resamples, self.config.seed)

    def residuals(self, layer: int) -> torch.Tensor:
        """[example, d_model], as the model's dtype."""
        return load_file(self.folder / f"activations/layer_{layer:02d}.safetensors")["residuals"]

    def residual_batches(self, layer: int) -> Iterator[torch.Tensor]:
        """The same, some rows at a time."""
        with safe_open(self.folder / f"activations/layer_{layer:02d}.safetensors", framework="pt") as file:
            rows = file.get_slice("residuals")
            for start in range(0, rows.get_shape()[0], ROWS_PER_BATCH):
                yield rows[start : start + ROWS_PER_BATCH]

    def features(self, layer: int) -> LayerFeatures:
        return load_features(self.folder / f"features/layer_{layer:02d}.npz")

    @cached_property
    def plain_text(self) -> PlainText:
        """The text on which steering's cost in language is measured; unsteered, it passes the model once a run."""
        return self._plain_text(self.config.fluency.limit)

    @cached_property
    def short_text(self) -> PlainText:
        """Its beginning, for choosing among many steerings."""
        short = self._plain_text(min(SHORT_TEXT, self.config.fluency.limit))
        return self.plain_text if short.n_tokens == self.plain_text.n_tokens else short

    def _plain_text(self, limit: int) -> PlainText:
        documents, layers = self.plain_documents, self.saes.layers
        key = fingerprint([self.model.identity, documents, layers, limit])
        return self.shared.plain_text(key, lambda: PlainText(self.model, documents, layers=layers, limit=limit))

    def units(self, stage: str) -> Units:
        """The finished units of a stage's work."""
        return self.shared.units(self.folder.path, stage)

    @cached_property
    def content(self) -> list[object]:
        """All that measurements on texts of the run depend on, down to the last bit, besides what is measured."""
        texts = fingerprint([self.labelled_texts, [e.group for _, e in self.examples], self.anchor_texts], whole=True)
        plain = fingerprint(self.plain_documents, whole=True)
        saes = [self.saes.identity, asdict(self.config.saes)]
        return [self._ground, saes, texts, plain, self.config.fluency.limit, self.config.batch_size, self.config.seed]

    def seed(self, purpose: str) -> int:
        """A seed of its own for each purpose, from the one in the config."""
        return seed_for(self.config.seed, purpose)
