"""What the stages of a run share: its configuration and folder, and the model, SAEs and corpora, loaded when needed."""

import warnings
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from interp.answers import Answers
from interp.capture import Captured, batches, capture, tokens_in_flight
from interp.config import Config, CorpusConfig
from interp.corpora import Example, load_corpus
from interp.corpus_names import CorpusNames, corpus_names
from interp.emotions import EKMAN
from interp.errors import InterpWarning, UserError
from interp.features import LayerFeatures, load_features
from interp.folder import RunFolder
from interp.loading import load_model
from interp.model import LanguageModel
from interp.prompts import Prompt, build_prompts, choose_shots
from interp.sae_loading import load_saes
from interp.saes import SaeStack

ROWS_PER_BATCH = 1024

T = TypeVar("T")
Progress = Callable[[Sequence[T], str, str], Iterable[T]]
"""(items, description, unit) -> the same items, shown as a bar where somebody looks."""


def silent(items: Sequence[T], description: str, unit: str) -> Iterable[T]:
    return items


@dataclass
class Session:
    """One run. The first access to `model`, `saes` or `examples` loads them."""

    config: Config
    folder: RunFolder
    progress: Progress = silent

    @cached_property
    def model(self) -> LanguageModel:
        config = self.config
        return load_model(
            config.model,
            device=config.device,
            dtype=config.dtype,
            device_map=config.device_map,
            quantization=config.quantization,
            chat=config.prompt.chat,
        )

    @cached_property
    def saes(self) -> SaeStack:
        return load_saes(model=self.model, **asdict(self.config.saes))

    @cached_property
    def labels(self) -> list[str]:
        return self.config.labels

    @cached_property
    def shots(self) -> list[Example]:
        """Solved examples put before every prompt; they are taken out of the fit split."""
        fit = self.load(self.config.corpora.fit, self.corpus_names.fit)
        return choose_shots(fit, self.labels, self.config.prompt.shots, self.config.seed)

    @cached_property
    def corpus_names(self) -> CorpusNames:
        """What the corpora are called in the run's tables; several entries of one name are told apart."""
        return corpus_names(asdict(self.config.corpora))

    @cached_property
    def examples(self) -> list[tuple[str, Example]]:
        """(role, example) of the whole run: discover, fit, then every test corpus."""
        corpora, names = self.config.corpora, self.corpus_names
        used = {s.id for s in self.shots}
        out = [("discover", e) for e in self.load(corpora.discover, names.discover)]
        out += [("fit", e) for e in self.load(corpora.fit, names.fit) if e.id not in used]
        for corpus, name in zip(corpora.test, names.test, strict=True):
            out += [("test", e) for e in self.load(corpus, name)]
        self._check_labels(out)
        return out

    @cached_property
    def anchors(self) -> dict[str, list[Example]]:
        """By corpus, texts whose answers steering should leave alone."""
        entries = zip(self.config.corpora.anchors, self.corpus_names.anchors, strict=True)
        return {f"{name}/{c.split}": self.load(c, name) for c, name in entries}

    def _check_labels(self, examples: Sequence[tuple[str, Example]]) -> None:
        """A label that no corpus has is a mistake; one that only some corpora lack is worth a word."""
        found = {e.gold for _, e in examples}
        unknown = [label for label in self.labels if label not in found]
        # A published label set that a corpus covers in part (ISEAR: five of Ekman's six) is no mistake.
        if unknown and not set(self.labels) <= {*EKMAN, "neutral"}:
            known = ", ".join(sorted(found))
            raise UserError(
                f"labels: no corpus of this run has an example of {unknown[0]!r} (they have: {known});"
                " take it out of the labels, give the corpus a mapping, or raise its limit."
            )
        for role in ("discover", "fit", "test"):
            present = {e.gold for r, e in examples if r == role}
            lacking = [label for label in self.labels if label not in present]
            if lacking:
                text = f"The {role} examples hold no {', '.join(lacking)}: nothing can be said of it there."
                warnings.warn(text, InterpWarning, stacklevel=2)

    def load(self, corpus: CorpusConfig, shown: str | None = None) -> list[Example]:
        """Its examples, under the name that the run's tables show."""
        examples = load_corpus(
            corpus.name,
            split=corpus.split,
            path=corpus.path,
            labels=self.labels,
            limit=corpus.limit,
            seed=self.config.seed,
            text_column=corpus.text_column,
            label_column=corpus.label_column,
            mapping=corpus.mapping,
        )
        if shown in (None, corpus.name):
            return examples
        return [
            replace(e, corpus=shown, id=shown + e.id[len(e.corpus) :], group=shown + e.group[len(e.corpus) :])
            for e in examples
        ]

    def prompts(self, texts: Sequence[str]) -> list[Prompt]:
        return build_prompts(texts, self.labels, template=self.config.prompt.template, shots=self.shots)

    @cached_property
    def answers(self) -> Answers:
        """The labels as they continue this run's prompts."""
        return Answers.after(self.model, self.prompts([""])[0], self.labels)

    def cached(
        self, rows: np.ndarray, description: str, everywhere: Collection[int] = ()
    ) -> Iterator[tuple[np.ndarray, Captured]]:
        """(row numbers, capture with keys and values) of a few examples at a time: memory does not grow with `rows`."""
        texts = [self.examples[r][1].text for r in rows]
        for chunk, captured in self.cached_texts(texts, description, everywhere):
            yield rows[chunk], captured

    def cached_texts(
        self, texts: Sequence[str], description: str, everywhere: Collection[int] = ()
    ) -> Iterator[tuple[np.ndarray, Captured]]:
        """The same for any texts: (their places in `texts`, capture)."""
        prompts = self.prompts(texts)
        lengths = [len(e.ids) for e in self.model.encode(prompts)]
        for chunk in self.progress(list(batches(lengths, self.tokens_per_batch)), description, "batch"):
            few = [prompts[i] for i in chunk]
            found = capture(self.model, few, answers=self.labels, keep_cache=True, everywhere=everywhere)
            yield np.asarray(chunk), found

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

    def gold(self, rows: np.ndarray) -> np.ndarray:
        """Index of the gold emotion in `labels`."""
        number = {label: i for i, label in enumerate(self.labels)}
        return self.table["gold"].iloc[rows].map(number).to_numpy(dtype=int)

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

    def seed(self, purpose: str) -> int:
        """A seed of its own for each purpose, from the one in the config."""
        return (self.config.seed * 1_000_003 + zlib.crc32(purpose.encode())) % 2**32
