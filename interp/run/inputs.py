"""What a run reads, as far as files tell: corpora, plain text, and which model and SAEs. Nothing here needs torch."""

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

from interp.errors import InterpWarning, UserError
from interp.models.chat import has_template
from interp.models.devices import device_type, dtype_name
from interp.models.identity import model_identity
from interp.models.sources import locate
from interp.resources import NO_SAES
from interp.run.config import Config, CorpusConfig
from interp.saes.identity import select_saes
from interp.texts.corpus_names import CorpusNames, corpus_names
from interp.texts.emotions import is_published
from interp.texts.examples import Example, load_corpus
from interp.texts.plain_documents import HELD_BACK, load_plain_text
from interp.texts.prompts import choose_shots, resolve_template
from interp.texts.rated import RatedTexts, load_rated

FEWEST = 2
"""Discover examples without which no stage has anything to compare."""


@dataclass
class Inputs:
    """The inputs of one run; each is read with the first access to it."""

    config: Config

    @property
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
        """(role, example) of the whole run: discover, fit, then every test corpus, whose texts with several emotions
        have the role `several`: what asks for one right answer does not see them."""
        corpora, names = self.config.corpora, self.corpus_names
        used = {s.id for s in self.shots}
        out = [("discover", e) for e in self.load(corpora.discover, names.discover)]
        out += [("fit", e) for e in self.load(corpora.fit, names.fit) if e.id not in used]
        for corpus, name in zip(corpora.test, names.test, strict=True):
            out += [("several" if e.several else "test", e) for e in self.load(corpus, name)]
        self._check_labels(out)
        return out

    @cached_property
    def anchors(self) -> dict[str, list[Example]]:
        """By corpus, texts whose answers steering should leave alone."""
        entries = zip(self.config.corpora.anchors, self.corpus_names.anchors, strict=True)
        return {f"{name}/{c.split}": self.load(c, name) for c, name in entries}

    @cached_property
    def rated(self) -> list[RatedTexts]:
        """By corpus under `corpora.ratings`, texts with ratings."""
        found = []
        for entry, shown in zip(self.config.corpora.ratings, self.corpus_names.ratings, strict=True):
            texts = load_rated(**asdict(entry), labels=self.labels, seed=self.config.seed)
            found.append(texts if shown == entry.name else texts.named(shown))
        return found

    def _check_labels(self, examples: Sequence[tuple[str, Example]]) -> None:
        """A label that no corpus has is a mistake; one that only some corpora lack is worth a word."""
        found = {label for _, e in examples for label in e.several or (e.gold,)}
        unknown = [label for label in self.labels if label not in found]
        # A published label set that a corpus covers in part (ISEAR: five of Ekman's six) is no mistake.
        if unknown and not is_published(self.labels):
            known = ", ".join(sorted(found))
            raise UserError(
                f"labels: no corpus of this run has an example of {unknown[0]!r} (they have: {known});"
                " take it out of the labels, give the corpus a mapping, or raise its limit."
            )
        for role in ("discover", "fit", "test"):
            its = (role, "several") if role == "test" else (role,)
            present = {label for r, e in examples if r in its for label in e.several or (e.gold,)}
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
            several=corpus.several,
            balanced=corpus.balanced,
        )
        if shown in (None, corpus.name):
            return examples
        return [
            replace(e, corpus=shown, id=shown + e.id[len(e.corpus) :], group=shown + e.group[len(e.corpus) :])
            for e in examples
        ]

    @cached_property
    def plain_documents(self) -> list[str]:
        """Documents on which a cost in language is measured; of the bundled text, those that no gate has seen."""
        path = self.config.fluency.path
        return load_plain_text(path) if path is not None else load_plain_text(None)[:-HELD_BACK]

    def check(self) -> None:
        """Refuses what the user named wrongly, before anything else is read.

        Raises:
            UserError: an unknown template, no plain text, a corpus that cannot be read, or too few examples.
        """
        resolve_template(self.config.prompt.template)
        _ = self.plain_documents, self.rated
        if all(role != "test" for role, _ in self.examples):
            raise UserError(
                "corpora.test holds only texts with several emotions, and some scores need texts with one; raise its"
                " limit, or name another corpus besides."
            )
        few = sum(role == "discover" for role, _ in self.examples)
        if few < FEWEST:
            raise UserError(
                f"corpora.discover holds {few} texts of the run's labels, and nothing can be found on fewer than"
                f" {FEWEST}; raise its limit, or give another corpus or mapping."
            )

    @property
    def has_saes(self) -> bool:
        """Whether there are autoencoders to look into."""
        return self.config.saes.name != NO_SAES

    # ------------------------------------------------------------------------------- sources of stages

    @cached_property
    def model_identity(self) -> str:
        return model_identity(self.config.model)

    @cached_property
    def sae_identity(self) -> str:
        """Of the SAEs that are there for the layers asked for.

        Raises:
            UserError: as `select_saes`, or all of them lie below the layer from which steering may begin.
        """
        saes, first = self.config.saes, self.config.steering.first_layer
        selection = select_saes(saes.name, layers=saes.layers, width=saes.width, l0=saes.l0)
        if first is not None and selection.saes and first > max(selection.saes):
            raise UserError(
                f"steering.first_layer {first} leaves no feature to steer: the highest layer with an SAE is"
                f" {max(selection.saes)}."
            )
        return selection.identity

    @cached_property
    def device(self) -> str:
        """Its type: `cpu`, `cuda` or `mps`."""
        return device_type(self.config.device)

    @property
    def dtype(self) -> str:
        return f"torch.{dtype_name(self.config.dtype, self.device)}"

    @cached_property
    def frame(self) -> str | bool:
        """The words of the chat template around a prompt; False where there are none."""
        chat = self.config.prompt.chat
        if chat is False or (chat == "auto" and not has_template(locate(self.config.model))):
            return False
        from interp.models.loading import chat_frame  # a template is a program: transformers runs it

        return chat_frame(self.config.model, chat) or False

    @property
    def labelled_texts(self) -> list[list[str]]:
        return [[role, e.id, e.text, e.gold] for role, e in self.examples]

    @property
    def anchor_texts(self) -> list[list[object]]:
        return [[name, [e.text for e in examples]] for name, examples in self.anchors.items()]

    @property
    def rated_texts(self) -> list[list[object]]:
        facts = ("id", "text", "gold", "group")
        return [
            [r.name, r.scales, [e.id for e in r.examples]]
            + [[*(getattr(e, fact) for fact in facts), *e.ratings.values()] for e in r.whole]
            for r in self.rated
        ]
